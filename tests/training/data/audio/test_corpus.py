"""Test that speech is decoded once, by several processes, and that interrupted decoding leaves nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import soundfile

from streamasr.errors import DataError
from streamasr.manifest import Utterance
from streamasr.media.reader import read_audio
from streamasr.toml import to_toml
from streamasr.training.data.audio.corpus import INT16_SCALE, load_corpus
from streamasr.training.data.audio.denoise import denoise
from streamasr.training.data.audio.processes import FEW_ITEMS
from tests.training.beeping import recipe
from tests.training.data import trees

RATE = 16_000
COUNT = FEW_ITEMS + 6
COMMAND = "import sys; from streamasr.cli import main; sys.exit(main(sys.argv[1:]))"


@pytest.fixture(scope="module")
def utterances(tmp_path_factory: pytest.TempPathFactory) -> list[Utterance]:
    """Enough utterances for several processes; number n is 100 + n milliseconds long."""
    folder = tmp_path_factory.mktemp("speech")
    found = []
    for number in range(COUNT):
        seconds = 0.1 + number / 1000
        trees.sound(folder / f"{number}.wav", seconds, RATE, seed=number)
        found.append(Utterance(folder / f"{number}.wav", seconds, "a b"))
    return found


def test_several_processes_decode_the_same_as_one(utterances: list[Utterance], tmp_path: Path) -> None:
    reported: list[tuple[int, int, float]] = []
    one = load_corpus(utterances, tmp_path / "one", RATE, workers=1)
    two = load_corpus(utterances, tmp_path / "two", RATE, workers=2, progress=lambda *at: reported.append(at))
    assert np.array_equal(one.samples, two.samples)
    assert np.array_equal(one.offsets, two.offsets)
    assert two.lengths.tolist() == [1_600 + 16 * number for number in range(COUNT)]
    for number in (0, COUNT - 1):
        samples_S, _ = soundfile.read(utterances[number].audio, dtype="int16")
        assert np.array_equal(two.samples[two.offsets[number] : two.offsets[number + 1]], samples_S)
    assert [done for done, _, _ in reported] == list(range(COUNT + 1))
    assert {total for _, total, _ in reported} == {COUNT}
    assert reported[-1][2] == pytest.approx(sum(two.lengths) / RATE / 3600)


def test_decoded_speech_is_not_decoded_again(utterances: list[Utterance], tmp_path: Path) -> None:
    reported: list[tuple[int, int, float]] = []
    first = load_corpus(utterances[:5], tmp_path, RATE)
    again = load_corpus(utterances[:5], tmp_path, RATE, progress=lambda *at: reported.append(at))
    assert reported == []
    assert np.array_equal(first.samples, again.samples)
    load_corpus(utterances[:4], tmp_path, RATE, progress=lambda *at: reported.append(at))
    assert reported[-1][:2] == (4, 4)


def test_denoised_speech_has_its_own_cache(tmp_path: Path) -> None:
    file = trees.sound(tmp_path / "hiss.wav", 1.0, RATE)
    noisy, clean = (
        load_corpus([Utterance(file, 1.0, "a")], tmp_path / "cache", RATE, clean=clean)
        for clean in (False, True)
    )
    expected_S = denoise(read_audio(file, RATE), RATE) * INT16_SCALE
    assert np.abs(clean.samples - expected_S).max() <= 0.51
    assert np.std(clean.samples) < 0.9 * np.std(noisy.samples)
    again = load_corpus([Utterance(file, 1.0, "a")], tmp_path / "cache", RATE)
    assert np.array_equal(again.samples, noisy.samples)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_file_that_cannot_be_decoded_is_named_and_leaves_nothing(
    utterances: list[Utterance], tmp_path: Path, workers: int
) -> None:
    missing = replace(utterances[40], audio=tmp_path / "nowhere.wav")
    with pytest.raises(DataError, match=r"nowhere\.wav: no such file"):
        load_corpus([*utterances, missing], tmp_path / "cache", RATE, workers=workers)
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.timeout(180)
@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_an_interrupt_ends_decoding_at_once_and_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    # A minute of Opus per file takes long enough to be interrupted.
    sound = trees.sound(tmp_path / "0.opus", 60.0, RATE)
    for index in range(1, 100):
        (tmp_path / f"{index}.opus").symlink_to(sound)
    rows = [{"audio_filepath": f"{index}.opus", "duration": 60.0, "text": "a"} for index in range(100)]
    config = recipe(trees.text(tmp_path / "manifest.jsonl", *map(json.dumps, rows)), 5)
    config = replace(config, data=replace(config.data, dev_manifests=()))
    (tmp_path / "recipe.toml").write_text(to_toml(config), encoding="utf-8")
    out, errors = tmp_path / "run", tmp_path / "errors.txt"
    command = [sys.executable, "-c", COMMAND, "train", str(tmp_path / "recipe.toml"), "--out", str(out)]
    command += ["--device", "cpu", "--threads", "2", "--no-tensorboard"]
    with errors.open("w") as stderr:
        process = subprocess.Popen(command, stderr=stderr, start_new_session=True)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not any(
            path.stat().st_size for path in (out / "cache").glob("*.partial")
        ):
            time.sleep(0.02)
        others = psutil.Process(process.pid).children(recursive=True)
        assert len(others) >= 2
        # Ctrl-C in a terminal goes to all processes of the group, SIGTERM to the first process only.
        if number == signal.SIGINT:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        assert process.wait(timeout=60) == 130
    _, alive = psutil.wait_procs(others, timeout=10)
    assert alive == []
    assert list((out / "cache").iterdir()) == []
    assert "Traceback" not in errors.read_text()
