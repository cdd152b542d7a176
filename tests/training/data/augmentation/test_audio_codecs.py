"""Test codecs: their effect on audio, no change of length or timing, and the same result for the same seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from streamasr.errors import ConfigError
from streamasr.frontend.pcm import Samples
from streamasr.training.data.augmentation.audio_codecs import (
    CODECS,
    TELEPHONE_HZ,
    apply_codec,
    apply_random_codec,
    check_codecs,
    telephone_band,
)

RATE = 16_000
TELEPHONE = [name for name, codec in CODECS.items() if codec.telephone]


@pytest.fixture(scope="module")
def speech_S() -> Samples:
    path = Path(__file__).parents[3] / "data" / "librispeech" / "2136-5147-0011.flac"
    samples_S, rate = soundfile.read(path, dtype="float32")
    assert rate == RATE
    return np.asarray(samples_S)


def correlation_and_delay(one_S: Samples, other_S: Samples) -> tuple[float, int]:
    """Return the highest correlation of two signals, and the delay of the second at which it occurs."""
    size = 2 * len(one_S)
    spectrum = np.fft.rfft(other_S, size) * np.fft.rfft(one_S, size).conj()
    correlations = np.fft.irfft(spectrum, size)
    delay = int(np.argmax(correlations))
    scale = np.sqrt(np.square(one_S).sum() * np.square(other_S).sum())
    return float(correlations[delay] / scale), delay if delay < len(one_S) else delay - size


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("quality", [0.0, 1.0])
def test_a_codec_changes_the_audio_but_not_its_timing(name: str, quality: float, speech_S: Samples) -> None:
    decoded_S = apply_codec(speech_S, RATE, name, quality=quality)
    assert decoded_S.dtype == np.float32
    assert decoded_S.shape == speech_S.shape
    reference_S = telephone_band(speech_S, RATE) if CODECS[name].telephone else speech_S
    correlation, delay = correlation_and_delay(reference_S, decoded_S)
    assert abs(delay) <= 1
    assert 0.85 < correlation < 0.99999
    assert np.array_equal(decoded_S, apply_codec(speech_S, RATE, name, quality=quality))


@pytest.mark.parametrize("name", [name for name, codec in CODECS.items() if codec.levels])
def test_a_higher_quality_is_closer_to_the_original(name: str, speech_S: Samples) -> None:
    worst, best = (
        correlation_and_delay(speech_S, apply_codec(speech_S, RATE, name, quality=q))[0] for q in (0.0, 1.0)
    )
    assert worst < best


@pytest.mark.parametrize("name", TELEPHONE)
def test_telephone_codecs_pass_only_the_telephone_band(name: str) -> None:
    noise_S = np.random.default_rng(0).normal(0, 0.1, RATE).astype(np.float32)
    power = np.square(np.abs(np.fft.rfft(apply_codec(noise_S, RATE, name))))
    hertz = np.fft.rfftfreq(RATE, 1 / RATE)
    inside = power[(hertz > 500) & (hertz < 3_200)].mean()
    assert power[hertz > 4_100].mean() < 1e-3 * inside
    # Below the band there is only the codec's own noise.
    assert power[hertz < 150].mean() < 0.1 * inside


def test_the_telephone_band_is_flat_inside_and_zero_outside() -> None:
    click_S = np.zeros(8_000, dtype=np.float32)
    click_S[4_000] = 1.0
    gain = np.abs(np.fft.rfft(telephone_band(click_S, 8_000)))
    hertz = np.fft.rfftfreq(8_000, 1 / 8_000)
    low, high = TELEPHONE_HZ
    assert np.allclose(gain[(hertz > low + 100) & (hertz < high - 100)], 1.0, atol=1e-5)
    assert np.allclose(gain[(hertz < low) | (hertz > high)], 0.0, atol=1e-5)


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("samples", [0, 1, 333])
def test_the_length_stays_the_same(name: str, samples: int) -> None:
    sound_S = np.full(samples, 0.1, dtype=np.float32)
    assert apply_codec(sound_S, RATE, name).shape == (samples,)


@pytest.mark.parametrize("rate", [8_000, 22_050, 48_000])
def test_other_sample_rates_work(rate: int) -> None:
    tone_S = (0.3 * np.sin(2 * np.pi * 1_000 * np.arange(rate) / rate)).astype(np.float32)
    for name in ("gsm", "opus"):
        decoded_S = apply_codec(tone_S, rate, name)
        peak = np.argmax(np.abs(np.fft.rfft(decoded_S)))
        assert len(decoded_S) == rate
        assert peak == 1_000


def test_loud_audio_is_clipped_and_does_not_wrap() -> None:
    loud_S = (3 * np.sin(2 * np.pi * 1_000 * np.arange(RATE) / RATE)).astype(np.float32)
    assert np.abs(apply_codec(loud_S, RATE, "vorbis", quality=1.0)).max() < 1.6


def test_random_codecs_are_seeded(speech_S: Samples) -> None:
    names = tuple(CODECS)
    one, same, other = (
        apply_random_codec(speech_S[:RATE], RATE, names, np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_names_are_checked() -> None:
    check_codecs(("gsm", "opus"))
    invalid: tuple[tuple[str, ...], ...] = (("gsm", "amr"), ())
    for names in invalid:
        with pytest.raises(ConfigError, match="g711-mu, g711-a"):
            check_codecs(names)
