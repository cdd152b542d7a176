"""Write and read ``punctuation.safetensors``: the embedding table in 8 bits, the other weights in float16."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from streamasr.errors import ConfigError, ModelError
from streamasr.punctuation.base import MARKS
from streamasr.punctuation.labels import Casing
from streamasr.punctuation.sizes import PAUSE_STEPS_MS, NetworkConfig
from streamasr.toml import from_mapping

PUNCTUATION_FILE = "punctuation.safetensors"
FORMAT = "streamasr punctuation 2"
"""Identifies the layout of the file, in its metadata as ``format``."""
_SCALE = "table.scale"
_INT8_MAX = 127

Weights = dict[str, NDArray[np.float32]]


class StoredModel(NamedTuple):
    """The content of a file."""

    config: NetworkConfig
    language: str
    mixed: dict[str, str]
    """Words with capitals inside, as *mcdonald* to *McDonald*."""
    vocabulary: list[str]
    """The words that have a row of their own, in the order of the rows."""
    weights: Weights
    """By the parameter names of :class:`streamasr.punctuation.network.PunctuationNetwork`, in float32."""


def save_model(path: Path, model: StoredModel) -> None:
    """Write a model, whole or not at all.

    Each row of the table is rounded to 8 bits with a float16 scale of its own.

    Raises:
        ConfigError: the file cannot be written.
    """
    table = model.weights["table"]
    scale = (np.abs(table).max(axis=1, keepdims=True) / _INT8_MAX).clip(min=1e-4).astype(np.float16)
    tensors: dict[str, NDArray[Any]] = {
        name: value.astype(np.float16) for name, value in model.weights.items() if name != "table"
    }
    tensors["table"] = np.round(table / scale.astype(np.float32)).clip(-_INT8_MAX, _INT8_MAX).astype(np.int8)
    tensors[_SCALE] = scale
    metadata = {
        "format": FORMAT,
        "language": model.language,
        "config": json.dumps(dataclasses.asdict(model.config)),
        "mixed": json.dumps(model.mixed, ensure_ascii=False),
        "vocabulary": " ".join(model.vocabulary),
    }
    unfinished = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, unfinished, metadata)
        os.replace(unfinished, path)
    except (OSError, SafetensorError) as error:
        unfinished.unlink(missing_ok=True)
        raise ConfigError(f"{path}: cannot be written: {error}") from None


def load_stored_model(path: Path) -> StoredModel:
    """Read a model.

    Raises:
        ModelError: the file is missing, damaged, or of another kind; the message names it.
    """
    if not path.is_file():
        raise ModelError(f"{path}: missing; `streamasr punctuation train` writes one")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path}: not a safetensors file: {error}") from None
    if metadata.get("format") != FORMAT:
        raise ModelError(
            f"{path}: not a punctuation model: its metadata has the format {metadata.get('format')!r}, "
            f"expected {FORMAT!r}"
        )
    try:
        config = from_mapping(NetworkConfig, json.loads(metadata["config"]))
        mixed = {str(word): str(written) for word, written in json.loads(metadata["mixed"]).items()}
        vocabulary = metadata["vocabulary"].split()
        language = metadata["language"]
    except (KeyError, ValueError, AttributeError, ConfigError) as error:
        raise ModelError(f"{path}: its metadata is damaged: {error}") from None
    if len(vocabulary) >= config.word_rows:
        raise ModelError(
            f"{path}: it has {len(vocabulary)} words, more than its {config.word_rows} rows hold"
        )
    for name, shape in _shapes(config).items():
        found = tensors[name].shape if name in tensors else None
        if found != shape:
            raise ModelError(f"{path}: the tensor {name} must have the shape {shape}, got {found}")
    weights = {
        name: value.astype(np.float32) for name, value in tensors.items() if name not in ("table", _SCALE)
    }
    weights["table"] = tensors["table"].astype(np.float32) * tensors[_SCALE].astype(np.float32)
    if not all(np.isfinite(value).all() for value in weights.values()):
        raise ModelError(f"{path}: a weight is not a finite number")
    return StoredModel(config, language, mixed, vocabulary, weights)


def _shapes(config: NetworkConfig) -> dict[str, tuple[int, ...]]:
    hidden, dim = config.hidden, config.dim
    shapes: dict[str, tuple[int, ...]] = {
        "table": (config.rows, dim),
        _SCALE: (config.rows, 1),
        "pauses": (len(PAUSE_STEPS_MS), dim),
        "window.weight": (hidden, config.window * dim),
        "window.bias": (hidden,),
        "norm.weight": (hidden,),
        "norm.bias": (hidden,),
        "marks.weight": (len(MARKS), hidden),
        "marks.bias": (len(MARKS),),
        "casings.weight": (len(Casing), hidden + dim),
        "casings.bias": (len(Casing),),
    }
    for layer in range(config.layers):
        shapes |= {
            f"layers.{layer}.norm.weight": (hidden,),
            f"layers.{layer}.norm.bias": (hidden,),
            f"layers.{layer}.gates.weight": (3 * hidden, hidden),
            f"layers.{layer}.gates.bias": (3 * hidden,),
        }
    return shapes
