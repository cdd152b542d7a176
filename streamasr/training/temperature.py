"""Export a model's CTC head divided by a temperature (Guo et al. 2017), and undo that when training continues.

The temperature is stored in the metadata of the weights' file. Training that starts from the file multiplies the head
by it and so gets the head as it was trained.
"""

from __future__ import annotations

import copy
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from streamasr.acoustic import AnyEncoder, save_encoder
from streamasr.errors import ModelError

METADATA_KEY = "temperature"
"""Key in a safetensors file's metadata; the value is a decimal number as text. Without it, the temperature is 1."""
_HEAD = ("head.weight", "head.bias")


def save_with_temperature(encoder: AnyEncoder, path: Path, temperature: float) -> None:
    """Save the encoder's weights with the head divided by ``temperature``, which is stored unless it is 1."""
    exported = copy.deepcopy(encoder)
    exported.load_state_dict(multiply_head(encoder.state_dict(), 1.0 / temperature))
    save_encoder(exported, path)
    if temperature != 1.0:
        write_temperature(path, temperature)


def write_temperature(path: Path, temperature: float) -> None:
    """Store in a safetensors file that its head was divided by ``temperature``; the weights are not changed.

    This moves the tensors within the file, so ONNX graphs that refer to it must be exported again.
    """
    with safetensors.safe_open(path, "pt") as file:
        metadata = {**(file.metadata() or {}), METADATA_KEY: str(temperature)}
    weights = safetensors.torch.load(path.read_bytes())
    path.write_bytes(safetensors.torch.save(weights, metadata))


def read_temperature(path: Path) -> float:
    """Return the temperature stored in a safetensors file; 1 if there is none.

    Raises:
        ModelError: the stored value is not a positive, finite number.
    """
    with safetensors.safe_open(path, "pt") as file:
        stored = (file.metadata() or {}).get(METADATA_KEY, "1")
    try:
        temperature = float(stored)
    except ValueError:
        temperature = 0.0
    if not 0.0 < temperature < float("inf"):
        raise ModelError(f"{path}: {METADATA_KEY} in its metadata must be a number above 0, got {stored!r}")
    return temperature


def multiply_head(weights: dict[str, Tensor], temperature: float) -> dict[str, Tensor]:
    """Return the weights with those of the CTC head, if there is one, multiplied by ``temperature``."""
    with torch.no_grad():
        return {name: x * temperature if name in _HEAD else x for name, x in weights.items()}
