"""Compute scaled dot-product attention with the implementation that is fastest on the device.

Shape suffixes: B batch, H heads, T queries, S keys, K head width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_QUERIES_TOGETHER = 128
"""Queries whose scores are computed at once in training on a CPU, with the keys that one of them sees."""


def attention(q_BHTK: Tensor, k_BHSK: Tensor, v_BHSK: Tensor, visible: Tensor | None) -> Tensor:
    """Return the context of each query, [B, H, T, K] (Vaswani et al. 2017, equation 1).

    PyTorch's fused attention saves memory, but on a CPU its backward pass takes twice as long as separate operations.

    Args:
        q_BHTK: queries.
        k_BHSK: keys.
        v_BHSK: values.
        visible: broadcasts to [B, H, T, S], true where a query sees a key; every query sees one. None for all.
    """
    if visible is None or q_BHTK.device.type != "cpu" or not torch.is_grad_enabled():
        return F.scaled_dot_product_attention(q_BHTK, k_BHSK, v_BHSK, attn_mask=visible)
    if torch.compiler.is_compiling():
        # Which keys a block of queries sees depends on the mask's values; that would break the compiled graph.
        return _separate_operations(q_BHTK, k_BHSK, v_BHSK, visible)
    T = q_BHTK.shape[2]
    visible = visible.expand(*visible.shape[:2], T, k_BHSK.shape[2])
    contexts = []
    for first in range(0, T, _QUERIES_TOGETHER):
        queries = slice(first, first + _QUERIES_TOGETHER)
        seen = visible[:, :, queries].flatten(0, 2).any(dim=0).nonzero()
        keys = slice(int(seen[0]), int(seen[-1]) + 1)
        contexts.append(
            _separate_operations(
                q_BHTK[:, :, queries], k_BHSK[:, :, keys], v_BHSK[:, :, keys], visible[:, :, queries, keys]
            )
        )
    return torch.cat(contexts, dim=2)


def _separate_operations(q_BHTK: Tensor, k_BHSK: Tensor, v_BHSK: Tensor, visible: Tensor) -> Tensor:
    B, H, T, K = q_BHTK.shape
    S = k_BHSK.shape[2]
    bias = torch.zeros(visible.shape, dtype=q_BHTK.dtype).masked_fill_(~visible, float("-inf"))
    scores = torch.baddbmm(
        bias.expand(B, H, T, S).reshape(B * H, T, S),
        q_BHTK.reshape(B * H, T, K),
        k_BHSK.reshape(B * H, S, K).mT,
        alpha=K**-0.5,
    )
    return torch.bmm(scores.softmax(dim=-1), v_BHSK.reshape(B * H, S, K)).view(B, H, T, K)
