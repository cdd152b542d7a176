"""Measure when the words of a reference are shown and committed, and how many shown words change.

Times of arrival are arguments, in seconds.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from streamasr.protocol.messages import Final, Partial, WordTiming
from streamasr.service.lag import SentAudio
from streamasr.units import MS_PER_SECOND

MATCH_MS = 500
"""A recognised word is the reference's word of the same text whose end is at most so far from its own."""


@dataclass(frozen=True, slots=True)
class ReferenceWord:
    """A word of the reference in the audio of a stream."""

    text: str
    end_ms: int


class Emission:
    """Compares the messages of one stream with its reference.

    Args:
        sent: records when the audio was sent.
        reference: the words that are said in the stream, in the order of their ends.
    """

    def __init__(self, sent: SentAudio, reference: Sequence[ReferenceWord] = ()) -> None:
        self._sent = sent
        self._reference = reference
        self._ends_ms = [word.end_ms for word in reference]
        self._shown: set[int] = set()
        self._committed: set[int] = set()
        self._last: tuple[str, ...] = ()
        self.shown_ms: list[float] = []
        """Times from the end of a word being sent to the first message that shows it."""
        self.committed_ms: list[float] = []
        """Times from the end of a word being sent to the first message that commits it."""
        self.speech_end_ms: list[float] = []
        """Times from the end of an utterance's last word being sent to its final, however the word was recognised."""
        self.final_words = 0
        """Words of the finals."""
        self.changed_words = 0
        """Words that a partial showed, and that the next message did not show in the same place after the same words:
        the unstable words of Shangguan et al. 2020, "Analyzing the quality and stability of a streaming end-to-end
        on-device speech recognizer"."""

    def message(self, message: Partial | Final, now: float) -> None:
        """Record a message that arrived at ``now``."""
        if isinstance(message, Final):
            shown = tuple(message.text.split())
            committed = len(message.words)
        else:
            shown = tuple(f"{message.committed} {message.tail}".split())
            committed = len(message.committed.split())
        kept = next(
            (at for at, (a, b) in enumerate(zip(self._last, shown, strict=False)) if a != b),
            min(len(self._last), len(shown)),
        )
        self.changed_words += len(self._last) - kept
        self._last = () if isinstance(message, Final) else shown
        for place, word in enumerate(message.words):
            found = self._find(word)
            if found is None:
                continue
            delay_ms = self._since(self._ends_ms[found], now)
            if found not in self._shown:
                self._shown.add(found)
                self.shown_ms.append(delay_ms)
            if place < committed and found not in self._committed:
                self._committed.add(found)
                self.committed_ms.append(delay_ms)
        if isinstance(message, Final):
            self.final_words += len(shown)
            ends_ms = [self._ends_ms[at] for at in self._near(message.end_ms)]
            if ends_ms:
                end_ms = min(ends_ms, key=lambda end_ms: abs(end_ms - message.end_ms))
                self.speech_end_ms.append(self._since(end_ms, now))

    def _find(self, word: WordTiming) -> int | None:
        """Return the index of the nearest word of the reference with the same text."""
        same = [at for at in self._near(word.end_ms) if self._reference[at].text == word.word]
        return min(same, key=lambda at: abs(self._ends_ms[at] - word.end_ms), default=None)

    def _near(self, ms: int) -> range:
        """Return the indices of the words of the reference that end at about this time."""
        first = bisect_left(self._ends_ms, ms - MATCH_MS)
        return range(first, bisect_left(self._ends_ms, ms + MATCH_MS + 1))

    def _since(self, ms: int, now: float) -> float:
        sent_at = self._sent.time_of(ms)
        return 0.0 if sent_at is None else (now - sent_at) * MS_PER_SECOND
