"""Compute scaled dot-product attention with the implementation that is fastest on the device.

Shape suffixes: B batch, H heads, T queries, S keys, K head width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


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
