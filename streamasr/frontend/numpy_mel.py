"""Compute log-mel frames with NumPy, where PyTorch is not installed.

Shape suffixes: B batch, S samples, T frames, F frequencies, M mel bands (or cepstral coefficients), W window samples,
C carried values.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from streamasr.config import FrontendConfig
from streamasr.frontend.level import SILENCE_DB, initial_levels, level_offset_db, lowest_bin, step_gain

_SMALLEST_POWER = 1e-10
_LINEAR_HZ_PER_MEL, _LOG_FROM_HZ, _LOG_STEP = 200.0 / 3, 1000.0, math.log(6.4) / 27
"""Slaney's mel scale (Auditory Toolbox, 1998): linear up to 1 kHz, logarithmic above."""


class NumpyLogMel:
    """Computes the frames of :class:`streamasr.frontend.mel.LogMel`, equal but for rounding. A state is an array."""

    def __init__(self, config: FrontendConfig) -> None:
        self.config = config
        phase_W = 2 * np.pi * np.arange(config.n_fft) / config.n_fft
        self._window_W = (0.5 - 0.5 * np.cos(phase_W)).astype(np.float32)
        self._filters_FM = mel_filters(config)
        self._cosines_MC = _cosines(config.n_mels, config.n_mfcc) if config.n_mfcc else None

    def initial_state(self, batch: int) -> NDArray[np.float64]:
        """The state [B, C] of ``batch`` new streams: digital silence, then what the gain needs."""
        silence = np.zeros(self.config.n_fft - self.config.hop)
        return np.tile(np.concatenate((silence, initial_levels(self.config))), (batch, 1))

    def step(
        self, state_BC: NDArray[np.float64], pcm_BS: NDArray[np.float32]
    ) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """Compute the new state and ``mel_BTM`` of the next samples, a whole number of hops."""
        carried_BS, levels_B3 = state_BC[:, :-3].astype(np.float32), state_BC[:, -3:]
        samples_BS = np.concatenate((carried_BS, pcm_BS), axis=1)
        windows_BTW = sliding_window_view(samples_BS, self.config.n_fft, axis=1)[:, :: self.config.hop]
        spectrum_BTF = np.fft.rfft(windows_BTW * self._window_W).astype(np.complex64)
        power_BTF = spectrum_BTF.real**2 + spectrum_BTF.imag**2
        mel_BTM = np.log10(np.maximum(power_BTF @ self._filters_FM, _SMALLEST_POWER))
        if self.config.max_gain_db:
            levels_B3, gain_BT = step_gain(levels_B3, self._level(power_BTF), self.config)
            mel_BTM = mel_BTM + (gain_BT / 10.0).astype(np.float32)[:, :, None]
        mel_BTM = ((np.maximum(mel_BTM, self.config.floor_log10) + 4.0) / 4.0).astype(np.float32)
        if self._cosines_MC is not None:
            mel_BTM = mel_BTM @ self._cosines_MC
        carried_BS = samples_BS[:, samples_BS.shape[1] - carried_BS.shape[1] :]
        return np.concatenate((carried_BS, levels_B3), axis=1), mel_BTM

    def _level(self, power_BTF: NDArray[np.float32]) -> NDArray[np.float64]:
        power_BT = power_BTF[:, :, lowest_bin(self.config) :].sum(axis=2, dtype=np.float64)
        offset_db = level_offset_db(self.config)
        smallest = 10.0 ** ((SILENCE_DB - offset_db) / 10.0)
        level_BT: NDArray[np.float64] = 10.0 * np.log10(np.maximum(power_BT, smallest)) + offset_db
        return level_BT


def mel_filters(config: FrontendConfig) -> NDArray[np.float32]:
    """Compute the triangular filters [F, M] of Slaney's mel scale, each of the same area."""
    mels = np.linspace(0.0, _hz_to_mel(config.sample_rate / 2), config.n_mels + 2)
    linear_hz = mels * _LINEAR_HZ_PER_MEL
    log_hz = _LOG_FROM_HZ * np.exp(_LOG_STEP * (mels - _LOG_FROM_HZ / _LINEAR_HZ_PER_MEL))
    edges_hz = np.where(linear_hz < _LOG_FROM_HZ, linear_hz, log_hz)
    hz_F = np.linspace(0.0, config.sample_rate // 2, config.n_fft // 2 + 1)
    widths = np.diff(edges_hz)
    distances = edges_hz[None, :] - hz_F[:, None]
    rising, falling = -distances[:, :-2] / widths[:-1], distances[:, 2:] / widths[1:]
    filters_FM: NDArray[np.float64] = (
        np.maximum(0.0, np.minimum(rising, falling)) * 2 / (edges_hz[2:] - edges_hz[:-2])
    )
    return filters_FM.astype(np.float32)


def _hz_to_mel(hz: float) -> float:
    if hz < _LOG_FROM_HZ:
        return hz / _LINEAR_HZ_PER_MEL
    return _LOG_FROM_HZ / _LINEAR_HZ_PER_MEL + math.log(hz / _LOG_FROM_HZ) / _LOG_STEP


def _cosines(bands: int, coefficients: int) -> NDArray[np.float32]:
    """Compute the orthonormal cosine transform [M, C]."""
    angles = np.pi / bands * (np.arange(bands)[:, None] + 0.5) * np.arange(coefficients)
    cosines_MC = np.cos(angles) * math.sqrt(2 / bands)
    cosines_MC[:, 0] /= math.sqrt(2)
    return cosines_MC.astype(np.float32)
