"""Written words have the times and confidences of the spoken ones, and committed text never changes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamasr.decoding.hypothesis import Word
from streamasr.formatting import formatter_for
from streamasr.punctuation.base import Boundary, Punctuated
from streamasr.recognition.written_form import WordFormatter
from tests.punctuation.tiny import tagger

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


class _Script:
    """A punctuator with a look-ahead of two words that knows where the marks and the names are."""

    look_ahead = 2
    marks: ClassVar = {"men": ".", "yes": ",", "there": "?", "five": "."}

    def initial_state(self) -> tuple[str, ...]:
        return ()

    def step(
        self,
        state: tuple[str, ...],
        words: Sequence[str],
        pauses_ms: Sequence[float] | None,
        boundary: Boundary | None,
    ) -> tuple[tuple[str, ...], list[Punctuated]]:
        assert pauses_ms is not None
        assert all(pause >= 0 for pause in pauses_ms)
        waiting = (*state, *words)
        count = len(waiting) if boundary else max(0, len(waiting) - self.look_ahead)
        decisions = [Punctuated({"anna": "Anna"}.get(w, w), self.marks.get(w, "")) for w in waiting[:count]]
        if boundary is Boundary.END and decisions and not decisions[-1].mark:
            decisions[-1] = decisions[-1]._replace(mark=".")
        return waiting[count:], decisions


def punctuating() -> WordFormatter:
    return WordFormatter(formatter_for("en"), _Script(), frame_ms=20)


def text_of(words: Iterable[Word]) -> str:
    return " ".join(word.text for word in words)


def test_marks_and_capitals_come_with_digits_and_times() -> None:
    spoken = words_of("yes anna saw twenty five men i was there")
    written = punctuating().format_final(spoken, ends_sentence=True)
    assert text_of(written) == "Yes, Anna saw 25. Men. I was there?"
    assert [(word.start_frame, word.end_frame) for word in written[2:5]] == [(20, 28), (30, 48), (50, 58)]


def test_a_final_ends_with_a_mark_unless_its_sentence_goes_on() -> None:
    assert text_of(punctuating().format_final(words_of("it was anna"), ends_sentence=True)) == "It was Anna."
    assert text_of(punctuating().format_final(words_of("it was anna"), ends_sentence=False)) == "It was Anna"


def test_the_next_utterance_begins_a_sentence_where_the_last_one_ended_it() -> None:
    for text, ends, expected in (
        ("it was", False, "so"),
        ("it was", True, "So"),
        ("it was there", False, "So"),
    ):
        formatter = punctuating()
        formatter.next_utterance(words_of(text), ends_sentence=ends)
        assert text_of(formatter.format(words_of("so it is"), 0)[0]) == f"{expected} it is"


def test_marks_wait_for_the_words_behind_them() -> None:
    formatter = punctuating()
    written, stable = formatter.format(words_of("yes there"), 2)
    assert (text_of(written), stable) == ("Yes there", 0)
    written, stable = formatter.format(words_of("yes there were men"), 3)
    assert (text_of(written), stable) == ("Yes, there? Were men", 1)
    written, stable = formatter.format(words_of("yes there were men and"), 5)
    assert (text_of(written), stable) == ("Yes, there? Were men and", 3)


def test_an_end_mark_divides_numbers() -> None:
    written = punctuating().format_final(words_of("take twenty five one hundred men"), ends_sentence=True)
    assert text_of(written) == "Take 25. 100 men."


def test_languages_without_rules_have_marks() -> None:
    formatter = WordFormatter(None, _Script(), frame_ms=20)
    assert text_of(formatter.format_final(words_of("yes twenty"), ends_sentence=True)) == "Yes, twenty."


PUNCTUATED = [*VOCABULARY.split(), "anna", "mcdonald", "where"]


@given(
    st.lists(st.lists(st.sampled_from(PUNCTUATED), max_size=12), min_size=1, max_size=3),
    st.lists(st.tuples(st.integers(0, 12), SPOKEN), max_size=4),
    st.booleans(),
    st.integers(0, 3),
)
def test_committed_text_begins_all_later_texts_with_a_model_and_finals_need_no_partials(
    utterances: list[list[str]], partials: list[tuple[int, list[str]]], ends: bool, seed: int
) -> None:
    model = tagger(seed)
    formatter = WordFormatter(formatter_for("en"), model, frame_ms=20)
    quiet = WordFormatter(formatter_for("en"), model, frame_ms=20)
    for spoken in filter(None, utterances):
        shown = ""
        for committed, tail in sorted((min(count, len(spoken)), tail) for count, tail in partials):
            written, stable = formatter.format(words_of(" ".join([*spoken[:committed], *tail])), committed)
            text = text_of(written[:stable])
            assert text.startswith(shown)
            shown = text
        words = words_of(" ".join(spoken))
        final = text_of(formatter.format_final(words, ends_sentence=ends))
        assert final.startswith(shown)
        assert text_of(quiet.format_final(words, ends_sentence=ends)) == final
        for each in (formatter, quiet):
            each.next_utterance(words, ends_sentence=ends)
