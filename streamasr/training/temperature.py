"""Softened log-probs (Guo et al. 2017): a model folder's head is exported divided by a temperature.

The weights' file notes the temperature in its metadata, so that a training that goes on from it begins with the head
as it was trained.
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
"""In a safetensors file's metadata; its value is a decimal number, as text. A file without it has temperature 1."""
_HEAD = ("head.weight", "head.bias")


def save_with_temperature(encoder: AnyEncoder, path: Path, temperature: float) -> None:
    """Write the encoder's weights with the head divided by ``temperature``, which is noted unless it is 1."""
    softened = copy.deepcopy(encoder)
    softened.load_state_dict(multiply_head(encoder.state_dict(), 1.0 / temperature))
    save_encoder(softened, path)
    if temperature != 1.0:
        write_temperature(path, temperature)


def write_temperature(path: Path, temperature: float) -> None:
    """Write into a safetensors file that its head was divided by ``temperature``; the weights stay as they are.

    Every tensor then lies some bytes further on: a graph that was exported from the file must be exported anew.
    """
    with safetensors.safe_open(path, "pt") as file:
        metadata = {**(file.metadata() or {}), METADATA_KEY: str(temperature)}
    weights = safetensors.torch.load(path.read_bytes())
    path.write_bytes(safetensors.torch.save(weights, metadata))


def read_temperature(path: Path) -> float:
    """What the head in a safetensors file was divided by; 1 where nothing is noted.

    Raises:
        ModelError: something is noted that is no temperature.
    """
    with safetensors.safe_open(path, "pt") as file:
        noted = (file.metadata() or {}).get(METADATA_KEY, "1")
    try:
        temperature = float(noted)
    except ValueError:
        temperature = 0.0
    if not 0.0 < temperature < float("inf"):
        raise ModelError(f"{path}: {METADATA_KEY} in its metadata must be a number above 0, got {noted!r}")
    return temperature


def multiply_head(weights: dict[str, Tensor], temperature: float) -> dict[str, Tensor]:
    """The weights with the head, where they have one, multiplied by ``temperature``."""
    with torch.no_grad():
        return {name: x * temperature if name in _HEAD else x for name, x in weights.items()}
