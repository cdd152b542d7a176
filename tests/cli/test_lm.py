"""Run ``streamasr lm`` from text to a tuned language model in a model folder."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import soundfile

from streamasr.cli import main
from streamasr.config import ModelConfig
from streamasr.toml import load_toml
from tests.recognition.tiny import noise, save_model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model folder with a language model."""
    folder = save_model(tmp_path / "tiny")
    (tmp_path / "text").write_text("a bad cab\na cab fed a bee\nbad bees fade\n" * 3)
    assert main(["lm", "build", str(tmp_path / "text"), "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    rows = []
    for index in range(2):
        soundfile.write(tmp_path / f"{index}.wav", noise(1.0, seed=index), 16_000)
        rows.append(json.dumps({"audio_filepath": f"{index}.wav", "duration": 1.0, "text": "a bad cab"}))
    (tmp_path / "manifest.jsonl").write_text("\n".join(rows))
    return tmp_path / "manifest.jsonl"


SMALL = ["--chunk-ms", "160", "--beam", "4", "--alpha", "0.1", "1", "--beta", "0", "--halvings", "0"]
SMALL += ["--blank-penalty", "0"]


def test_the_best_weights_are_shown_and_written_where_asked(
    folder: Path, manifest: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    before = (folder / "config.toml").read_text()
    assert main(["lm", "tune", "--model", str(folder), "--manifest", str(manifest), *SMALL]) == 0
    out = capsys.readouterr().out
    assert (folder / "config.toml").read_text() == before
    assert "of 3 trials" in out
    assert "*0.5" in out
    assert re.search(r"best: alpha = [\d.]+, beta = [\d.]+, blank_penalty = 0: WER [\d.]+ %", out)
    command = ["lm", "tune", "--model", str(folder), "--manifest", str(manifest), *SMALL, "--json", "--write"]
    assert main(command) == 0
    found = json.loads(capsys.readouterr().out)
    rates = [trial["error_rate"] for trial in found["trials"]]
    assert rates == sorted(rates)
    decoder = load_toml(ModelConfig, folder / "config.toml").decoder
    assert all(getattr(decoder, name) == found[name] for name in ("alpha", "beta", "blank_penalty"))


@pytest.mark.parametrize(("flag", "value"), [("--beam", "0"), ("--limit", "-1"), ("--chunk-ms", "0")])
def test_values_must_be_positive(
    folder: Path, manifest: Path, capsys: pytest.CaptureFixture[str], flag: str, value: str
) -> None:
    arguments = ["lm", "tune", "--model", str(folder), "--manifest", str(manifest), flag, value]
    assert main(arguments) == 1
    assert f"{flag} must be positive, got {value}" in capsys.readouterr().err


def test_a_text_held_out_gives_perplexity_and_unknown_words(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "dev").write_text("a bad zebra\n")
    build = ["lm", "build", str(tmp_path / "text"), "--out", str(folder), "--held-out", str(tmp_path / "dev")]
    assert main(build) == 0
    assert re.search(r"dev: perplexity [\d.]+, 1 of 3 words \(33\.33%\) unknown", capsys.readouterr().out)


def test_mandarin_characters_are_words_by_the_language_of_the_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "zh"
    folder.mkdir()
    (folder / "config.toml").write_text('name = "m"\nlanguage = "zh"\n')
    (tmp_path / "text").write_text("今天天气很好。\n今天 下午有雨！\n", encoding="utf-8")
    (tmp_path / "dev").write_text("今天有雪\n", encoding="utf-8")
    build = ["lm", "build", str(tmp_path / "text"), "--out", str(folder), "--held-out", str(tmp_path / "dev")]
    assert main(build) == 0
    assert "1 of 4 words" in capsys.readouterr().out
    assert (folder / "unigrams.txt").read_text(encoding="utf-8").split() == sorted("今天气很好下午有雨")
    measure = [
        "lm",
        "perplexity",
        str(folder / "lm.bin"),
        str(tmp_path / "dev"),
        "--language",
        "zh",
        "--json",
    ]
    assert main(measure) == 0
    assert json.loads(capsys.readouterr().out)["oov_words"] == 1
