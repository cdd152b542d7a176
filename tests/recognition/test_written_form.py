"""Written words have the times and confidences of the spoken ones, and committed text never changes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamasr.decoding.hypothesis import Word
from streamasr.formatting import formatter_for
from streamasr.recognition.written_form import WordFormatter

VOCABULARY = "i said nineteen twenty four hundred and five oh point a first men"
SPOKEN = st.lists(st.sampled_from(VOCABULARY.split()), max_size=12)


def words_of(text: str, confidence: float = 0.5) -> list[Word]:
    return [Word(word, 10 * at, 10 * at + 8, confidence) for at, word in enumerate(text.split())]


def test_a_number_lasts_as_long_as_its_words_and_is_right_if_all_are() -> None:
    spoken = words_of("in nineteen eighty four i")
    written, committed = WordFormatter(formatter_for("en")).format(spoken, 5)
    assert [word.text for word in written] == ["In", "1984", "I"]
    assert (written[1].start_frame, written[1].end_frame) == (10, 38)
    assert written[1].confidence == pytest.approx(0.125)
    assert (written[0].start_frame, written[2].end_frame, committed) == (0, 48, 3)


def test_without_rules_words_stay_as_spoken() -> None:
    spoken = words_of("i was twenty")
    assert WordFormatter(None).format(spoken, 2) == (tuple(spoken), 2)


def test_a_number_that_may_go_on_is_not_committed() -> None:
    formatter = WordFormatter(formatter_for("en"))
    assert formatter.format(words_of("there were twenty"), 3)[1] == 2
    assert formatter.format(words_of("there were twenty five"), 3)[1] == 2
    assert formatter.format(words_of("there were twenty five men"), 5)[1] == 4


@given(SPOKEN, st.lists(st.tuples(st.integers(0, 12), SPOKEN), max_size=4), st.booleans())
def test_committed_text_begins_all_later_texts(
    spoken: list[str], partials: list[tuple[int, list[str]]], begins: bool
) -> None:
    formatter = WordFormatter(formatter_for("en"))
    formatter.begins_sentence = begins
    shown = ""
    for committed, tail in sorted((min(count, len(spoken)), tail) for count, tail in partials):
        written, stable = formatter.format(words_of(" ".join([*spoken[:committed], *tail])), committed)
        text = " ".join(word.text for word in written[:stable])
        assert text.startswith(shown)
        shown = text
    final, _ = formatter.format(words_of(" ".join(spoken)), len(spoken))
    assert " ".join(word.text for word in final).startswith(shown)
