"""Test the automatic gain for quiet speech: what it amplifies, what it leaves, and that any split gives the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from streamasr.config import FrontendConfig
from streamasr.errors import ConfigError
from streamasr.frontend.level import initial_levels, step_gain
from streamasr.frontend.mel import LogMel
from streamasr.frontend.numpy_mel import NumpyLogMel
from streamasr.media.reader import read_audio

PLAIN = FrontendConfig()
CONFIG = FrontendConfig(max_gain_db=30.0)
SPEECH = Path(__file__).parents[1] / "data" / "librispeech" / "3607-135982-0000.flac"
RATE = CONFIG.sample_rate
FLOOR = (CONFIG.floor_log10 + 4) / 4


def speech(gain_db: float, seconds: float = 8.0) -> NDArray[np.float32]:
    """A recording whose loudest frames have about -20 dB, made louder by ``gain_db``."""
    samples_S = read_audio(SPEECH, RATE)[: int(seconds * RATE)]
    return np.asarray(samples_S * 10 ** (gain_db / 20), dtype=np.float32)


def mels(samples_S: NDArray[np.float32], config: FrontendConfig = CONFIG) -> NDArray[np.float32]:
    """Frames of whole hops."""
    whole = len(samples_S) // config.hop * config.hop
    frames_TM: NDArray[np.float32] = LogMel(config)(torch.from_numpy(samples_S[None, :whole]))[0].numpy()
    return frames_TM


def gains_db(samples_S: NDArray[np.float32]) -> NDArray[np.float32]:
    """The gain of each frame, by its loudest band."""
    band_T = mels(samples_S, PLAIN).argmax(axis=1)[:, None]
    difference_TM = mels(samples_S) - mels(samples_S, PLAIN)
    return np.asarray(40.0 * np.take_along_axis(difference_TM, band_T, axis=1)[:, 0])


def test_speech_of_the_usual_level_is_not_changed() -> None:
    gain_T = gains_db(speech(0.0))
    assert np.abs(gain_T).max() < 2.0
    assert np.abs(gain_T[100:]).max() == 0.0


@pytest.mark.parametrize("quieter_db", [24.0, 36.0])
def test_quiet_speech_is_amplified_to_the_level(quieter_db: float) -> None:
    gain_T = gains_db(speech(-quieter_db))
    loud_db = 36.0 - 20.0
    settled_T = gain_T[len(gain_T) // 2 :]
    assert np.median(settled_T) == pytest.approx(quieter_db - loud_db, abs=6.0)
    assert settled_T.max() <= CONFIG.max_gain_db


def test_the_gain_is_limited() -> None:
    quiet_S, limited = speech(-36.0), replace(CONFIG, max_gain_db=12.0)
    gain_TM = 40.0 * (mels(quiet_S, limited) - mels(quiet_S, PLAIN))
    assert gain_TM.max() == pytest.approx(12.0, abs=1e-3)


def test_hum_and_a_constant_offset_do_not_count() -> None:
    quiet_S = speech(-36.0)
    time_S = np.arange(len(quiet_S)) / RATE
    offset_S = (0.1 + 0.005 * np.sin(2 * np.pi * 50 * time_S)).astype(np.float32)
    high = slice(20, None)
    gain_TM, disturbed_TM = (
        40.0 * (mels(samples_S) - mels(samples_S, PLAIN))[400:, high]
        for samples_S in (quiet_S, quiet_S + offset_S)
    )
    assert np.median(disturbed_TM.max(axis=1)) == pytest.approx(np.median(gain_TM.max(axis=1)), abs=1.0)


def test_loud_speech_ends_the_gain_at_once() -> None:
    gain_T = gains_db(np.concatenate((speech(-36.0), speech(0.0))))
    loud = int(np.argmax(mels(speech(0.0), PLAIN).mean(axis=1) > 0.2))
    assert gain_T[len(speech(-36.0)) // CONFIG.hop + loud + 5 :].max() == 0.0


@pytest.mark.parametrize("kind", ["zeros", "dither", "white", "hum", "constant"])
@pytest.mark.parametrize("level_db", [-70.0, -60.0, -50.0, -40.0])
def test_sound_that_does_not_change_is_not_amplified(kind: str, level_db: float) -> None:
    rng = np.random.default_rng(7)
    time_S = np.arange(10 * RATE) / RATE
    amplitude = 10 ** (level_db / 20)
    samples_S = {
        "zeros": np.zeros(10 * RATE),
        "dither": rng.integers(-1, 2, 10 * RATE) / 32_768,
        "white": amplitude * rng.standard_normal(10 * RATE),
        "hum": amplitude * np.sin(2 * np.pi * 50 * time_S),
        "constant": np.full(10 * RATE, amplitude),
    }[kind].astype(np.float32)
    assert np.abs(mels(samples_S) - mels(samples_S, PLAIN)).max() == 0.0


@settings(max_examples=20, deadline=None)
@given(
    hops=st.lists(st.integers(1, 60), min_size=1, max_size=8),
    quieter_db=st.sampled_from([0.0, 20.0, 40.0, 60.0]),
    n_mfcc=st.sampled_from([0, 13]),
)
def test_any_split_gives_the_same_and_numpy_what_pytorch_gives(
    hops: list[int], quieter_db: float, n_mfcc: int
) -> None:
    config = replace(CONFIG, n_mfcc=n_mfcc)
    whole = sum(hops) * config.hop
    pcm_BS = np.stack((speech(-quieter_db)[:whole], speech(0.0)[-whole:]))
    frontend, numpy_frontend = LogMel(config), NumpyLogMel(config)
    expected_BTM = frontend(torch.from_numpy(pcm_BS)).numpy()
    state, numpy_state = frontend.initial_state(2), numpy_frontend.initial_state(2)
    at = 0
    for count in hops:
        part_BS = pcm_BS[:, at * config.hop : (at + count) * config.hop]
        state, mel_BTM = frontend.step(state, torch.from_numpy(part_BS))
        numpy_state, numpy_BTM = numpy_frontend.step(numpy_state, part_BS)
        np.testing.assert_allclose(mel_BTM.numpy(), expected_BTM[:, at : at + count], atol=1e-4)
        np.testing.assert_allclose(numpy_BTM, expected_BTM[:, at : at + count], atol=2e-4)
        at += count


def test_the_rule_is_the_one_that_the_module_states() -> None:
    """The vectorised rule is compared with the same rule, frame by frame."""
    rng = np.random.default_rng(3)
    level_BT = rng.uniform(-90.0, -10.0, size=(3, 200)) - 20.0 * np.array([[0.0], [1.0], [2.0]])
    peak, noise, none = initial_levels(CONFIG)
    state_B3, gain_BT = step_gain(np.tile([peak, noise, none], (3, 1)), level_BT, CONFIG)
    for row, level_T in enumerate(level_BT):
        speech_db, noise_db, frames = peak, noise, 0
        for frame, level in enumerate(level_T):
            noise_db = min(noise_db + 0.05, max(level, -80.0))
            if level > noise_db + 10.0:
                frames += 1
                speech_db -= 0.25 if frames <= 80 else 0.1
            speech_db = max(speech_db, level)
            assert gain_BT[row, frame] == pytest.approx(min(max(-36.0 - speech_db, 0.0), 30.0), abs=1e-9)
        np.testing.assert_allclose(state_B3[row], (speech_db, noise_db, min(frames, 80)), atol=1e-9)


def test_samples_are_not_clipped_and_floors_hold() -> None:
    frames_TM = mels(speech(-60.0))
    assert np.isfinite(frames_TM).all()
    assert frames_TM.min() >= FLOOR


def test_a_negative_gain_is_refused() -> None:
    with pytest.raises(ConfigError, match="max_gain_db must not be negative, got -1"):
        FrontendConfig(max_gain_db=-1.0)
