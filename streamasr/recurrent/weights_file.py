"""Write and read the weights of a network as safetensors: some matrices in 8 bits, the rest in float16.

Each row of a matrix in 8 bits has a float16 scale of its own, in the tensor ``<name>.scale`` [rows, 1].
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from streamasr.errors import ConfigError, ModelError

Weights = dict[str, NDArray[np.float32]]

_SCALE = ".scale"
_INT8_MAX = 127
_SMALLEST_SCALE = 1e-4


def save_weights(
    path: Path,
    weights: Mapping[str, NDArray[np.float32]],
    metadata: Mapping[str, str],
    *,
    int8: Collection[str],
) -> None:
    """Write a file, whole or not at all.

    Args:
        path: the file; its folder is made.
        weights: by name.
        metadata: kept in the file.
        int8: names of the matrices to round to 8 bits.

    Raises:
        ConfigError: the file cannot be written.
    """
    tensors: dict[str, NDArray[Any]] = {}
    for name, value in weights.items():
        if name in int8:
            scale = np.abs(value).max(axis=1, keepdims=True) / _INT8_MAX
            scale = scale.clip(min=_SMALLEST_SCALE).astype(np.float16)
            rounded = np.round(value / scale.astype(np.float32))
            tensors[name] = rounded.clip(-_INT8_MAX, _INT8_MAX).astype(np.int8)
            tensors[name + _SCALE] = scale
        else:
            tensors[name] = value.astype(np.float16)
    make_folder(path.parent)
    unfinished = path.with_name(f".{path.name}.tmp")
    try:
        save_file(tensors, unfinished, dict(metadata))
        os.replace(unfinished, path)
    except (OSError, SafetensorError) as error:
        unfinished.unlink(missing_ok=True)
        raise ConfigError(f"{path}: cannot be written: {error}") from None


def make_folder(folder: Path) -> None:
    """Make the folder of a file, so that a run learns before its work whether it can be written.

    Raises:
        ConfigError: the folder cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be written: {error}") from None
    if not os.access(folder, os.W_OK):
        raise ConfigError(f"{folder}: cannot be written: no permission")


def load_weights(path: Path, *, kind: str, formats: Collection[str]) -> tuple[dict[str, str], Weights]:
    """Read the metadata and the weights, in float32, of a file.

    Args:
        path: the file.
        kind: what it should be, for messages.
        formats: the values of ``format`` in its metadata that the caller can read.

    Raises:
        ModelError: it is missing, not a safetensors file or of another format, or a weight is not a finite number.
    """
    if not path.is_file():
        raise ModelError(f"{path}: no such file")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path}: not a safetensors file: {error}") from None
    if metadata.get("format") not in formats:
        expected = " or ".join(map(repr, formats))
        raise ModelError(
            f"{path}: not a {kind}: its metadata has the format {metadata.get('format')!r}, expected {expected}"
        )
    weights = {name: value.astype(np.float32) for name, value in tensors.items() if not name.endswith(_SCALE)}
    for name, value in tensors.items():
        if name.endswith(_SCALE):
            _apply_scale(path, weights, name.removesuffix(_SCALE), value.astype(np.float32))
    if not all(np.isfinite(value).all() for value in weights.values()):
        raise ModelError(f"{path}: a weight is not a finite number")
    return metadata, weights


def _apply_scale(path: Path, weights: Weights, name: str, scale: NDArray[np.float32]) -> None:
    matrix = weights.get(name)
    if matrix is None or matrix.ndim != 2 or scale.shape != (len(matrix), 1):
        raise ModelError(f"{path}: the tensor {name}{_SCALE} does not fit the tensor {name}")
    weights[name] = matrix * scale


def check_shapes(
    path: Path, weights: Mapping[str, NDArray[Any]], shapes: Mapping[str, tuple[int, ...]]
) -> None:
    """Refuse weights that are missing, or have other shapes than their configuration says.

    Raises:
        ModelError: the message names the tensor.
    """
    for name, shape in shapes.items():
        found = weights[name].shape if name in weights else None
        if found != shape:
            raise ModelError(f"{path}: the tensor {name} must have the shape {shape}, got {found}")
