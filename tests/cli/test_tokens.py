"""Run both actions of ``streamasr tokens``, from text to the file that a recipe names."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from streamasr.cli import main
from streamasr.decoding.tokens import TokenList
from streamasr.training.tokenizer import load_sentencepiece, sentencepiece_tokens


def test_pieces_are_trained_from_several_kinds_of_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain, packed, manifest = tmp_path / "a.txt", tmp_path / "b.txt.gz", tmp_path / "c.jsonl"
    plain.write_text("The boat left the harbour.\n")
    with gzip.open(packed, "wt") as file:
        file.write("She read the letter.\n")
    manifest.write_text('{"audio_filepath": "x", "duration": 1, "text": "the other boat"}\n')
    out = tmp_path / "made" / "tokenizer.model"
    texts = [str(path) for path in (plain, packed, manifest)]
    assert main(["tokens", "train", *texts, "--size", "30", "--out", str(out)]) == 0
    assert "30 tokens" in capsys.readouterr().out
    tokens = sentencepiece_tokens(load_sentencepiece(out))
    assert tokens.decode(load_sentencepiece(out).encode("the other letter")) == "the other letter"


def test_characters_are_collected_and_rare_ones_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, out, counts = tmp_path / "zh.txt", tmp_path / "tokens.txt", tmp_path / "counts.tsv"
    text.write_text("今天天气好\n今天 有雨，好！\n", encoding="utf-8")
    arguments = ["--language", "zh", "--no-separator", "--min-count", "2", "--counts", str(counts)]
    assert main(["tokens", "characters", str(text), *arguments, "--out", str(out)]) == 0
    assert TokenList.load(out).tokens == ("<blank>", *sorted("今天好"))
    assert counts.read_text(encoding="utf-8").splitlines()[0] == "天\t3"
    assert "4 tokens, 3 characters left out" in capsys.readouterr().out


def test_letters_keep_their_separator(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("b a\n")
    out = tmp_path / "tokens.txt"
    assert main(["tokens", "characters", str(tmp_path / "a.txt"), "--out", str(out)]) == 0
    assert out.read_text() == "<blank>\n<space>\na\nb\n"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["train", "nowhere.txt"], "nowhere.txt: no such file"),
        (["train", "{text}", "--size", "4000"], "cannot make 4000 pieces"),
        (["characters", "{marks}", "--language", "zh"], "no characters of 'zh'"),
        (["characters", "{text}", "--min-count", "0"], "--min-count must be positive, got 0"),
    ],
)
def test_errors_are_reported_and_leave_no_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], complaint: str
) -> None:
    (tmp_path / "a.txt").write_text("abc\n")
    (tmp_path / "b.txt").write_text("...\n")
    filled = [word.format(text=tmp_path / "a.txt", marks=tmp_path / "b.txt") for word in arguments]
    assert main(["tokens", *filled, "--out", str(tmp_path / "out")]) == 1
    assert complaint in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
