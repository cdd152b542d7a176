"""Define what a punctuator does: take bare words, return each word's case and the mark after it."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any, NamedTuple, Protocol

MARKS = ("", ".", ",", "?")
"""The marks after a word; the first one is none."""
END_MARKS = frozenset((".", "?"))
"""Marks that end a sentence: the next word begins with a capital."""


class Boundary(Enum):
    """What follows the last word of an utterance."""

    END = "end"
    """The end of the utterance: the speaker paused, or the stream ended."""
    CUT = "cut"
    """Nothing is known: the utterance was split for its length, or its next words are still to come."""


class Punctuated(NamedTuple):
    """What a punctuator decided about one word."""

    text: str
    """The word as it is written in the middle of a sentence."""
    mark: str
    """The mark after it, one of ``MARKS``."""


class Punctuator(Protocol):
    """Decides on capitals and marks for the words of a stream.

    The state is a value: ``step`` returns a new one and leaves the old one as it was. The decisions are the same
    however the words are split into steps.
    """

    @property
    def look_ahead(self) -> int:
        """Number of words after a word that are needed to decide about it."""

    def initial_state(self) -> Any:
        """Return the state of a stream before its first word."""

    def step(
        self, state: Any, words: Sequence[str], pauses_ms: Sequence[float] | None, boundary: Boundary | None
    ) -> tuple[Any, list[Punctuated]]:
        """Add words, and return the decisions for the words whose look-ahead is now complete, in order.

        Args:
            state: from :meth:`initial_state` or the step before.
            words: in the normalised form of the language, as the recogniser returns them.
            pauses_ms: the silence before each word; ``None`` if it is not known.
            boundary: what follows the last word. With a boundary all words are decided, and after ``END`` the last
                one has an end mark; without a boundary, the last ``look_ahead`` words wait for the next step.
        """


def begin_sentence(text: str) -> str:
    """Return a word of lower-case letters with a capital; words with capitals stay as they are (*iPhone*)."""
    return capital(text) if text == text.lower() else text


def capital(word: str) -> str:
    """Return a word with its first letter as a capital, also after an apostrophe (*'Tis*)."""
    at = len(word) - len(word.lstrip("'"))
    return word[:at] + word[at : at + 1].upper() + word[at + 1 :]
