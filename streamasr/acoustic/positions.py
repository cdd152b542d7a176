"""Compute tables of positions with NumPy, for encoders that run without PyTorch."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

LONGEST_WAVELENGTH = 10_000
"""Of either family's table, divided by 2π."""


def periodic_positions(period: int, longest_wavelength: int, dim: int) -> NDArray[np.float32]:
    """Compute what :func:`streamasr.acoustic.whisper.periodic_positions` does, which an exporter can trace."""
    half = dim // 2
    radians_D = np.exp(-math.log(LONGEST_WAVELENGTH) / (half - 1) * np.arange(half))
    if longest_wavelength:
        turns_D = np.round(radians_D * period / (2 * math.pi))
        turns_D = np.where(2 * math.pi / radians_D <= longest_wavelength, turns_D, 0.0)
        radians_D = turns_D * (2 * math.pi / period)
    phase_PD = np.arange(period)[:, None] * radians_D
    table_PD: NDArray[np.float64] = np.concatenate((np.sin(phase_PD), np.cos(phase_PD)), axis=1)
    return table_PD.astype(np.float32)


def distance_sinusoids(first: int, last: int, dim: int) -> NDArray[np.float32]:
    """Compute what :func:`streamasr.acoustic.fastconformer.layers.distance_sinusoids` does: [N, ``dim``]."""
    radians_D = np.exp(-math.log(LONGEST_WAVELENGTH) / dim * np.arange(0, dim, 2))
    phase_ND = np.arange(first, last - 1, -1)[:, None] * radians_D
    table_ND: NDArray[np.float64] = np.stack((np.sin(phase_ND), np.cos(phase_ND)), axis=2)
    return table_ND.reshape(len(phase_ND), dim).astype(np.float32)
