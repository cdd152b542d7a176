"""Encoder weights to start from: OpenAI's Whisper parameters, or those of a model folder of our own.

A folder's head is carried over token by token, so that a model may go on with other tokens, or in another order;
and as it was trained, without the temperature that it was exported at.
"""

from __future__ import annotations

from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from streamasr.acoustic import AnyEncoder
from streamasr.decoding.loading import TOKENS_FILE
from streamasr.decoding.tokens import TokenList
from streamasr.errors import ModelError
from streamasr.training.temperature import multiply_head, read_temperature

_BLOCK_NAMES = {
    "attn_ln": "attention_norm",
    "attn.out": "out",
    "mlp_ln": "mlp_norm",
    "mlp.0": "mlp_in",
    "mlp.2": "mlp_out",
}


def load_pretrained(encoder: AnyEncoder, path: Path, tokens: TokenList | None = None) -> list[str]:
    """Copy the weights of ``path`` into ``encoder``; returns the names that the file did not hold (the CTC head).

    Args:
        encoder: takes the weights.
        path: a safetensors file. A head that was exported at a temperature is multiplied by it again.
        tokens: what the encoder's outputs stand for. With a ``tokens.txt`` beside ``path`` the head's rows go to the
            tokens of the same name, and the others stay as they are.

    Raises:
        ModelError: the file is missing or damaged, or its sizes are another model's.
    """
    if not path.exists():
        raise ModelError(f"{path}: no such file of pretrained weights")
    try:
        stored, temperature = safetensors.torch.load_file(path), read_temperature(path)
    except safetensors.SafetensorError as error:
        raise ModelError(f"{path}: not a readable safetensors file: {error}") from None
    weights = multiply_head({name: tensor.float() for name, tensor in stored.items()}, temperature)
    if any(name.startswith("encoder.blocks.") for name in weights):
        weights = _from_openai(weights, encoder.config.layers)
    elif tokens is not None and (path.parent / TOKENS_FILE).is_file():
        _carry_over(weights, encoder, TokenList.load(path.parent / TOKENS_FILE), tokens)
    try:
        fit = encoder.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        raise ModelError(f"{path}: not of this encoder's sizes: {error}") from None
    if fit.unexpected_keys:
        raise ModelError(
            f"{path}: holds weights this encoder has no place for: {', '.join(fit.unexpected_keys[:5])}"
        )
    return list(fit.missing_keys)


def _carry_over(weights: dict[str, Tensor], encoder: AnyEncoder, old: TokenList, new: TokenList) -> None:
    """Put the head's rows of the tokens that both lists have where ``new`` has them."""
    places = {token: number for number, token in enumerate(old.tokens)}
    kept = [(number, places[token]) for number, token in enumerate(new.tokens) if token in places]
    to, source = ([pair[side] for pair in kept] for side in (0, 1))
    for name in ("head.weight", "head.bias"):
        if name in weights and len(weights[name]) == len(old):
            rows = encoder.state_dict()[name].cpu().clone()
            rows[to] = weights[name][source]
            weights[name] = rows


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
