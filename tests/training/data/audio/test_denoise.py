"""Denoising: less noise, the same length, and nothing drawn."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from streamasr.errors import ConfigError
from streamasr.training.data.audio.denoise import denoise

pytest.importorskip("noisereduce")

RATE = 16_000
TONE = slice(8_000, 10_400)


@pytest.fixture(scope="module")
def noisy_S() -> NDArray[np.float32]:
    """Two seconds of hiss with a short tone in it, from a half second on."""
    sound_S = np.random.default_rng(0).normal(0, 0.02, 2 * RATE)
    sound_S[TONE] += 0.3 * np.sin(2 * np.pi * 800 * np.arange(TONE.stop - TONE.start) / RATE)
    return sound_S.astype(np.float32)


def rms(samples_S: NDArray[np.float32]) -> float:
    return float(np.sqrt(np.mean(np.square(samples_S))))


def test_noise_goes_and_the_tone_stays(noisy_S: NDArray[np.float32]) -> None:
    cleaned_S = denoise(noisy_S, RATE, strength=1.0)
    assert cleaned_S.dtype == np.float32
    assert cleaned_S.shape == noisy_S.shape
    assert rms(cleaned_S[RATE:]) < 0.7 * rms(noisy_S[RATE:])
    assert rms(cleaned_S[TONE]) > 0.6 * rms(noisy_S[TONE])


def test_strength_tells_and_nothing_is_drawn(noisy_S: NDArray[np.float32]) -> None:
    weak_S, strong_S = (denoise(noisy_S, RATE, strength=strength) for strength in (0.2, 1.0))
    assert rms(strong_S[RATE:]) < rms(weak_S[RATE:])
    assert np.array_equal(strong_S, denoise(noisy_S, RATE, strength=1.0))


@pytest.mark.parametrize("samples", [0, 1, 1_000, 4_001])
def test_short_and_silent_sounds_pass(samples: int) -> None:
    silence_S = np.zeros(samples, dtype=np.float32)
    assert np.array_equal(denoise(silence_S, RATE), silence_S)
    short_S = np.full(min(samples, 3_999), 0.1, dtype=np.float32)
    assert np.array_equal(denoise(short_S, RATE), short_S)


def test_a_strength_out_of_range_is_refused(noisy_S: NDArray[np.float32]) -> None:
    with pytest.raises(ConfigError, match=r"0\.\.1, got 2"):
        denoise(noisy_S, RATE, strength=2.0)
