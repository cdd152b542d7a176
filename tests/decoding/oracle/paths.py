"""The best single path behind a beam: when its words were said and how sharply.

Knows frames and token log-probs, no scores of beams. A beam sums many paths that spell the same text; times
and sharpness come from the most probable one of them. Paths share their finished words as a linked list, so
that a longer utterance costs nothing to carry.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp
from typing import NamedTuple


@dataclass(frozen=True, slots=True, eq=False)
class SpokenWord:
    """A word on a path, linked to the word before it. Frames are half-open and counted over the stream."""

    before: SpokenWord | None
    text: str
    start_frame: int
    end_frame: int
    sharpness: float
    """Geometric mean of the word's token probabilities, each at its best frame; 0 to 1."""


class Path(NamedTuple):
    """Finished ``words`` and the times of the open word; immutable."""

    words: SpokenWord | None = None
    start_frame: int = -1
    end_frame: int = -1
    log_peaks: float = 0.0
    """Sum of the best log-probs of the open word's tokens before the last one."""
    log_peak: float = 0.0
    """Best log-prob of the open word's last token so far."""
    letters: int = 0

    def letter(self, frame: int, log_prob: float) -> Path:
        """One more token of the open word, or the first."""
        start = self.start_frame if self.letters else frame
        return Path(self.words, start, frame + 1, self.log_peaks + self.log_peak, log_prob, self.letters + 1)

    def repeat(self, frame: int, log_prob: float) -> Path:
        """The open word's last token, held one frame longer."""
        peak = max(self.log_peak, log_prob)
        return Path(self.words, self.start_frame, frame + 1, self.log_peaks, peak, self.letters)

    def close(self, word: str) -> Path:
        """The open word is finished and spells ``word``; nothing happens where none is open."""
        if not self.letters:
            return self
        sharpness = min(1.0, exp((self.log_peaks + self.log_peak) / self.letters))
        return Path(SpokenWord(self.words, word, self.start_frame, self.end_frame, sharpness))

    @property
    def speech_start(self) -> int:
        """Frame of the first word's first token, -1 where no word has been heard."""
        words = spoken_words(self.words)
        return words[0].start_frame if words else self.start_frame

    @property
    def speech_end(self) -> int | None:
        """First frame after the last token of a word; ``None`` where no word has been heard."""
        if self.letters:
            return self.end_frame
        return self.words.end_frame if self.words is not None else None


def spoken_words(last: SpokenWord | None) -> list[SpokenWord]:
    """The words up to and with ``last``, first one first."""
    words = []
    while last is not None:
        words.append(last)
        last = last.before
    words.reverse()
    return words
