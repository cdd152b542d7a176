"""Make weights as OpenAI releases them."""

from __future__ import annotations

import torch
from torch import Tensor


def whisper_weights(dim: int, layers: int) -> dict[str, Tensor]:
    """Random weights under OpenAI's names."""
    shapes = {"conv1": (dim, 80, 3), "conv2": (dim, dim, 3), "ln_post": (dim,)}
    for layer in range(layers):
        parts = {"attn_ln": (dim,), "mlp_ln": (dim,), "mlp.0": (4 * dim, dim), "mlp.2": (dim, 4 * dim)}
        parts |= {f"attn.{name}": (dim, dim) for name in ("query", "key", "value", "out")}
        shapes |= {f"blocks.{layer}.{name}": shape for name, shape in parts.items()}
    weights = {}
    for name, shape in shapes.items():
        weights[f"encoder.{name}.weight"] = torch.randn(shape) * 0.2
        if not name.endswith("attn.key"):
            weights[f"encoder.{name}.bias"] = torch.randn(shape[0]) * 0.2
    return weights
