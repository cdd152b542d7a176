"""Choose the faster arithmetic, float32 or bfloat16, for the device that trains."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Literal

import torch

from streamasr.training.config import TrainConfig

_FRAMES, _DIM, _INNER = 500, 512, 2048
"""Sizes of the timed matrix product: the feed-forward layer of a small encoder on ten seconds of audio."""
_ROUNDS = 5


def resolve_precision(config: TrainConfig, device: torch.device) -> TrainConfig:
    """Replace ``precision = "auto"`` by ``bfloat16`` if the device is faster with it, else by ``float32``.

    CPUs without bfloat16 instructions emulate them, several times slower than float32.
    """
    if config.precision != "auto":
        return config
    return replace(config, precision=fastest_precision(device))


def fastest_precision(device: torch.device) -> Literal["float32", "bfloat16"]:
    """Return the faster precision of a device.

    On a GPU this is ``bfloat16`` if the GPU supports it natively. On a CPU a matrix product is timed in both types,
    which takes some milliseconds.
    """
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return "bfloat16" if native else "float32"
    seconds = {dtype: _seconds(dtype, device) for dtype in (torch.float32, torch.bfloat16)}
    return "bfloat16" if seconds[torch.bfloat16] < seconds[torch.float32] else "float32"


def _seconds(dtype: torch.dtype, device: torch.device) -> float:
    """Time a matrix product: the shortest of a few rounds, to exclude other load, after one warm-up round."""
    x_TD = torch.ones(_FRAMES, _DIM, dtype=dtype, device=device)
    weight_ID = torch.ones(_INNER, _DIM, dtype=dtype, device=device)
    rounds = []
    for _ in range(_ROUNDS + 1):
        start = time.perf_counter()
        torch.nn.functional.linear(x_TD, weight_ID)
        rounds.append(time.perf_counter() - start)
    return min(rounds[1:])
