"""Which arithmetic is the faster one where a run trains."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Literal

import torch

from streamasr.training.config import TrainConfig

_FRAMES, _DIM, _INNER = 500, 512, 2048
"""The feed-forward part of a small encoder on ten seconds."""
_ROUNDS = 5


def resolve_precision(config: TrainConfig, device: torch.device) -> TrainConfig:
    """The recipe with ``precision = "auto"`` made ``bfloat16`` where ``device`` is faster with it, else ``float32``.

    Processors without such instructions do emulate them, several times slower than float32.
    """
    if config.precision != "auto":
        return config
    return replace(config, precision=fastest_precision(device))


def fastest_precision(device: torch.device) -> Literal["float32", "bfloat16"]:
    """By what a GPU can do; on a CPU by timing a matrix product, some milliseconds, in both."""
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return "bfloat16" if native else "float32"
    took = {dtype: _seconds(dtype, device) for dtype in (torch.float32, torch.bfloat16)}
    return "bfloat16" if took[torch.bfloat16] < took[torch.float32] else "float32"


def _seconds(dtype: torch.dtype, device: torch.device) -> float:
    """The least of a few rounds, so that what else runs matters little; the first one only warms up."""
    x_TD = torch.ones(_FRAMES, _DIM, dtype=dtype, device=device)
    weight_ID = torch.ones(_INNER, _DIM, dtype=dtype, device=device)
    rounds = []
    for _ in range(_ROUNDS + 1):
        began = time.perf_counter()
        torch.nn.functional.linear(x_TD, weight_ID)
        rounds.append(time.perf_counter() - began)
    return min(rounds[1:])
