"""Translate the names of OpenAI's Whisper weights to those of :class:`~streamasr.acoustic.whisper.WhisperEncoder`.

Source: github.com/openai/whisper, ``whisper/model.py`` (``AudioEncoder``).
"""

from __future__ import annotations

import torch
from torch import Tensor

from streamasr.errors import ModelError

_BLOCK_NAMES = {
    "attn_ln": "attention_norm",
    "attn.out": "out",
    "mlp_ln": "mlp_norm",
    "mlp.0": "mlp_in",
    "mlp.2": "mlp_out",
}


def is_openai_layout(weights: dict[str, Tensor]) -> bool:
    """Whether the weights have the names of OpenAI's release."""
    return any(name.startswith("encoder.blocks.") for name in weights)


def from_openai(weights: dict[str, Tensor], layers: int) -> dict[str, Tensor]:
    """Return the encoder's weights, without position table and decoder, under this project's names.

    Raises:
        ModelError: weights of one of the ``layers`` layers are missing.
    """
    try:
        return _translate(weights, layers)
    except KeyError as missing:
        raise ModelError(f"these Whisper weights do not have {missing.args[0]}") from None


def _translate(weights: dict[str, Tensor], layers: int) -> dict[str, Tensor]:
    ours = {
        f"{name}.{kind}": weights[f"encoder.{name}.{kind}"]
        for name in ("conv1", "conv2")
        for kind in ("weight", "bias")
    }
    for layer in range(layers):
        theirs = f"encoder.blocks.{layer}"
        for old, new in _BLOCK_NAMES.items():
            for kind in ("weight", "bias"):
                ours[f"blocks.{layer}.{new}.{kind}"] = weights[f"{theirs}.{old}.{kind}"]
        query, key, value = (f"{theirs}.attn.{part}" for part in ("query", "key", "value"))
        ours[f"blocks.{layer}.qkv.weight"] = torch.cat(
            [weights[f"{part}.weight"] for part in (query, key, value)]
        )
        no_key_bias = torch.zeros_like(weights[f"{query}.bias"])
        ours[f"blocks.{layer}.qkv.bias"] = torch.cat(
            [weights[f"{query}.bias"], no_key_bias, weights[f"{value}.bias"]]
        )
    for kind in ("weight", "bias"):
        ours[f"final_norm.{kind}"] = weights[f"encoder.ln_post.{kind}"]
    return ours
