"""Test how marks and capitals on recognised words are counted."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import punctuation_speech
import pytest
from punctuation_speech import (
    Recording,
    SpokenUtterance,
    add_recording,
    label_recording,
    recognise_all,
    with_spoken_words,
    write_by_lines,
    write_by_session,
    write_without_pauses,
)

from streamasr.decoding.hypothesis import Word
from streamasr.punctuation.base import Boundary, Punctuated
from streamasr.punctuation.labels import Labeller
from streamasr.punctuation.scoring import Scores

FRAME_MS = 20.0


class LoudPunctuator:
    """Writes a comma after a pause of 200 ms, a full stop at the end, and *Anna* with a capital."""

    look_ahead = 0

    def initial_state(self) -> tuple[str, ...]:
        return ()

    def step(
        self, state: Any, words: Sequence[str], pauses_ms: Sequence[float] | None, boundary: Boundary | None
    ) -> tuple[Any, list[Punctuated]]:
        decisions = []
        for at, word in enumerate(words):
            last = at + 1 == len(words)
            mark = "," if not last and pauses_ms is not None and pauses_ms[at + 1] >= 200 else ""
            mark = "." if last and boundary == Boundary.END else mark
            decisions.append(Punctuated("Anna" if word == "anna" else word, mark))
        return (*state, *words), decisions


def spoken(text: str, *, start: int = 0, ends_sentence: bool = True, gap: int = 0) -> SpokenUtterance:
    """An utterance with words of 10 frames."""
    words = (
        Word(word, start + at * (10 + gap), start + at * (10 + gap) + 10, 1.0)
        for at, word in enumerate(text.split())
    )
    return SpokenUtterance(tuple(words), ends_sentence)


def written(text: str) -> tuple[list[str], list[Punctuated]]:
    """The bare words of a written text, and the decisions on them."""
    decisions = [Punctuated(word.rstrip(".,?"), word[len(word.rstrip(".,?")) :]) for word in text.split()]
    return [decision.text.lower() for decision in decisions], decisions


def counted(book: str, recognised: str) -> dict[str, tuple[int, int, int]]:
    """What is right, written and expected of each kind."""
    scores = Scores()
    add_recording(scores, label_recording(Labeller("en"), book), *written(recognised))
    return {kind: (c.right, c.written, c.expected) for kind, c in scores.counts.items()}


def test_everything_is_right_on_the_text_of_the_book() -> None:
    text = "Well, did Anna go? She went."
    assert counted(text, text) == {
        ".": (1, 1, 1),
        ",": (1, 1, 1),
        "?": (1, 1, 1),
        "capitals": (3, 3, 3),
        "capitals inside sentences": (1, 1, 1),
    }


def test_a_mark_and_a_capital_at_a_wrong_word_count() -> None:
    counts = counted("I met Anna, and we went.", "I met Hannah, and we want.")
    assert counts[","] == (1, 1, 1)
    assert counts["."] == (1, 1, 1)
    assert counts["capitals inside sentences"] == (1, 1, 1)


def test_a_wrong_word_with_another_casing_is_wrong() -> None:
    assert counted("I met Anna here.", "I met ANTON here.")["capitals inside sentences"] == (0, 1, 1)
    assert counted("I met Anna here.", "I met an here.")["capitals inside sentences"] == (0, 0, 1)


def test_a_mark_at_another_place_is_missing_and_wrong() -> None:
    assert counted("If so, we go.", "If so we, go.")[","] == (0, 1, 1)


def test_marks_and_capitals_of_a_missing_word_are_missing() -> None:
    counts = counted("We met there Anna, and went.", "We met there and went.")
    assert counts[","] == (0, 0, 1)
    assert counts["capitals inside sentences"] == (0, 0, 1)


def test_marks_and_capitals_of_an_additional_word_are_wrong() -> None:
    counts = counted("We met there and went.", "We met there Anna, and went.")
    assert counts[","] == (0, 1, 0)
    assert counts["capitals inside sentences"] == (0, 1, 0)


def test_a_recording_that_ends_within_a_sentence_has_no_mark_to_find_at_its_end() -> None:
    assert counted("We went, and she", "We went, and she.")["."] == (0, 0, 0)
    assert counted("We went, and she,", "We went, and she.")["."] == (0, 0, 0)
    assert counted("We went, “and she.”", "We went, and she.")["."] == (1, 1, 1)


def test_a_recording_that_begins_within_a_sentence_has_no_capital_to_find_at_its_start() -> None:
    assert counted("and then we went.", "And then we went.")["capitals"] == (0, 0, 0)
    assert counted("Then we went.", "Then we went.")["capitals"] == (1, 1, 1)


def test_nothing_recognised_leaves_everything_missing() -> None:
    counts = counted("We met Anna.", "")
    assert counts["."] == (0, 0, 1)
    assert counts["capitals"] == (0, 0, 2)


def test_spoken_words_get_the_times_and_the_utterances_of_the_recognised_ones() -> None:
    recording = [spoken("we went"), spoken("there the anna", start=100)]
    result = with_spoken_words(["we", "all", "went", "there", "anna"], recording)
    times = [[(word.text, word.start_frame, word.end_frame) for word in words] for words, _ in result]
    assert times == [
        [("we", 0, 10), ("all", 10, 10), ("went", 10, 20)],
        [("there", 100, 110), ("anna", 120, 130)],
    ]


def test_spoken_words_of_a_recording_without_a_recognised_word_are_one_utterance() -> None:
    ((words, ends_sentence),) = with_spoken_words(["we", "went"], [])
    assert [word.text for word in words] == ["we", "went"]
    assert ends_sentence


def test_a_final_without_a_spoken_word_is_left_out() -> None:
    recording = [spoken("we went"), spoken("um", start=100)]
    assert len(with_spoken_words(["we", "went"], recording)) == 1


def test_a_session_writes_pauses_utterances_and_sentence_capitals() -> None:
    recording = [spoken("we met anna", gap=10), spoken("she", start=100, ends_sentence=False)]
    decisions = write_by_session(LoudPunctuator(), FRAME_MS)(recording)
    assert decisions == [("We", ","), ("met", ","), ("Anna", "."), ("She", "")]


def test_without_pauses_a_recording_is_one_utterance() -> None:
    recording = [spoken("we met anna", gap=10), spoken("she went", start=100)]
    decisions = write_without_pauses(LoudPunctuator())(recording)
    assert decisions == [("We", ""), ("met", ""), ("Anna", ""), ("she", ""), ("went", ".")]


def test_finals_up_to_the_end_of_a_sentence_are_a_line() -> None:
    lines: list[list[str]] = []

    def write(received: Any) -> Iterator[list[Punctuated]]:
        lines.extend(received)
        yield from ([Punctuated(word, "") for word in line] for line in received)

    recording = [spoken("we", ends_sentence=False), spoken("went"), spoken("she", ends_sentence=False)]
    assert [word for word, _ in write_by_lines(write)(recording)] == ["we", "went", "she"]
    assert lines == [["we", "went"], ["she"]]


def test_a_cached_recording_is_not_recognised_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recording = [spoken("we met anna"), spoken("she", start=100, ends_sentence=False)]
    asked: list[list[str]] = []

    def recognise(_: object, audio: Mapping[str, Path]) -> Iterator[tuple[str, Recording]]:
        asked.append(list(audio))
        yield from ((name, recording) for name in audio)

    monkeypatch.setattr(punctuation_speech, "recognise", recognise)
    cache = tmp_path / "finals.jsonl"
    model: Any = None
    first = recognise_all(model, {"a": Path("a.flac")}, cache)
    second = recognise_all(model, {"a": Path("a.flac"), "b": Path("b.flac")}, cache)
    assert asked == [["a"], ["b"]]
    assert first["a"] == second["a"] == second["b"] == recording

    row = json.loads(cache.read_text(encoding="utf-8").splitlines()[0])
    cache.write_text(json.dumps({**row, "model": "another"}) + "\n", encoding="utf-8")
    recognise_all(model, {"a": Path("a.flac")}, cache)
    assert asked[-1] == ["a"]
