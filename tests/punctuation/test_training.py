"""A model learns from written text, is stored in 8 bits, and the command says what is wrong."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from streamasr.cli import main
from streamasr.errors import ConfigError, ModelError
from streamasr.punctuation.base import Boundary
from streamasr.punctuation.corpus import build_corpora, build_vocabulary, token_stream
from streamasr.punctuation.features import UNKNOWN_ROW
from streamasr.punctuation.labels import OPEN
from streamasr.punctuation.loading import load_punctuator
from streamasr.punctuation.model_file import StoredModel, load_stored_model, save_model
from streamasr.punctuation.scoring import with_sentence_capitals
from streamasr.punctuation.sizes import NetworkConfig
from streamasr.punctuation.tagger import Tagger
from streamasr.punctuation.training import ALWAYS_KNOWN, TrainConfig, TrainingProgress, _forget_words, train
from tests.punctuation.tiny import CONFIG, SENTENCES, VOCABULARY, tagger

SMALL = NetworkConfig(word_rows=512, ngram_rows=256, dim=16, hidden=24, layers=1)


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "text.txt.gz"
    rng = random.Random(1)
    lines = [" ".join(rng.choices(SENTENCES, k=3)) for _ in range(1_200)]
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.write("\n".join(lines))
    return path


@pytest.fixture(scope="session")
def trained(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    reports: list[TrainingProgress] = []
    config = TrainConfig(epochs=8, learning_rate=2e-2, streams=16, tokens=32, threads=1)
    train([text], folder / "punctuation.safetensors", config, SMALL, report=reports.append)
    assert [report.validation for report in reports][-1] is not None
    assert reports[-1].loss < 0.3
    assert sorted(path.name for path in folder.iterdir()) == ["punctuation.safetensors"]
    return folder


def test_a_model_learns_marks_names_and_questions(trained: Path) -> None:
    punctuator = load_punctuator(trained)
    assert punctuator is not None
    words = "yes peter and i saw mcdonald in london where is peter now well anna went home"
    _, decisions = punctuator.step(punctuator.initial_state(), words.split(), None, Boundary.END)
    written = " ".join(
        decision.text + decision.mark for decision in with_sentence_capitals(decisions, begins=True)
    )
    assert written == "Yes, Peter and I saw McDonald in London. Where is Peter now? Well, Anna went home."


def test_the_end_of_training_is_a_matter_of_minutes_or_epochs(text: Path, tmp_path: Path) -> None:
    ticks = iter(range(0, 100_000, 10))
    reports: list[TrainingProgress] = []
    config = TrainConfig(epochs=1_000, minutes=5, streams=16, tokens=32, threads=1)
    out = tmp_path / "punctuation.safetensors"
    train([text], out, config, SMALL, report=reports.append, clock=lambda: float(next(ticks)))
    assert reports[-1].share >= 1
    assert reports[-1].step < 40
    assert out.is_file()


def test_a_stored_model_is_the_model_within_its_rounding(tmp_path: Path) -> None:
    before = tagger()
    mixed = {"mcdonald": "McDonald"}
    save_model(tmp_path / "p.safetensors", StoredModel(CONFIG, "en", mixed, VOCABULARY, before._weights))
    after = load_stored_model(tmp_path / "p.safetensors")
    assert (after.config, after.language, after.mixed) == (CONFIG, "en", mixed)
    assert after.vocabulary == VOCABULARY
    for name, value in before._weights.items():
        step = np.abs(value).max() / (127 if value.size > 10_000 else 1_024)
        assert np.abs(value - after.weights[name]).max() <= step, name


def test_damaged_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "punctuation.safetensors"
    with pytest.raises(ModelError, match=r"missing; `streamasr punctuation train`"):
        Tagger.load(path)
    path.write_bytes(b"no tensors")
    with pytest.raises(ModelError, match="not a safetensors file"):
        Tagger.load(path)
    save_file({"a": np.zeros(1)}, path)
    with pytest.raises(ModelError, match="not a punctuation model"):
        Tagger.load(path)
    weights = dict(tagger()._weights)
    weights["norm.bias"] = np.zeros(3, np.float32)
    save_model(path, StoredModel(CONFIG, "en", {}, VOCABULARY, weights))
    with pytest.raises(ModelError, match=r"tensor norm.bias must have the shape \(16,\), got \(3,\)"):
        Tagger.load(path)
    weights["norm.bias"] = np.full(16, np.nan, np.float32)
    save_model(path, StoredModel(CONFIG, "en", {}, VOCABULARY, weights))
    with pytest.raises(ModelError, match="not a finite number"):
        Tagger.load(path)
    words = [f"word{number}" for number in range(CONFIG.word_rows)]
    save_model(path, StoredModel(CONFIG, "en", {}, words, tagger()._weights))
    with pytest.raises(ModelError, match="it has 512 words, more than its 512 rows hold"):
        Tagger.load(path)


def test_a_stream_has_each_line_once_and_boundaries_between(text: Path) -> None:
    lines = [f"{sentence} {SENTENCES[1]}" for sentence in SENTENCES] * 120
    corpus, held_out, mixed = build_corpora(
        [f"{line} {at % 7 * 'and '}Anna." for at, line in enumerate(lines)], "en"
    )
    assert mixed == {"mcdonald": "McDonald"}
    assert len(corpus.lines) + len(held_out.lines) == len(lines)
    stream = token_stream(corpus, 3, np.random.default_rng(0))
    words = stream.ids < len(corpus.words)
    assert words.sum() == corpus.num_words
    boundaries = (~words).sum()
    assert boundaries % 3 == 0
    assert boundaries > corpus.num_words // 10
    assert (stream.marks[~words] == OPEN).all()
    assert (stream.casings[~words] == OPEN).all()
    assert set(stream.pauses[words]) == {0, 1, 2, 3, 4}


def test_an_entry_point_of_another_package_takes_the_place_of_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "upper-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: upper\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text("[streamasr.punctuation]\nupper = upper_punctuation:load\n")
    (tmp_path / "upper_punctuation.py").write_text("def load(folder):\n    return folder\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert load_punctuator(tmp_path, "upper") is tmp_path  # type: ignore[comparison-overlap]
    with pytest.raises(
        ModelError, match=r"no installed package has an entry point 'lower'.*installed: upper"
    ):
        load_punctuator(tmp_path, "lower")


def test_the_commands_train_and_evaluate(
    text: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "model"
    flags = ["--minutes", "0.02", "--threads", "1"]
    assert main(["punctuation", "train", str(text), "--out", str(out), *flags]) == 0
    assert "punctuation.safetensors: " in capsys.readouterr().out
    model = tmp_path / "en"
    model.mkdir()
    for name in ("config.toml", "tokens.txt", "encoder.onnx"):
        (model / name).write_text('name = "en"\n' if name == "config.toml" else "")
    assert main(["punctuation", "evaluate", str(text), "--model", str(model)]) == 1
    assert "`streamasr punctuation train` writes one" in capsys.readouterr().err
    (trained / "punctuation.safetensors").rename(model / "punctuation.safetensors")
    assert main(["punctuation", "evaluate", str(text), "--model", str(model), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    (model / "punctuation.safetensors").rename(trained / "punctuation.safetensors")
    assert all(figures["scores"][name]["f1"] > 0.95 for name in (".", ",", "?", "capitals"))
    assert figures["words"] > 10_000


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"\xff\xfe bad", "not UTF-8 text"),
        (b"", "too few lines"),
        (b"no marks at all\n" * 3, "too few lines"),
        (b"".join(b"Words of line %d without marks\n" % at for at in range(400)), "the text has no"),
    ],
)
def test_unusable_text_is_refused(
    content: bytes, expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(content)
    assert main(["punctuation", "train", str(path), "--out", str(tmp_path / "model")]) == 1
    assert expected in capsys.readouterr().err
    assert not (tmp_path / "model").exists()


def test_bad_settings_and_missing_files_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = str(tmp_path / "none.txt")
    assert main(["punctuation", "train", missing, "--out", str(tmp_path), "--epochs", "0"]) == 1
    assert "epochs must be positive, got 0" in capsys.readouterr().err
    assert main(["punctuation", "train", missing, "--out", str(tmp_path)]) == 1
    assert f"{missing}: cannot be read: No such file or directory" in capsys.readouterr().err


def test_the_vocabulary_has_the_most_frequent_words() -> None:
    lines = [f"{line} {at % 90 * 'and '}Anna." for at, line in enumerate(120 * SENTENCES)]
    corpus, _, _ = build_corpora([*lines, "Only once."], "en")
    assert build_vocabulary(corpus, word_rows=3) == ["and", "anna"]
    assert set(corpus.words) - set(build_vocabulary(corpus, word_rows=500)) == {"only", "once"}


def test_a_share_of_the_rarer_words_is_unknown_in_a_step() -> None:
    config = NetworkConfig(word_rows=3_000, ngram_rows=10)
    rows = torch.arange(config.rows)
    features_UF = torch.stack((rows, rows), dim=1)
    forgotten = _forget_words(features_UF, config, 0.25)
    unknown = (forgotten[:, 0] == UNKNOWN_ROW) & (rows != UNKNOWN_ROW)
    assert ((rows[unknown] > ALWAYS_KNOWN) & (rows[unknown] < config.word_rows)).all()
    assert 0.15 < unknown.sum() / (config.word_rows - ALWAYS_KNOWN) < 0.35
    assert forgotten[~unknown].equal(features_UF[~unknown])
    assert forgotten[:, 1:].equal(features_UF[:, 1:])
    with pytest.raises(ConfigError, match=r"unknown_share must be at least 0 and below 1, got 1\.0"):
        TrainConfig(unknown_share=1.0)
    with pytest.raises(ConfigError, match=r"dropout must be at least 0 and below 1, got -0\.1"):
        TrainConfig(dropout=-0.1)
