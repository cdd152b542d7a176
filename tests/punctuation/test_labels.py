"""Written text becomes bare words with marks and cases."""

import pytest

from streamasr.punctuation.base import MARKS, begin_sentence
from streamasr.punctuation.labels import OPEN, Casing, Labeller, apply_casing, casing_of

ENGLISH = Labeller("en")


def labelled(line: str, labeller: Labeller = ENGLISH) -> str:
    """Each word as it was written, with its mark, and ``_`` for an open one."""
    return " ".join(w.written + ("_" if w.mark == OPEN else MARKS[w.mark]) for w in labeller.label(line))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('"Come on!" he said. "Now!"', "Come on, he said. Now."),
        ("Why? she asked: where; there", "Why? she asked, where, there"),
        ("She - at last - went... Then", "She_ at last_ went. Then"),
        ("It went on... and on:", "It went on_ and on."),
        ("He said, 'Yes.' The boys' dogs", "He said, Yes. The boys' dogs"),
        ("In the U.S. Army. There Mr. Bean is", "In the U S Army. There mister Bean is"),
        ("It cost $5.50, in 1984.", "It cost five point five zero dollars, in nineteen eighty four."),
        ("Welsh-medium schools (all of them)?", "Welsh medium schools all of them?"),
        ("...", ""),
        ("", ""),
    ],
)
def test_marks(line: str, expected: str) -> None:
    assert labelled(line) == expected


def test_lines_that_cannot_be_spelt_out_are_left_out() -> None:
    german = Labeller("de")
    assert labelled("Wo ist Jürgen? In Köln.", german) == "Wo ist Jürgen? In Köln."
    assert german.label("Es sind 20.") == []


def test_sentences_begin_behind_end_marks_only() -> None:
    words = ENGLISH.label("Well, he left. He did! Go! he said")
    assert [w.word for w in words if w.begins_sentence] == ["well", "he", "go"]


@pytest.mark.parametrize(
    ("written", "casing"),
    [
        ("went", Casing.LOWER),
        ("Anna", Casing.CAPITAL),
        ("I", Casing.CAPITAL),
        ("'Tis", Casing.CAPITAL),
        ("I'm", Casing.CAPITAL),
        ("BBC", Casing.UPPER),
        ("NASA's", Casing.UPPER),
        ("McDonald", Casing.MIXED),
    ],
)
def test_a_casing_writes_the_word_as_it_was(written: str, casing: Casing) -> None:
    assert casing_of(written) == casing
    assert apply_casing(written.lower(), casing, {"mcdonald": "McDonald"}) == written


def test_a_mixed_word_that_is_not_listed_has_a_capital() -> None:
    assert apply_casing("mcbride", Casing.MIXED, {}) == "Mcbride"


def test_sentences_begin_with_a_capital() -> None:
    assert [begin_sentence(word) for word in ("so", "'tis", "iPhone", "25", "")] == [
        "So",
        "'Tis",
        "iPhone",
        "25",
        "",
    ]
