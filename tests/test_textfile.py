"""Test that text files of other systems are read: with a byte order mark, with CRLF, with rare separators."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from streamasr.config import ModelConfig
from streamasr.decoding.tokens import TokenList
from streamasr.errors import ConfigError
from streamasr.evaluation.settings import write_settings
from streamasr.lm.corpus import read_text as read_corpus
from streamasr.manifest import read_manifest
from streamasr.punctuation.corpus import read_lines as read_punctuated
from streamasr.service.config import load_config
from streamasr.synthesis.sentences import ScriptConfig, script_lines
from streamasr.textfile import read_lines
from streamasr.toml import load_toml, to_toml
from streamasr.training.config import TrainConfig
from streamasr.training.data.importers.layout import require_lines
from streamasr.training.data.inspection.check import CheckOptions, check_manifests

BOM = "\ufeff"


def write(path: Path, *lines: str) -> Path:
    path.write_bytes((BOM + "".join(f"{line}\r\n" for line in lines)).encode())
    return path


def test_lines(tmp_path: Path) -> None:
    assert read_lines(write(tmp_path / "a.txt", "one", "", "t\u2028w\x85o")) == ["one", "", "t\u2028w\x85o"]
    (tmp_path / "b.txt").write_bytes(b"one\ntwo")
    assert read_lines(tmp_path / "b.txt") == ["one", "two"]
    (tmp_path / "c.txt").write_bytes(b"")
    assert read_lines(tmp_path / "c.txt") == []


def test_manifests(tmp_path: Path) -> None:
    rows = [{"audio_filepath": f"{n}.wav", "duration": 1.0, "text": f"a\u2028b {n}"} for n in range(2)]
    path = write(tmp_path / "m.jsonl", *(json.dumps(row, ensure_ascii=False) for row in rows))
    assert [utterance.text for utterance in read_manifest(path)] == ["a\u2028b 0", "a\u2028b 1"]
    checked = check_manifests([path], CheckOptions())
    assert checked.utterances == 2
    assert not [finding for finding in checked.findings if finding.kind == "line"]


def test_token_lists(tmp_path: Path) -> None:
    assert TokenList.load(write(tmp_path / "tokens.txt", "<blank>", "<space>", "a", "b")).tokens == (
        "<blank>", "<space>", "a", "b",
    )  # fmt: skip


def test_transcripts_and_corpora(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "hello there", "again")
    assert require_lines(path, "a folder", "text") == ["hello there", "again"]
    assert [line.rstrip("\n") for line in read_corpus(path)] == ["hello there", "again"]
    assert list(read_punctuated([path])) == ["hello there", "again"]


def test_recipes(tmp_path: Path) -> None:
    recipes = Path(__file__).parents[1] / "streamasr" / "training" / "recipes"
    name = next(iter(sorted(recipes.glob("*.toml"))))
    copy = write(tmp_path / "recipe.toml", *name.read_text(encoding="utf-8").splitlines())
    assert load_toml(TrainConfig, copy) == load_toml(TrainConfig, name)
    assert to_toml(load_toml(TrainConfig, copy)) == to_toml(load_toml(TrainConfig, name))


def test_the_configuration_of_a_model(tmp_path: Path) -> None:
    path = write(
        tmp_path / "config.toml", "[decoder]", "alpha = 0.5 # tuned", "", "[endpointing]", "pause_ms = 900"
    )
    path.write_bytes(path.read_bytes().replace(BOM.encode(), BOM.encode() + b'name = "x"\r\n'))
    write_settings(path, "decoder", {"alpha": 0.7})
    config = load_toml(ModelConfig, path)
    assert (config.decoder.alpha, config.endpointing.pause_ms) == (0.7, 900)
    assert path.read_text(encoding="utf-8").startswith('name = "x"\n[decoder]\nalpha = 0.7 # tuned\n')


def test_the_settings_and_the_token_of_the_daemon(tmp_path: Path) -> None:
    token = write(tmp_path / "token", "a" * 24)
    path = write(tmp_path / "streamasr.toml", f"token_file = {json.dumps(str(token))}", "max_connections = 3")
    config = load_config({}, {}, path)
    assert (config.token, config.max_connections) == ("a" * 24, 3)
    path.write_bytes("port = 9000 # Zürich".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"streamasr\.toml: not UTF-8"):
        load_config({}, {}, path)


def test_texts_for_synthesis(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "the committee has chosen the second proposal")
    lines = script_lines([path], ScriptConfig(min_count=1, numbers=0.0))
    assert list(lines) == ["the committee has chosen the second proposal"]
