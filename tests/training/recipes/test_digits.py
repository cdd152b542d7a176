"""Test a shortened run of the digits recipe, from import to transcript, on digits spelt in tones.

benchmarks/digits_baseline.py measures the recipe on recorded digits.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from streamasr.cli import main
from streamasr.frontend.pcm import Samples
from streamasr.manifest import read_manifest
from streamasr.report.results import read_evaluation
from streamasr.toml import to_toml
from streamasr.training.config import load_recipe
from streamasr.training.data.importers.fsdd import WORDS

RATE = 8_000
RECORDINGS = 7
STEPS = 60


def tones(word: str, speaker: int) -> Samples:
    """Return 60 ms per letter, each letter with its own pitch, slightly higher for each speaker."""
    time = np.arange(round(0.06 * RATE)) / RATE
    pitches = [(200 + 110 * (ord(letter) - ord("a"))) * (1 + 0.02 * speaker) for letter in word]
    tones_S = np.concatenate([0.3 * np.sin(2 * np.pi * pitch * time) for pitch in pitches])
    return np.asarray(tones_S, dtype=np.float32)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two speakers, in the layout of the dataset."""
    folder = tmp_path_factory.mktemp("digits")
    (folder / "fsdd" / "recordings").mkdir(parents=True)
    for digit, word in enumerate(WORDS):
        for number, speaker in enumerate(("ada", "ben")):
            for index in range(RECORDINGS):
                path = folder / "fsdd" / "recordings" / f"{digit}_{speaker}_{index}.wav"
                soundfile.write(path, tones(word, number), RATE)
    return folder


def test_the_commands_of_the_recipe_give_a_working_model(
    corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    speech, run = corpus / "speech", corpus / "run"
    for split in ("train", "test"):
        manifest = speech / "digits" / f"{split}.jsonl"
        command = ["data", "import", "fsdd", str(corpus / "fsdd"), str(manifest), "--split", split]
        assert main([*command, "--workers", "1"]) == 0
    assert len(read_manifest(speech / "digits" / "train.jsonl")) == 2 * 10 * (RECORDINGS - 5)
    assert len(read_manifest(speech / "digits" / "test.jsonl")) == 2 * 10 * 5

    full = load_recipe("digits")
    short = replace(full, optim=replace(full.optim, steps=STEPS), log_every_steps=STEPS)
    recipe = corpus / "short.toml"
    recipe.write_text(to_toml(short), encoding="utf-8")
    command = ["train", str(recipe), "--data", str(speech), "--out", str(run), "--device", "cpu"]
    assert main([*command, "--no-tensorboard"]) == 0
    evaluation = read_evaluation(run / "evaluation.json")
    assert {measured.utterances for measured in evaluation.measurements} == {100}

    capsys.readouterr()
    audio = corpus / "fsdd" / "recordings" / "7_ada_0.wav"
    assert main(["transcribe", str(audio), "--local", "--model", str(run / "model")]) == 0
    assert set(capsys.readouterr().out) <= set(full.tokens.characters) | {" ", "\n"}


def test_all_digits_can_be_spelt() -> None:
    assert {letter for word in WORDS for letter in word} == set(load_recipe("digits").tokens.characters)
