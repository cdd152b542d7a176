"""Codecs: what each leaves of a sound, measured; length and time kept; the same for the same seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from streamasr.errors import ConfigError
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
def speech_S() -> NDArray[np.float32]:
    path = Path(__file__).parents[3] / "data" / "librispeech" / "2136-5147-0011.flac"
    samples_S, rate = soundfile.read(path, dtype="float32")
    assert rate == RATE
    return np.asarray(samples_S)


def likeness(one_S: NDArray[np.float32], other_S: NDArray[np.float32]) -> tuple[float, int]:
    """The highest correlation of two sounds, and at which delay of the second."""
    size = 2 * len(one_S)
    spectrum = np.fft.rfft(other_S, size) * np.fft.rfft(one_S, size).conj()
    together = np.fft.irfft(spectrum, size)
    delay = int(np.argmax(together))
    scale = np.sqrt(np.square(one_S).sum() * np.square(other_S).sum())
    return float(together[delay] / scale), delay if delay < len(one_S) else delay - size


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("quality", [0.0, 1.0])
def test_a_codec_changes_the_sound_but_not_when_it_is(
    name: str, quality: float, speech_S: NDArray[np.float32]
) -> None:
    heard_S = apply_codec(speech_S, RATE, name, quality=quality)
    assert heard_S.dtype == np.float32
    assert heard_S.shape == speech_S.shape
    reference_S = telephone_band(speech_S, RATE) if CODECS[name].telephone else speech_S
    correlation, delay = likeness(reference_S, heard_S)
    assert abs(delay) <= 1
    assert 0.85 < correlation < 0.99999
    assert np.array_equal(heard_S, apply_codec(speech_S, RATE, name, quality=quality))


@pytest.mark.parametrize("name", [name for name, codec in CODECS.items() if codec.levels])
def test_quality_tells(name: str, speech_S: NDArray[np.float32]) -> None:
    worst, best = (likeness(speech_S, apply_codec(speech_S, RATE, name, quality=q))[0] for q in (0.0, 1.0))
    assert worst < best


@pytest.mark.parametrize("name", TELEPHONE)
def test_the_telephone_passes_only_its_band(name: str) -> None:
    noise_S = np.random.default_rng(0).normal(0, 0.1, RATE).astype(np.float32)
    power = np.square(np.abs(np.fft.rfft(apply_codec(noise_S, RATE, name))))
    hertz = np.fft.rfftfreq(RATE, 1 / RATE)
    inside = power[(hertz > 500) & (hertz < 3_200)].mean()
    assert power[hertz > 4_100].mean() < 1e-3 * inside
    # What a codec puts below the band is its own noise.
    assert power[hertz < 150].mean() < 0.1 * inside


def test_the_band_is_flat_inside_and_nothing_outside() -> None:
    click_S = np.zeros(8_000, dtype=np.float32)
    click_S[4_000] = 1.0
    gain = np.abs(np.fft.rfft(telephone_band(click_S, 8_000)))
    hertz = np.fft.rfftfreq(8_000, 1 / 8_000)
    low, high = TELEPHONE_HZ
    assert np.allclose(gain[(hertz > low + 100) & (hertz < high - 100)], 1.0, atol=1e-5)
    assert np.allclose(gain[(hertz < low) | (hertz > high)], 0.0, atol=1e-5)


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("samples", [0, 1, 333])
def test_any_length_comes_back_as_it_was(name: str, samples: int) -> None:
    sound_S = np.full(samples, 0.1, dtype=np.float32)
    assert apply_codec(sound_S, RATE, name).shape == (samples,)


@pytest.mark.parametrize("rate", [8_000, 22_050, 48_000])
def test_any_rate_will_do(rate: int) -> None:
    tone_S = (0.3 * np.sin(2 * np.pi * 1_000 * np.arange(rate) / rate)).astype(np.float32)
    for name in ("gsm", "opus"):
        heard_S = apply_codec(tone_S, rate, name)
        peak = np.argmax(np.abs(np.fft.rfft(heard_S)))
        assert len(heard_S) == rate
        assert peak == 1_000


def test_too_loud_is_clipped_not_wrapped() -> None:
    loud_S = (3 * np.sin(2 * np.pi * 1_000 * np.arange(RATE) / RATE)).astype(np.float32)
    assert np.abs(apply_codec(loud_S, RATE, "vorbis", quality=1.0)).max() < 1.6


def test_drawing_is_seeded(speech_S: NDArray[np.float32]) -> None:
    names = tuple(CODECS)
    one, same, other = (
        apply_random_codec(speech_S[:RATE], RATE, names, np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_names_are_checked() -> None:
    check_codecs(("gsm", "opus"))
    for names in (("gsm", "amr"), ()):
        with pytest.raises(ConfigError, match="g711-mu, g711-a"):
            check_codecs(names)
