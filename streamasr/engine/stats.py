"""What the engine has done, in plain numbers of bounded size. Knows no metrics system and no lock."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field

SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Upper bounds of the buckets of a duration."""
CHUNKS = (1, 2, 4, 8, 16, 32, 64, 128)
"""Upper bounds of the buckets of a batch size."""


@dataclass(frozen=True, slots=True)
class HistogramSnapshot:
    """Counts of values up to and including each bound, a last count for those above; and their sum."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    sum: float

    @property
    def count(self) -> int:
        """Values observed."""
        return sum(self.counts)


class Histogram:
    """Counts values into buckets."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def snapshot(self) -> HistogramSnapshot:
        """The counts as they stand."""
        return HistogramSnapshot(self._bounds, tuple(self._counts), self._sum)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineStats:
    """The engine at one moment; all but the first three only ever grow."""

    sessions: int
    """Open now."""
    queue_depth: int
    """Sessions with a chunk ready that is not being worked on."""
    backlog_ms: int
    """Audio waiting, over all sessions."""
    sessions_opened: int
    sessions_refused: int
    audio_seconds: float
    """Audio stepped, over all sessions."""
    steps: int
    step_failures: int
    """Steps that failed with every session in them."""
    decode_failures: int
    """Sessions whose decoder or receiver failed on its own."""
    batch_size: HistogramSnapshot
    """Chunks of a step."""
    frontend_s: HistogramSnapshot
    """Seconds of a step."""
    encoder_s: HistogramSnapshot
    """Seconds of a step."""
    decoder_s: HistogramSnapshot
    """Seconds of one chunk."""
    chunk_lag_s: HistogramSnapshot
    """Seconds from a chunk being ready to its messages being out."""


@dataclass(slots=True, eq=False)
class Counters:
    """What the engine counts as it goes; guarded by the scheduler's lock."""

    sessions_opened: int = 0
    sessions_refused: int = 0
    audio_seconds: float = 0.0
    steps: int = 0
    step_failures: int = 0
    decode_failures: int = 0
    batch_size: Histogram = field(default_factory=lambda: Histogram(CHUNKS))
    frontend_s: Histogram = field(default_factory=lambda: Histogram(SECONDS))
    encoder_s: Histogram = field(default_factory=lambda: Histogram(SECONDS))
    decoder_s: Histogram = field(default_factory=lambda: Histogram(SECONDS))
    chunk_lag_s: Histogram = field(default_factory=lambda: Histogram(SECONDS))

    def snapshot(self, *, sessions: int, queue_depth: int, backlog_ms: int) -> EngineStats:
        """Everything counted so far, with what is open now."""
        return EngineStats(
            sessions=sessions,
            queue_depth=queue_depth,
            backlog_ms=backlog_ms,
            sessions_opened=self.sessions_opened,
            sessions_refused=self.sessions_refused,
            audio_seconds=self.audio_seconds,
            steps=self.steps,
            step_failures=self.step_failures,
            decode_failures=self.decode_failures,
            batch_size=self.batch_size.snapshot(),
            frontend_s=self.frontend_s.snapshot(),
            encoder_s=self.encoder_s.snapshot(),
            decoder_s=self.decoder_s.snapshot(),
            chunk_lag_s=self.chunk_lag_s.snapshot(),
        )
