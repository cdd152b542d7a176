"""Compare attention with PyTorch's fused one."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from streamasr.acoustic.attention import attention


def test_values_and_gradients_are_those_of_the_fused_attention() -> None:
    torch.manual_seed(1)
    visible = (torch.rand(2, 1, 5, 7) > 0.5) | torch.eye(5, 7, dtype=torch.bool)
    parts = q, k, v = [torch.randn(2, 3, frames, 4).requires_grad_() for frames in (5, 7, 7)]
    fused = fused_q, fused_k, fused_v = [part.detach().clone().requires_grad_() for part in parts]
    ours = attention(q, k, v, visible)
    theirs = F.scaled_dot_product_attention(fused_q, fused_k, fused_v, attn_mask=visible)
    torch.testing.assert_close(ours, theirs)
    weight = torch.randn_like(ours)
    (ours * weight).sum().backward()
    (theirs * weight).sum().backward()
    for part, expected in zip(parts, fused, strict=True):
        torch.testing.assert_close(part.grad, expected.grad)
