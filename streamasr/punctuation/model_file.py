"""Write and read ``punctuation.safetensors``: the large matrices in 8 bits, the other weights in float16."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import NamedTuple

from streamasr.errors import ConfigError, ModelError
from streamasr.punctuation.base import MARKS
from streamasr.punctuation.labels import Casing
from streamasr.punctuation.sizes import PAUSE_STEPS_MS, NetworkConfig
from streamasr.recurrent.arithmetic import RecurrentWeights
from streamasr.recurrent.weights_file import Weights, check_shapes, load_weights, save_weights
from streamasr.toml import from_mapping

PUNCTUATION_FILE = "punctuation.safetensors"
FORMAT = "streamasr punctuation 2"
"""Identifies the layout of the file, in its metadata as ``format``."""

_SMALL = 10_000
"""Matrices of so many weights keep 16 bits: those of the outputs and of the pauses."""


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
    """Write a model, whole or not at all. Its matrices are rounded to 8 bits, but for small ones.

    Raises:
        ConfigError: the file cannot be written.
    """
    metadata = {
        "format": FORMAT,
        "language": model.language,
        "config": json.dumps(dataclasses.asdict(model.config)),
        "mixed": json.dumps(model.mixed, ensure_ascii=False),
        "vocabulary": " ".join(model.vocabulary),
    }
    large = [name for name, value in model.weights.items() if value.ndim == 2 and value.size > _SMALL]
    save_weights(path, model.weights, metadata, int8=large)


def load_stored_model(path: Path) -> StoredModel:
    """Read a model.

    Raises:
        ModelError: the file is missing, damaged, or of another kind; the message names it.
    """
    if not path.is_file():
        raise ModelError(f"{path}: missing; `streamasr punctuation train` writes one")
    metadata, weights = load_weights(path, kind="punctuation model", formats=(FORMAT,))
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
    check_shapes(path, weights, _shapes(config))
    return StoredModel(config, language, mixed, vocabulary, weights)


def _shapes(config: NetworkConfig) -> dict[str, tuple[int, ...]]:
    hidden, dim = config.hidden, config.dim
    shapes: dict[str, tuple[int, ...]] = {
        "table": (config.rows, dim),
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
    return shapes | RecurrentWeights.shapes(config.layers, hidden)
