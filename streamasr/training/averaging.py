"""Average the weights of several models of one kind (Wortsman et al. 2022, "Model soups")."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from streamasr.acoustic import translate_original_names
from streamasr.errors import ConfigError, ModelError
from streamasr.training.temperature import METADATA_KEY, multiply_head, read_temperature

_SHOWN_NAMES = 5
"""Parameter names in an error message."""


@dataclass(frozen=True, slots=True)
class Anchor:
    """Pretrained weights that a mean is moved towards (Wortsman et al. 2022, "Robust fine-tuning", WiSE-FT)."""

    path: Path
    """A safetensors file with parameters of the models, or OpenAI's Whisper weights. It may lack some, such as the
    head; these stay as they are."""
    share: float
    """Its share of the result, from 0 to 1."""


def average_files(
    paths: Sequence[Path],
    out: Path,
    weights: Sequence[float] | None = None,
    *,
    anchor: Anchor | None = None,
) -> None:
    """Write the weighted mean of safetensors files.

    Heads that were exported at different temperatures are averaged as they were trained. The result has the
    temperature and the data types of the first file.

    Args:
        paths: at least one file; all hold the same parameter names and shapes.
        out: the file to write. It is replaced in one step, so it may be one of ``paths``.
        weights: one number per file, scaled to a sum of 1; ``None`` for equal weights. A negative weight
            extrapolates away from a file.
        anchor: pretrained weights to move the mean towards.

    Raises:
        ConfigError: the weights do not fit the files, or do not have a positive, finite sum; or the share of the
            anchor is not one.
        ModelError: a file is missing or damaged, or its parameters differ from the first file's; or the anchor's do
            not fit them.
    """
    weights = _shares([1.0] * len(paths) if weights is None else weights, len(paths))
    states = [_load(path) for path in paths]
    for path, state in zip(paths[1:], states[1:], strict=True):
        _check_same_parameters(paths[0], states[0], path, state)
    temperature = read_temperature(paths[0])
    mean = mean_weights(
        [_as_trained(state, path) for state, path in zip(states, paths, strict=True)], weights
    )
    if anchor is not None:
        mean = _moved_towards(mean, anchor)
    mean = multiply_head(mean, 1.0 / temperature)
    stored = {name: tensor.to(states[0][name].dtype).contiguous() for name, tensor in mean.items()}
    metadata = {"format": "streamasr"}
    if temperature != 1.0:
        metadata[METADATA_KEY] = str(temperature)
    unfinished = out.with_name(f"{out.name}.unfinished")
    try:
        unfinished.write_bytes(safetensors.torch.save(stored, metadata))
        os.replace(unfinished, out)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise ConfigError(f"{out}: cannot be written: {error.strerror}") from None


def mean_weights(
    states: Sequence[Mapping[str, Tensor]], weights: Sequence[float] | None = None
) -> dict[str, Tensor]:
    """The weighted mean of the parameters of models of one kind, name by name.

    Args:
        states: parameters by name, the same names and shapes in each.
        weights: one number per state, with a sum of 1; ``None`` for equal weights.

    Returns:
        The mean, computed in float32, in the data types of the first state.
    """
    weights = [1.0 / len(states)] * len(states) if weights is None else weights
    mean = {}
    for name, first in states[0].items():
        total = torch.zeros_like(first, dtype=torch.float32)
        for state, weight in zip(states, weights, strict=True):
            total += weight * state[name].float()
        mean[name] = total.to(first.dtype)
    return mean


def _moved_towards(mean: Mapping[str, Tensor], anchor: Anchor) -> dict[str, Tensor]:
    if not 0.0 <= anchor.share <= 1.0:
        raise ConfigError(f"the share of pretrained weights must be from 0 to 1, got {anchor.share:g}")
    stored = _load(anchor.path)
    try:
        pretrained = translate_original_names(stored)
    except ModelError as error:
        raise ModelError(f"{anchor.path}: {error.message}") from None
    if not mean.keys() & pretrained.keys():
        raise ModelError(f"{anchor.path}: has none of the parameters of the models")
    pretrained = _as_trained(pretrained, anchor.path)
    shared = sorted(mean.keys() & pretrained.keys())
    for name in shared:
        if pretrained[name].shape != mean[name].shape:
            raise ModelError(
                f"{anchor.path}: {name} has shape {list(pretrained[name].shape)}, "
                f"in the models it has {list(mean[name].shape)}"
            )
    both = [{name: state[name] for name in shared} for state in (mean, pretrained)]
    return {**mean, **mean_weights(both, [1.0 - anchor.share, anchor.share])}


def _as_trained(state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Return the parameters of ``path`` in float32, with the temperature of the head undone."""
    return multiply_head({name: tensor.float() for name, tensor in state.items()}, read_temperature(path))


def _shares(weights: Sequence[float], files: int) -> list[float]:
    if len(weights) != files:
        raise ConfigError(f"expected one weight for each of {files} models, got {len(weights)}")
    total = sum(weights)
    if not (all(map(math.isfinite, weights)) and total > 0):
        raise ConfigError(
            f"weights must be finite numbers with a sum above 0, got {', '.join(f'{w:g}' for w in weights)}"
        )
    return [weight / total for weight in weights]


def _load(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise ModelError(f"{path}: no such file of weights")
    try:
        return safetensors.torch.load_file(path)
    except safetensors.SafetensorError as error:
        raise ModelError(f"{path}: not a readable safetensors file: {error}") from None


def _check_same_parameters(
    first_path: Path, first: Mapping[str, Tensor], path: Path, state: Mapping[str, Tensor]
) -> None:
    """Refuse a model of another kind; the message says in which parameters it differs."""
    if missing := sorted(first.keys() - state.keys()):
        raise ModelError(f"{path}: lacks parameters that {first_path} has: {_few(missing)}")
    if extra := sorted(state.keys() - first.keys()):
        raise ModelError(f"{path}: has parameters that {first_path} lacks: {_few(extra)}")
    for name, tensor in first.items():
        if state[name].shape != tensor.shape:
            raise ModelError(
                f"{path}: {name} has shape {list(state[name].shape)}, in {first_path} it has {list(tensor.shape)}"
            )


def _few(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN_NAMES
    return ", ".join(names[:_SHOWN_NAMES]) + (f" and {more} more" if more > 0 else "")
