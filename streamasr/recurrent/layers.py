"""The recurrent layer in PyTorch, for training.

:func:`streamasr.recurrent.arithmetic.recurrent_step` computes the same for one step in NumPy. Shape suffixes: B rows,
T tokens, H size of the layer.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class _Scan(torch.autograd.Function):
    """Compute ``c[t] = f[t] * c[t - 1] + v[t]`` along dim 1 of [B, T, H]."""

    @staticmethod
    def forward(ctx: Any, f: Tensor, v: Tensor, carry: Tensor) -> Tensor:
        c = torch.empty_like(v)
        last = carry
        for t in range(v.shape[1]):
            last = torch.addcmul(v[:, t], f[:, t], last)
            c[:, t] = last
        ctx.save_for_backward(f, c, carry)
        return c

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        f, c, carry = ctx.saved_tensors
        grad = grads[0].clone()
        for t in range(grad.shape[1] - 2, -1, -1):
            grad[:, t].addcmul_(f[:, t + 1], grad[:, t + 1])
        before = torch.cat((carry[:, None], c[:, :-1]), dim=1)
        return grad * before, grad, None


class SimpleRecurrentLayer(nn.Module):
    """A residual layer with elementwise recurrence (Lei et al. 2018, "Simple Recurrent Units")."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden)
        self.gates = nn.Linear(hidden, 3 * hidden)
        with torch.no_grad():
            self.gates.bias[hidden : 2 * hidden] = torch.linspace(-1.0, 3.0, hidden)

    def forward(self, x_BTH: Tensor, carry_BH: Tensor) -> tuple[Tensor, Tensor]:
        """Return the output [B, T, H] and the new carry [B, H]."""
        z, f, o = self.gates(self.norm(x_BTH)).float().chunk(3, dim=-1)
        f = torch.sigmoid(f)
        c: Tensor = _Scan.apply(f, (1 - f) * z, carry_BH)  # type: ignore[no-untyped-call]
        return x_BTH + torch.sigmoid(o) * torch.tanh(c), c[:, -1]
