"""Measure how late captions arrive, from what one client sent and received. Times are arguments, in seconds."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from streamasr.units import MS_PER_SECOND, ceil_div

_AGREEING_WORDS = 12
"""The number of new words in a row that must end whole hops before the newest one, until a stream counts as behind:
by chance, five words in a row do so about once a minute."""


class SentAudio:
    """Records when each part of a stream's audio was sent."""

    def __init__(self) -> None:
        self._ends_ms: list[int] = []
        self._times: list[float] = []

    @property
    def total_ms(self) -> int:
        """Audio sent so far, in milliseconds."""
        return self._ends_ms[-1] if self._ends_ms else 0

    def add(self, end_ms: int, now: float) -> None:
        """Record that the audio up to ``end_ms`` was sent at ``now``."""
        self._ends_ms.append(end_ms)
        self._times.append(now)

    def time_of(self, ms: int) -> float | None:
        """When the audio up to ``ms`` was sent; ``None`` if it has not been."""
        index = bisect_left(self._ends_ms, ms)
        return self._times[index] if index < len(self._times) else None


class _PartialTime(NamedTuple):
    """When a partial arrived, and the newest hop that had been sent completely."""

    now: float
    newest_hop: int
    words: int
    """How many new words the stream had before this partial."""
    after_stop: bool
    """Whether all audio had been sent."""


class StreamLag:
    """Measures the lags of one stream, in milliseconds.

    A partial does not state which hop of audio it belongs to. It is taken to belong to the newest hop that was sent
    completely with its look-ahead. This is wrong if the daemon is whole hops behind, which shows in the word times: a
    daemon that keeps up soon emits a word that ends in the newest hop. Therefore the smallest distance, in hops, of
    the next or of the previous new words from the newest hop is added to the lag.

    Args:
        chunk_ms: audio of one step, as in ``ready.latency_ms``.
        sent: records when the audio was sent.
        hop_ms: audio from one step to the next, as in ``ready.hop_ms``; ``None`` for ``chunk_ms``.
    """

    def __init__(self, chunk_ms: int, sent: SentAudio, hop_ms: int | None = None) -> None:
        self._hop_ms = chunk_ms if hop_ms is None else hop_ms
        self._look_ahead_ms = chunk_ms - self._hop_ms
        self._sent = sent
        self._newest_word_ms = 0
        self._hops_behind: list[int] = []
        self._partials: list[_PartialTime] = []
        self._stopped = False
        self.final_ms: list[float] = []
        """Times from an utterance's last word being sent to its final arriving, including the silence between."""
        self.first_partial_ms: float | None = None
        """Time from the first audio being sent to the first partial arriving."""

    def partials(self) -> list[tuple[float, float]]:
        """Return when each partial arrived, and its lag: the time since its chunk's last audio was sent, in ms."""
        lags = []
        for now, newest_hop, words, after_stop in self._partials:
            behind = self._whole_hops_behind(words)
            end_ms = (newest_hop - behind) * self._hop_ms + self._look_ahead_ms
            if after_stop and not behind:
                end_ms = self._sent.total_ms  # The last chunk is complete when the stream ends.
            sent_at = self._sent.time_of(end_ms)
            if sent_at is not None and newest_hop > 0:
                lags.append((now, (now - sent_at) * MS_PER_SECOND))
        return lags

    def partial(self, end_ms: int, now: float) -> None:
        """Record that a partial whose last word ends at ``end_ms`` arrived at ``now``."""
        started_at = self._sent.time_of(0)
        if self.first_partial_ms is None and started_at is not None:
            self.first_partial_ms = (now - started_at) * MS_PER_SECOND
        newest = (self._sent.total_ms - self._look_ahead_ms) // self._hop_ms
        self._partials.append(_PartialTime(now, newest, len(self._hops_behind), self._stopped))
        if end_ms > self._newest_word_ms:
            self._newest_word_ms = end_ms
            self._hops_behind.append(max(0, newest - ceil_div(end_ms, self._hop_ms)))

    def stop(self) -> None:
        """Record that all audio was sent."""
        self._stopped = True

    def _whole_hops_behind(self, words: int) -> int:
        """Return by how many hops the words before or after the first ``words`` ones show the stream to be behind."""
        return max(
            _agreed(self._hops_behind[max(0, words - _AGREEING_WORDS) : words]),
            _agreed(self._hops_behind[words : words + _AGREEING_WORDS]),
        )

    def final(self, end_ms: int, now: float) -> None:
        """Record that a final whose last word ends at ``end_ms`` arrived at ``now``."""
        spoken_at = self._sent.time_of(end_ms)
        if spoken_at is not None:
            self.final_ms.append((now - spoken_at) * MS_PER_SECOND)


def _agreed(hops_behind: Sequence[int]) -> int:
    return min(hops_behind) if len(hops_behind) == _AGREEING_WORDS else 0


def percentiles(values: Iterable[float]) -> dict[str, float | None]:
    """Return the 50th, 95th and 99th percentile, rounded to one decimal; ``None`` if there are no values."""
    numbers = list(values)
    names = {"p50": 50, "p95": 95, "p99": 99}
    return {
        name: round(float(np.percentile(numbers, q)), 1) if numbers else None for name, q in names.items()
    }
