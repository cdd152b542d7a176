"""Test what the first seconds of a session say about its channels; tests/frontend/test_mixups.py has encodings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from streamasr.protocol.messages import Start
from streamasr.recognition.input_check import InputCheck
from streamasr.recognition.model import LoadedModel
from streamasr.recognition.options import SessionOptions, resolve_options

CLIPS = sorted((Path(__file__).parents[1] / "data" / "librispeech").glob("*.flac"))


def warnings(options: SessionOptions, samples_SC: NDArray[np.float32], step: int = 3_200) -> list[str]:
    check = InputCheck(options)
    data = samples_SC.astype("<f4").tobytes()
    found = [check.check(data[at : at + step]) for at in range(0, len(data), step)]
    return [warning for warning in (*found, check.judge()) if warning]


@pytest.fixture
def stereo(model: LoadedModel) -> SessionOptions:
    return resolve_options(Start(encoding="pcm_f32le", channels=2), model)


@pytest.mark.parametrize("clip", CLIPS, ids=lambda path: path.stem)
def test_opposite_phases_bring_one_warning_and_all_else_none(stereo: SessionOptions, clip: Path) -> None:
    samples, _ = soundfile.read(clip, dtype="float32")
    noise = np.random.default_rng(1).normal(0, 0.01, len(samples)).astype(np.float32)
    for other in (-samples, -0.3 * samples + noise * 0.1):
        for step in (3_200, len(samples) * 8):
            (warning,) = warnings(stereo, np.stack([samples, other], axis=1), step)
            assert "opposite phases" in warning
    for other in (samples, 0 * samples, noise, np.roll(samples, 40), np.roll(-samples, 800)):
        assert warnings(stereo, np.stack([samples, other], axis=1)) == []


def test_silence_and_tones_are_not_opposite(stereo: SessionOptions) -> None:
    time = np.arange(64_000) / 16_000
    for shape in (0 * time, 1e-4 * np.sin(time * 2_000)):
        both = np.stack([shape, -shape], axis=1).astype(np.float32)
        assert warnings(stereo, both) == []
    apart = np.random.default_rng(1).normal([0.3, -0.3], 0.01, (64_000, 2)).astype(np.float32)
    assert warnings(stereo, apart) == [], "only their offsets are opposite"
