"""Test resampling: any split gives the same samples, and none is lost at the end."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamasr.frontend.pcm import Samples
from streamasr.frontend.resample import Resampler

TARGET = 16_000


def _tone(rate: int, seconds: float = 0.3, hz: float = 440.0) -> Samples:
    phase_S = 2 * np.pi * hz * np.arange(round(rate * seconds)) / rate
    tone_S: Samples = (0.5 * np.sin(phase_S)).astype(np.float32)
    return tone_S


def _run(rate: int, parts: list[Samples]) -> Samples:
    resampler = Resampler(rate, TARGET)
    return np.concatenate([resampler.feed(part) for part in parts] + [resampler.flush()])


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 24_000, 32_000, 44_100, 48_000])
def test_length_and_shape_are_kept(rate: int) -> None:
    out = _run(rate, [_tone(rate)])
    assert abs(len(out) - 0.3 * TARGET) <= 1
    middle = slice(800, len(out) - 800)
    assert out[middle] == pytest.approx(_tone(TARGET)[: len(out)][middle], abs=2e-3)


@given(st.sampled_from([8_000, 22_050, 44_100, 48_000]), st.lists(st.integers(0, 14_000), max_size=6))
def test_any_split_gives_the_same(rate: int, cuts: list[int]) -> None:
    tone = _tone(rate)
    split = _run(rate, np.split(tone, sorted(min(c, len(tone)) for c in cuts)))
    assert np.array_equal(split, _run(rate, [tone]))


def test_the_models_own_rate_passes_through_unchanged() -> None:
    tone = _tone(TARGET)
    assert np.array_equal(_run(TARGET, [tone[:7], tone[7:]]), tone)


def test_a_flushed_resampler_is_as_new() -> None:
    resampler = Resampler(44_100, TARGET)
    tone = _tone(44_100)
    first = np.concatenate([resampler.feed(tone), resampler.flush()])
    second = np.concatenate([resampler.feed(tone), resampler.flush()])
    assert np.array_equal(first, second)
