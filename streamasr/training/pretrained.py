"""Load encoder weights to start from: those of a model folder, or of the family's original release.

The head of a model folder is copied token by token, so training can continue with other tokens or another order. A
temperature at which the head was exported is undone.
"""

from __future__ import annotations

from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor

from streamasr.acoustic import AnyEncoder
from streamasr.decoding.loading import TOKENS_FILE
from streamasr.decoding.tokens import TokenList
from streamasr.errors import ModelError
from streamasr.training.temperature import multiply_head, read_temperature


def load_pretrained(encoder: AnyEncoder, path: Path, tokens: TokenList | None = None) -> list[str]:
    """Copy the weights in ``path`` into ``encoder``.

    Args:
        encoder: the encoder to initialise.
        path: a safetensors file. A head that was exported at a temperature is multiplied by it.
        tokens: the tokens of the encoder's outputs. If there is a ``tokens.txt`` beside ``path``, each row of the
            head is copied to the output of the same token, and the other outputs are not changed.

    Returns:
        The names of the encoder's parameters that are not in the file, such as those of the CTC head.

    Raises:
        ModelError: the file is missing or damaged, or does not fit the encoder.
    """
    if not path.exists():
        raise ModelError(f"{path}: no such file of pretrained weights")
    try:
        stored, temperature = safetensors.torch.load_file(path), read_temperature(path)
    except safetensors.SafetensorError as error:
        raise ModelError(f"{path}: not a readable safetensors file: {error}") from None
    weights = multiply_head({name: tensor.float() for name, tensor in stored.items()}, temperature)
    try:
        weights = encoder.translate_weights(weights)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from None
    if tokens is not None and (path.parent / TOKENS_FILE).is_file():
        _remap_head(weights, encoder, TokenList.load(path.parent / TOKENS_FILE), tokens)
    try:
        fit = encoder.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        raise ModelError(f"{path}: its sizes do not fit this encoder: {error}") from None
    if fit.unexpected_keys:
        raise ModelError(
            f"{path}: has weights that this encoder does not have: {', '.join(fit.unexpected_keys[:5])}"
        )
    return list(fit.missing_keys)


def _remap_head(weights: dict[str, Tensor], encoder: AnyEncoder, old: TokenList, new: TokenList) -> None:
    """Move the head's rows of the tokens in both lists to their positions in ``new``."""
    old_ids = {token: number for number, token in enumerate(old.tokens)}
    kept = [(number, old_ids[token]) for number, token in enumerate(new.tokens) if token in old_ids]
    to, source = ([pair[side] for pair in kept] for side in (0, 1))
    for name in ("head.weight", "head.bias"):
        if name in weights and len(weights[name]) == len(old):
            rows = encoder.state_dict()[name].cpu().clone()
            rows[to] = weights[name][source]
            weights[name] = rows
