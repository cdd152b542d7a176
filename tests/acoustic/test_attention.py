"""Compare attention with PyTorch's fused one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from streamasr.acoustic.attention import attention
from streamasr.acoustic.rolling import streaming_mask


def any_mask(queries: int, keys: int) -> Tensor:
    return (torch.rand(2, 1, queries, keys) > 0.5) | torch.eye(queries, keys, dtype=torch.bool)


def mask_of_streams(queries: int, keys: int) -> Tensor:
    assert queries == keys
    return streaming_mask(torch.tensor([keys, keys - 90]), keys, torch.tensor([8, 16]), left_context=50)


@pytest.mark.parametrize(
    ("mask", "queries", "keys"), [(any_mask, 5, 7), (any_mask, 140, 150), (mask_of_streams, 400, 400)]
)
def test_values_and_gradients_are_those_of_the_fused_attention(
    mask: Callable[[int, int], Tensor], queries: int, keys: int
) -> None:
    torch.manual_seed(1)
    visible = mask(queries, keys)
    parts = q, k, v = [torch.randn(2, 3, frames, 4).requires_grad_() for frames in (queries, keys, keys)]
    fused = fused_q, fused_k, fused_v = [part.detach().clone().requires_grad_() for part in parts]
    ours = attention(q, k, v, visible)
    theirs = F.scaled_dot_product_attention(fused_q, fused_k, fused_v, attn_mask=visible)
    torch.testing.assert_close(ours, theirs)
    weight = torch.randn_like(ours)
    (ours * weight).sum().backward()
    (theirs * weight).sum().backward()
    for part, expected in zip(parts, fused, strict=True):
        torch.testing.assert_close(part.grad, expected.grad)
