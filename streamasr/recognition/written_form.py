"""Convert recognised words to their written form, with the times and confidences of the words they replace."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import inf, prod
from typing import Any

from streamasr.decoding.hypothesis import Word
from streamasr.formatting import Formatter, WrittenWord
from streamasr.punctuation.base import END_MARKS, Boundary, Punctuated, Punctuator, begin_sentence


class WordFormatter:
    """Writes the words of one session's utterances: numbers as digits by rules, capitals and marks by a model.

    Args:
        formatter: the language's rules; ``None`` leaves numbers as they were spoken.
        punctuator: decides on capitals and marks; without one, the rules write the capitals, and no marks.
        frame_ms: length of a frame of the words' times, for the pauses between them.
    """

    def __init__(
        self, formatter: Formatter | None, punctuator: Punctuator | None = None, frame_ms: float = 0.0
    ) -> None:
        self._formatter = formatter
        self._punctuated = None if punctuator is None else _PunctuatedUtterance(punctuator, frame_ms)
        self.begins_sentence = True
        """Whether the current utterance begins a sentence."""

    def format(self, words: Sequence[Word], committed: int) -> tuple[tuple[Word, ...], int]:
        """Return the written words of an utterance so far, and how many of them are final.

        Args:
            words: the spoken words.
            committed: number of spoken words that never change again. Fewer written words may be final: *five* may
                still follow *twenty*, and a mark depends on the words after it.
        """
        if self._punctuated is not None:
            decisions, decided = self._punctuated.preview(words, committed)
            return self._write(words, decisions, decided)
        if self._formatter is None:
            return tuple(words), committed
        texts = [word.text for word in words]
        stable = self._formatter.stable_count(texts[:committed])
        return _merged(self._formatter.write(texts, begins_sentence=self.begins_sentence), words, stable)

    def format_final(self, words: Sequence[Word], *, ends_sentence: bool) -> tuple[Word, ...]:
        """Return the written words of a finished utterance, or of an alternative for it.

        Args:
            words: the spoken words; in the utterance's text, the committed ones are at the beginning.
            ends_sentence: whether the sentence ends too; then there is an end mark after the last word.
        """
        if self._punctuated is not None:
            decisions = self._punctuated.finish(words, ends_sentence=ends_sentence)
            return self._write(words, decisions, len(words))[0]
        return self.format(words, len(words))[0]

    def next_utterance(self, words: Sequence[Word], *, ends_sentence: bool) -> None:
        """Go on to the utterance after the final of ``words``."""
        self.begins_sentence = ends_sentence
        if self._punctuated is not None:
            decisions = self._punctuated.finish(words, ends_sentence=ends_sentence)
            self.begins_sentence = ends_sentence or decisions[-1].mark in END_MARKS
            self._punctuated.next_utterance(words, ends_sentence=ends_sentence)

    def start_stream(self) -> None:
        """Go on to a stream that counts its frames from 0; it begins a sentence."""
        self.begins_sentence = True
        if self._punctuated is not None:
            self._punctuated.start_stream()

    def _write(
        self, words: Sequence[Word], decisions: Sequence[Punctuated], decided: int
    ) -> tuple[tuple[Word, ...], int]:
        texts = [word.text for word in words]
        stable = decided if self._formatter is None else self._formatter.stable_count(texts[:decided])
        written: list[WrittenWord] = []
        begins = self.begins_sentence
        for start, end in _sentences(decisions):
            at = start
            for text, count in self._in_digits(texts[start:end]):
                decision = decisions[at + count - 1]
                if text == texts[at]:
                    text = decision.text  # noqa: PLW2901
                text = begin_sentence(text) if begins and at == start else text  # noqa: PLW2901
                written.append(WrittenWord(text + decision.mark, count))
                at += count
            begins = decisions[end - 1].mark in END_MARKS
        return _merged(written, words, stable)

    def _in_digits(self, texts: Sequence[str]) -> Sequence[WrittenWord]:
        if self._formatter is None:
            return [WrittenWord(text, 1) for text in texts]
        return self._formatter.write(texts, begins_sentence=False)


class _PunctuatedUtterance:
    """Keeps what a punctuator has decided about the current utterance; decisions on committed words stay."""

    def __init__(self, punctuator: Punctuator, frame_ms: float) -> None:
        self._punctuator = punctuator
        self._frame_ms = frame_ms
        self._previous_end = -inf
        """The frame at which the previous utterance's last word ended."""
        self._start = punctuator.initial_state()
        """The state before the utterance."""
        self._state, self._added = self._start, 0
        """The state after the committed words that were added, and their number."""
        self._decisions: list[Punctuated] = []
        """On the added words whose look-ahead is complete."""

    def preview(self, words: Sequence[Word], committed: int) -> tuple[list[Punctuated], int]:
        """Return decisions on all words, and how many of them are final.

        Words whose look-ahead is not complete have no mark yet.
        """
        if committed > self._added:
            self._state, decisions = self._step(self._state, words, self._added, committed)
            self._decisions += decisions
            self._added = committed
        state, decisions = self._step(self._state, words, self._added, len(words))
        _, undecided = self._punctuator.step(state, (), (), Boundary.CUT)
        return (
            [*self._decisions, *decisions, *(decision._replace(mark="") for decision in undecided)],
            len(self._decisions),
        )

    def finish(self, words: Sequence[Word], *, ends_sentence: bool) -> list[Punctuated]:
        """Return decisions on all words of a final, or of an alternative for it."""
        return self._step(self._start, words, 0, len(words), _boundary(ends_sentence))[1]

    def next_utterance(self, words: Sequence[Word], *, ends_sentence: bool) -> None:
        """Go on to the utterance after the final of ``words``."""
        self._start, _ = self._step(self._start, words, 0, len(words), _boundary(ends_sentence))
        self._state, self._added, self._decisions = self._start, 0, []
        self._previous_end = words[-1].end_frame if words else self._previous_end

    def start_stream(self) -> None:
        """Go on to a stream that counts its frames from 0."""
        self._previous_end = -inf

    def _step(
        self, state: Any, words: Sequence[Word], start: int, end: int, boundary: Boundary | None = None
    ) -> tuple[Any, list[Punctuated]]:
        ends = [self._previous_end, *(word.end_frame for word in words)]
        gaps = [max(0, words[at].start_frame - ends[at]) for at in range(start, end)]
        pauses_ms = [gap * self._frame_ms for gap in gaps]
        return self._punctuator.step(state, [word.text for word in words[start:end]], pauses_ms, boundary)


def _boundary(ends_sentence: bool) -> Boundary:
    return Boundary.END if ends_sentence else Boundary.CUT


def _sentences(decisions: Sequence[Punctuated]) -> Iterator[tuple[int, int]]:
    """Yield the parts ``[start, end)`` between end marks."""
    start = 0
    for at, decision in enumerate(decisions, start=1):
        if decision.mark in END_MARKS or at == len(decisions):
            yield start, at
            start = at


def _merged(
    written: Sequence[WrittenWord], words: Sequence[Word], stable: int
) -> tuple[tuple[Word, ...], int]:
    merged: list[Word] = []
    spoken_words = stable_words = 0
    for text, count in written:
        merged.append(merge(text, words[spoken_words : spoken_words + count]))
        spoken_words += count
        stable_words += spoken_words <= stable
    return tuple(merged), stable_words


def merge(text: str, words: Sequence[Word]) -> Word:
    """Return one word in place of several, from the first one's start to the last one's end.

    Its confidence is the probability that all are right: the product of theirs, as if errors were independent.
    """
    return replace(
        words[0],
        text=text,
        end_frame=words[-1].end_frame,
        confidence=prod(word.confidence for word in words),
    )
