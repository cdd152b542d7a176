"""How late captions are, from what one client sent and received. Knows no socket; times are arguments."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable

import numpy as np

from streamasr.units import MS_PER_SECOND, ceil_div

_AGREEING_PARTIALS = 5
"""Partials that must agree before a stream counts as whole chunks behind."""


class SentAudio:
    """When each millisecond of a stream's audio left the client."""

    def __init__(self) -> None:
        self._ends_ms: list[int] = []
        self._times: list[float] = []

    @property
    def total_ms(self) -> int:
        """Audio sent so far."""
        return self._ends_ms[-1] if self._ends_ms else 0

    def add(self, end_ms: int, now: float) -> None:
        """Audio up to ``end_ms`` has been sent by ``now``."""
        self._ends_ms.append(end_ms)
        self._times.append(now)

    def time_of(self, ms: int) -> float | None:
        """When audio up to ``ms`` had been sent; ``None`` before that."""
        index = bisect_left(self._ends_ms, ms)
        return self._times[index] if index < len(self._times) else None


class StreamLag:
    """The lags of one stream, in milliseconds.

    A partial does not say which chunk of audio it comes from. The newest chunk that had been sent whole is
    the one, unless the stream has fallen behind by whole chunks; then the words tell: a daemon that keeps up soon
    says a word that ends in the newest chunk. So the chunks by which even the freshest of the last few words
    trailed are counted as lag too.

    Args:
        chunk_ms: audio that a step hears, as ``ready.latency_ms`` says.
        sent: when its audio was sent.
        hop_ms: audio from step to step, as ``ready.hop_ms`` says; by default whole chunks.
    """

    def __init__(self, chunk_ms: int, sent: SentAudio, hop_ms: int | None = None) -> None:
        self._hop_ms = chunk_ms if hop_ms is None else hop_ms
        self._look_ahead_ms = chunk_ms - self._hop_ms
        self._sent = sent
        self._newest_word_ms = 0
        self._chunks_behind: deque[int] = deque(maxlen=_AGREEING_PARTIALS)
        self.partial_ms: list[float] = []
        """Beyond the chunk: from a chunk having been sent whole to the arrival of its partial."""
        self.final_ms: list[float] = []
        """From an utterance's last word having been sent to its final, the silence between included."""
        self.first_partial_ms: float | None = None
        """From the first audio having been sent to the first partial."""

    def partial(self, end_ms: int, now: float) -> None:
        """A partial arrived whose last word ends at ``end_ms``."""
        started_at = self._sent.time_of(0)
        if self.first_partial_ms is None and started_at is not None:
            self.first_partial_ms = (now - started_at) * MS_PER_SECOND
        newest = (self._sent.total_ms - self._look_ahead_ms) // self._hop_ms
        if end_ms > self._newest_word_ms:
            self._newest_word_ms = end_ms
            self._chunks_behind.append(max(0, newest - ceil_div(end_ms, self._hop_ms)))
        step = newest - min(self._chunks_behind, default=0)
        sent_at = self._sent.time_of(step * self._hop_ms + self._look_ahead_ms)
        if sent_at is not None and newest > 0:
            self.partial_ms.append((now - sent_at) * MS_PER_SECOND)

    def final(self, end_ms: int, now: float) -> None:
        """A final arrived whose last word ends at ``end_ms``."""
        spoken_at = self._sent.time_of(end_ms)
        if spoken_at is not None:
            self.final_ms.append((now - spoken_at) * MS_PER_SECOND)


def percentiles(values: Iterable[float]) -> dict[str, float | None]:
    """The median, the 95th and the 99th percentile, to a tenth; ``None`` where there is no value."""
    numbers = list(values)
    names = {"p50": 50, "p95": 95, "p99": 99}
    return {
        name: round(float(np.percentile(numbers, q)), 1) if numbers else None for name, q in names.items()
    }
