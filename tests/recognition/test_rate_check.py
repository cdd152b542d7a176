"""Test that audio of a higher rate than stated is noticed by its sound, and that nothing else raises an alarm."""

from __future__ import annotations

import re
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
import torch
import torchaudio

from streamasr.frontend.pcm import Samples
from streamasr.manifest import read_manifest
from streamasr.media.reader import read_audio
from streamasr.protocol.messages import Start
from streamasr.recognition.model import LoadedModel
from streamasr.recognition.options import resolve_options
from streamasr.recognition.pcm_reader import PcmReader
from streamasr.recognition.rate_check import RateCheck
from tests.conftest import SharedData
from tests.frontend.test_mixups import SYNTHETIC
from tests.recognition.tiny import s16

CLIPS = Path(__file__).parents[1] / "data"
RATE = 16_000
WARNING = 'start stated 16000 Hz, but this sounds like speech .* 48000 Hz, .* set "sample_rate" to the rate'


def clip(name: str) -> Samples:
    return read_audio(CLIPS / name, RATE)


def at_rate(samples_S: Samples, rate: int) -> Samples:
    """Return the same sound with ``rate`` samples a second."""
    return np.asarray(torchaudio.functional.resample(torch.from_numpy(samples_S), RATE, rate))


def warning(samples_S: Samples, pieces: int = 1) -> str | None:
    check = RateCheck(RATE)
    return next((text for part in np.array_split(samples_S, pieces) if (text := check.check(part))), None)


@pytest.mark.parametrize("rate", [44_100, 48_000])
@pytest.mark.parametrize(
    "name",
    [
        "l2/029170055.flac",
        "librispeech/5789-70653-0013.flac",
    ],
)
def test_speech_of_a_higher_rate_is_noticed_however_it_is_split(name: str, rate: int) -> None:
    slow = at_rate(clip(name), rate)
    found = [
        warning(np.concatenate((np.zeros(quiet, dtype=np.float32), slow)), pieces)
        for quiet, pieces in ((0, 1), (1_280_000, 7), (0, 900))
    ]
    assert found[0] is not None
    assert found == [found[0]] * 3


def test_the_warning_reaches_the_session_and_names_the_setting(model: LoadedModel) -> None:
    slow = s16(at_rate(clip("librispeech/5789-70653-0013.flac"), 48_000))
    reader = PcmReader(resolve_options(Start(), model), model.sample_rate)
    for offset in range(0, len(slow), 3_200):
        reader.feed(slow[offset : offset + 3_200])
    found = reader.take_warning()
    assert found is not None
    assert re.search(WARNING, found)
    assert reader.take_warning() is None


def test_a_rate_that_nothing_can_exceed_threefold_is_not_judged() -> None:
    slow = at_rate(clip("librispeech/5789-70653-0013.flac"), 48_000)
    assert RateCheck(24_001).check(np.tile(slow, 3)) is None


def test_clips_at_their_own_rate_raise_no_alarm() -> None:
    for path in sorted(CLIPS.rglob("*.flac")):
        assert warning(np.tile(read_audio(path, RATE), 7)) is None, path


@pytest.mark.parametrize("name", SYNTHETIC)
def test_tones_noise_and_silence_raise_no_alarm(name: str) -> None:
    assert warning(np.tile(SYNTHETIC[name], 9).astype(np.float32)) is None


@pytest.mark.parametrize("folder", ["data/dev-librispeech", "data/dev-l2"])
@pytest.mark.timeout(600)
def test_no_speaker_raises_an_alarm(shared_data: SharedData, folder: str) -> None:
    utterances = sorted(
        read_manifest(shared_data(folder) / "manifest.jsonl"), key=lambda each: each.speaker or ""
    )
    for speaker, clips in groupby(utterances, key=lambda each: each.speaker):
        assert warning(np.concatenate([read_audio(each.audio, RATE) for each in clips])) is None, speaker


@pytest.mark.timeout(600)
def test_no_noise_raises_an_alarm(shared_data: SharedData) -> None:
    paths = sorted(shared_data("data/noise-esc10").rglob("*.opus"))
    assert len(paths) > 100
    assert [path.name for path in paths if warning(np.tile(read_audio(path, RATE), 3))] == []
