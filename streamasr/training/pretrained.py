"""Encoder weights to start from: OpenAI's Whisper parameters, or those of a model folder of our own."""

from __future__ import annotations

from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from streamasr.acoustic.whisper import WhisperEncoder
from streamasr.errors import ModelError

_BLOCK_NAMES = {
    "attn_ln": "attention_norm",
    "attn.out": "out",
    "mlp_ln": "mlp_norm",
    "mlp.0": "mlp_in",
    "mlp.2": "mlp_out",
}


def load_pretrained(encoder: WhisperEncoder, path: Path) -> list[str]:
    """Copy the weights of ``path`` into ``encoder``; returns the names that the file did not hold (the CTC head).

    Raises:
        ModelError: the file is missing or its sizes are another model's.
    """
    if not path.exists():
        raise ModelError(f"{path}: no such file of pretrained weights")
    weights = {name: tensor.float() for name, tensor in safetensors.torch.load_file(path).items()}
    if any(name.startswith("encoder.blocks.") for name in weights):
        weights = _from_openai(weights, encoder.config.layers)
    try:
        fit = encoder.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        raise ModelError(f"{path}: not of this encoder's sizes: {error}") from None
    if fit.unexpected_keys:
        raise ModelError(
            f"{path}: holds weights this encoder has no place for: {', '.join(fit.unexpected_keys[:5])}"
        )
    return list(fit.missing_keys)


def _from_openai(weights: dict[str, Tensor], layers: int) -> dict[str, Tensor]:
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
