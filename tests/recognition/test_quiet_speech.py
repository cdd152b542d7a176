"""Test that the default model recognises quiet recordings as it does the same ones at their usual level."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from streamasr import transcribe
from streamasr.media.reader import read_audio
from streamasr.recognition.model import LoadedModel, load_model
from streamasr.scoring import Edits, word_edits

CLIPS = sorted((Path(__file__).parents[1] / "data" / "librispeech").glob("*.flac"))


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    return load_model("en-small")


def test_quiet_recordings_are_recognised(model: LoadedModel) -> None:
    edits = Edits()
    for clip in CLIPS:
        samples_S = read_audio(clip, model.sample_rate)
        pcm_S = np.round(32_767 * 10 ** (-36 / 20) * samples_S).astype(np.int16)
        usual = transcribe(model, samples_S, sample_rate=model.sample_rate).text
        quiet = transcribe(model, (pcm_S / 32_768).astype(np.float32), sample_rate=model.sample_rate).text
        edits += word_edits(usual, quiet)
    assert edits.length > 50
    assert edits.errors <= 0.15 * edits.length
