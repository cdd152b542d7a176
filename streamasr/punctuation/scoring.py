"""Measure the F1 of marks and capitals against written text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from streamasr.formatting import Formatter
from streamasr.punctuation.base import END_MARKS, MARKS, Boundary, Punctuated, Punctuator, begin_sentence
from streamasr.punctuation.labels import OPEN, LabelledWord, Labeller

CAPITALS = "capitals"
NAMES = "capitals inside sentences"
"""Capitals of words that do not begin a sentence in the reference."""


@dataclass
class Counts:
    """Counts of one mark, or of the capitals: right ones, written ones, expected ones."""

    right: int = 0
    written: int = 0
    expected: int = 0

    @property
    def precision(self) -> float:
        """Share of those written that are right; 0 if none is written."""
        return self.right / self.written if self.written else 0.0

    @property
    def recall(self) -> float:
        """Share of those expected that are written; 0 if none is expected."""
        return self.right / self.expected if self.expected else 0.0

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall."""
        total = self.written + self.expected
        return 2 * self.right / total if total else 0.0

    def add(self, expected: object, written: object) -> None:
        """Count one place; ``None`` or an empty text stands for none."""
        self.expected += bool(expected)
        self.written += bool(written)
        self.right += bool(expected) and expected == written


@dataclass
class Scores:
    """Counts for each mark and for the capitals, over ``words`` words."""

    words: int = 0
    counts: dict[str, Counts] = field(
        default_factory=lambda: {name: Counts() for name in (*MARKS[1:], CAPITALS, NAMES)}
    )

    def add(self, expected: Sequence[LabelledWord], written: Sequence[Punctuated]) -> None:
        """Count the words of one line.

        A mark that the reference leaves open is not counted. A capital is right if the whole word is written alike.
        """
        self.words += len(expected)
        for label, decision in zip(expected, written, strict=True):
            if label.mark != OPEN:
                for mark in MARKS[1:]:
                    self.counts[mark].add(
                        mark if MARKS[label.mark] == mark else "", mark if decision.mark == mark else ""
                    )
            reference = begin_sentence(label.written) if label.begins_sentence else label.written
            capital = reference if reference != label.word else ""
            found = decision.text if decision.text != label.word else ""
            self.counts[CAPITALS].add(capital, found)
            if not label.begins_sentence:
                self.counts[NAMES].add(capital, found)


class LineWriter(Protocol):
    """Writes the lines of a text, one after the other; the words of a line are written when it ends."""

    def __call__(self, lines: Iterable[Sequence[str]], /) -> Iterator[list[Punctuated]]:
        """Yield the decisions on each line's words, with the capitals that begin sentences."""


def write_by_model(punctuator: Punctuator, *, joined: bool = False) -> LineWriter:
    """Return a writer that streams the lines through a model.

    Args:
        punctuator: the model.
        joined: no utterance ends between the lines, so that the model gets no hint where sentences end.
    """

    def write(lines: Iterable[Sequence[str]]) -> Iterator[list[Punctuated]]:
        state, begins = punctuator.initial_state(), True
        waiting: list[int] = []
        decided: list[Punctuated] = []
        for words in lines:
            state, new = punctuator.step(state, words, None, None if joined else Boundary.END)
            waiting.append(len(words))
            decided += new
            while waiting and len(decided) >= waiting[0]:
                line, decided = decided[: waiting[0]], decided[waiting.pop(0) :]
                yield with_sentence_capitals(line, begins=begins)
                begins = line[-1].mark in END_MARKS
        _, new = punctuator.step(state, (), None, Boundary.END)
        decided += new
        for count in waiting:
            line, decided = decided[:count], decided[count:]
            yield with_sentence_capitals(line, begins=begins)
            begins = line[-1].mark in END_MARKS

    return write


def with_sentence_capitals(line: Sequence[Punctuated], *, begins: bool) -> list[Punctuated]:
    """Return the decisions with a capital at the first word, if ``begins``, and after end marks."""
    result = []
    for decision in line:
        result.append(decision._replace(text=begin_sentence(decision.text)) if begins else decision)
        begins = decision.mark in END_MARKS
    return result


def write_by_rules(formatter: Formatter, end_mark: str = "") -> LineWriter:
    """Return a writer with the capitals of a language's rules, and ``end_mark`` after each line."""

    def write(lines: Iterable[Sequence[str]]) -> Iterator[list[Punctuated]]:
        for words in lines:
            texts = [_cased_alone(formatter, word) for word in words]
            line = [Punctuated(text, "") for text in texts]
            line[-1] = Punctuated(texts[-1], end_mark)
            yield with_sentence_capitals(line, begins=True)

    return write


def _cased_alone(formatter: Formatter, word: str) -> str:
    (written,) = formatter.write([word], begins_sentence=False)
    return written.text if written.text.lower() == word else word


def score(
    lines: Iterable[str],
    language: str,
    write: LineWriter,
    *,
    progress: Callable[[int], object] = lambda _: None,
) -> Scores:
    """Take capitals and marks from written lines, have them written anew, and count what is right.

    Args:
        lines: written text.
        language: whose rules spell out numbers and make bare words.
        write: the writer to measure.
        progress: is called with the number of lines done.
    """
    labeller = Labeller(language)
    labelled = [words for line in lines if (words := labeller.label(line))]
    scores = Scores()
    bare = [[word.word for word in words] for words in labelled]
    for done, (expected, written) in enumerate(zip(labelled, write(bare), strict=True), start=1):
        scores.add(expected, written)
        progress(done)
    return scores
