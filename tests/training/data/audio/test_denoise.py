"""Test denoising: less noise, the same length, and the same result each time."""

from __future__ import annotations

import numpy as np
import pytest

from streamasr.errors import ConfigError
from streamasr.frontend.pcm import Samples
from streamasr.training.data.audio.denoise import denoise

pytest.importorskip("noisereduce")

RATE = 16_000
TONE = slice(8_000, 10_400)


@pytest.fixture(scope="module")
def noisy_S() -> Samples:
    """Two seconds of hiss with a short tone after half a second."""
    sound_S = np.random.default_rng(0).normal(0, 0.02, 2 * RATE)
    sound_S[TONE] += 0.3 * np.sin(2 * np.pi * 800 * np.arange(TONE.stop - TONE.start) / RATE)
    return sound_S.astype(np.float32)


def rms(samples_S: Samples) -> float:
    return float(np.sqrt(np.mean(np.square(samples_S))))


def test_noise_is_removed_and_the_tone_stays(noisy_S: Samples) -> None:
    cleaned_S = denoise(noisy_S, RATE, strength=1.0)
    assert cleaned_S.dtype == np.float32
    assert cleaned_S.shape == noisy_S.shape
    assert rms(cleaned_S[RATE:]) < 0.7 * rms(noisy_S[RATE:])
    assert rms(cleaned_S[TONE]) > 0.6 * rms(noisy_S[TONE])


def test_strength_matters_and_the_result_is_deterministic(noisy_S: Samples) -> None:
    weak_S, strong_S = (denoise(noisy_S, RATE, strength=strength) for strength in (0.2, 1.0))
    assert rms(strong_S[RATE:]) < rms(weak_S[RATE:])
    assert np.array_equal(strong_S, denoise(noisy_S, RATE, strength=1.0))


@pytest.mark.parametrize("samples", [0, 1, 1_000, 4_001])
def test_short_and_silent_recordings_are_not_changed(samples: int) -> None:
    silence_S = np.zeros(samples, dtype=np.float32)
    assert np.array_equal(denoise(silence_S, RATE), silence_S)
    short_S = np.full(min(samples, 3_999), 0.1, dtype=np.float32)
    assert np.array_equal(denoise(short_S, RATE), short_S)


def test_a_strength_out_of_range_is_refused(noisy_S: Samples) -> None:
    with pytest.raises(ConfigError, match=r"from 0 to 1, got 2"):
        denoise(noisy_S, RATE, strength=2.0)
