"""Test text sources: formats, vocabulary, word ids and errors."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from streamasr.errors import DataError
from streamasr.lm.corpus import SPECIALS, choose_vocabulary, encode, read_sentences


def test_plain_gzip_and_manifest_give_the_same_sentences(tmp_path: Path) -> None:
    plain, packed, manifest = (tmp_path / name for name in ("a.txt", "a.txt.gz", "a.jsonl"))
    plain.write_text("It’s late!\n\n42\nGood night.\n", encoding="utf-8")
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    manifest.write_text(
        '{"text": "It’s late!"}\n\n{"text": "Good night.", "duration": 1}\n', encoding="utf-8"
    )
    for path in (plain, packed, manifest):
        assert list(read_sentences(path)) == ["it's late", "good night"]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.txt", b"\xff\xfe\xff", "UTF-8"),
        ("a.txt.gz", b"plain", "cannot be read"),
        ("a.jsonl", b"[" * 100_000, "a.jsonl:1: expected a JSON object with a string field 'text'"),
        ("a.jsonl", b'{"text": 3}\n', "a.jsonl:1: expected a JSON object with a string field 'text'"),
        ("a.jsonl", b'{"text": "fine"}\n[1]\n', "a.jsonl:2"),
    ],
)
def test_a_bad_source_is_named_with_a_reason(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=name) as caught:
        list(read_sentences(tmp_path / name))
    assert reason in caught.value.message


def test_a_missing_source_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.txt: no such file"):
        list(read_sentences(tmp_path / "none.txt"))


def test_the_vocabulary_has_the_most_frequent_words_and_breaks_ties_alphabetically() -> None:
    text = ["b b b", "c a", "c a", "d"]
    assert choose_vocabulary(text, max_words=2, min_count=1) == (*SPECIALS, "a", "b")
    assert choose_vocabulary(text, max_words=9, min_count=2) == (*SPECIALS, "a", "b", "c")


def test_ids_mark_sentences_unknown_words_and_sources() -> None:
    corpus = encode([["a b", "c"], ["b"]], (*SPECIALS, "a", "b"))
    assert corpus.ids.tolist() == [1, 3, 4, 2, 1, 0, 2, 1, 4, 2]
    assert corpus.source_ends == (7, 10)


def test_an_empty_source_is_refused() -> None:
    with pytest.raises(DataError, match="source 2 has no words"):
        encode([["a"], []], (*SPECIALS, "a"))
