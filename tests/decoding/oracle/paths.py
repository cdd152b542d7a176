"""Record the best path of a beam: the times of its words and their sharpness.

A beam sums many paths that spell the same text; times and sharpness come from the most probable one. Paths share
their finished words as a linked list, so that a longer utterance does not cost more.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp
from typing import NamedTuple


@dataclass(frozen=True, slots=True, eq=False)
class PathWord:
    """A word of a path, linked to the previous word. Frames are half-open, ``[start_frame, end_frame)``."""

    previous: PathWord | None
    text: str
    start_frame: int
    end_frame: int
    sharpness: float
    """Geometric mean of the word's token probabilities, each at its best frame; 0 to 1."""


class Path(NamedTuple):
    """The last of the finished words, and the times of the open word; immutable."""

    words: PathWord | None = None
    start_frame: int = -1
    end_frame: int = -1
    finished_log_prob: float = 0.0
    """Sum of the highest log-probs of the open word's tokens before the last one."""
    last_log_prob: float = 0.0
    """Highest log-prob of the open word's last token so far."""
    num_tokens: int = 0

    def add_token(self, frame: int, log_prob: float) -> Path:
        """Append a token to the open word."""
        start = self.start_frame if self.num_tokens else frame
        return Path(
            self.words,
            start,
            frame + 1,
            self.finished_log_prob + self.last_log_prob,
            log_prob,
            self.num_tokens + 1,
        )

    def repeat_token(self, frame: int, log_prob: float) -> Path:
        """Extend the open word's last token by a frame."""
        highest = max(self.last_log_prob, log_prob)
        return Path(self.words, self.start_frame, frame + 1, self.finished_log_prob, highest, self.num_tokens)

    def finish_word(self, word: str) -> Path:
        """Finish the open word, which spells ``word``; without an open word nothing changes."""
        if not self.num_tokens:
            return self
        sharpness = min(1.0, exp((self.finished_log_prob + self.last_log_prob) / self.num_tokens))
        return Path(PathWord(self.words, word, self.start_frame, self.end_frame, sharpness))

    @property
    def speech_start(self) -> int:
        """First frame of the first word; -1 without a word."""
        words = path_words(self.words)
        return words[0].start_frame if words else self.start_frame

    @property
    def speech_end(self) -> int | None:
        """First frame after the last token of a word; ``None`` without a word."""
        if self.num_tokens:
            return self.end_frame
        return self.words.end_frame if self.words is not None else None


def path_words(last: PathWord | None) -> list[PathWord]:
    """Return the words up to and including ``last``, in order."""
    words = []
    while last is not None:
        words.append(last)
        last = last.previous
    words.reverse()
    return words
