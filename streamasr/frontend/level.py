"""Define how quiet speech is amplified: by an automatic gain that only looks back.

The level of a frame is its power above 150 Hz, in dB of full scale, where a sine of the largest amplitude has -3. The
level of speech is the maximum of the frames so far, which falls with each frame of speech: fast with the first ones
of a stream, as its level is not known, and slowly with those that follow. Speech is what is above the noise by
:data:`SPEECH_OVER_NOISE_DB`, and the noise is the minimum of the frames so far, which rises by :data:`RISE_DB` with
each frame. Speech below ``FrontendConfig.quiet_level_db`` is amplified to it, by ``FrontendConfig.max_gain_db`` at
most. Louder speech is not changed, nor are its pauses. The front ends add the gain to their log powers.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from streamasr.config import FrontendConfig

LOWEST_HZ = 150
"""Frequencies from here on count, so that hum and a constant offset do not."""
SPEECH_OVER_NOISE_DB = 10.0
FIRST_FALL_DB = 0.25
FIRST_FRAMES = 80
"""This many frames of speech are the first ones."""
FALL_DB = 0.1
RISE_DB = 0.05
LOWEST_NOISE_DB = -80.0
"""Quieter frames count as this loud, so that the noise of a room after digital silence is not speech for long."""
SILENCE_DB = -100.0
"""Level of digital silence."""


def lowest_bin(config: FrontendConfig) -> int:
    """Return the first bin of the Fourier transform that counts."""
    return -(-LOWEST_HZ * config.n_fft // config.sample_rate)


def level_offset_db(config: FrontendConfig) -> float:
    """Return what makes the log power of the spectrum of a frame with a Hann window a level in dB of full scale."""
    window_power = 0.375 * config.n_fft
    return float(10.0 * np.log10(2.0 / (config.n_fft * window_power)))


def initial_levels(config: FrontendConfig) -> tuple[float, float, float]:
    """Return the state of a new stream: the level of speech that needs no gain, any noise, and no frame of speech."""
    return config.quiet_level_db, math.inf, 0.0


def step_gain(
    state_B3: NDArray[np.float64], level_BT: NDArray[np.float64], config: FrontendConfig
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute the new state and the gains [B, T] of the next frames, in dB.

    Args:
        state_B3: the levels of speech and of noise, and the number of the first frames of speech so far. At first
            :func:`initial_levels`.
        level_BT: the frames' levels, in dB of full scale.
        config: the level to reach and the largest gain.
    """
    rise_T = RISE_DB * np.arange(1, level_BT.shape[1] + 1)
    low_BT = np.maximum(level_BT, LOWEST_NOISE_DB) - rise_T
    noise_BT = np.minimum.accumulate(np.minimum(low_BT, state_B3[:, 1:2]), axis=1) + rise_T
    speech_BT = level_BT > noise_BT + SPEECH_OVER_NOISE_DB
    count_BT = np.cumsum(speech_BT, axis=1)
    first_BT = np.minimum(count_BT, FIRST_FRAMES - state_B3[:, 2:])
    fall_BT = FALL_DB * count_BT + (FIRST_FALL_DB - FALL_DB) * first_BT
    peak_BT = np.maximum.accumulate(np.maximum(level_BT + fall_BT, state_B3[:, :1]), axis=1) - fall_BT
    gain_BT = np.clip(config.quiet_level_db - peak_BT, 0.0, config.max_gain_db)
    return np.stack((peak_BT[:, -1], noise_BT[:, -1], state_B3[:, 2] + first_BT[:, -1]), axis=1), gain_BT
