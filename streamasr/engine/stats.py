"""Count what the engine does, in plain numbers of bounded size.

Not thread-safe: the scheduler's lock guards the counters.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field

SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0)
"""Bucket bounds of durations, in seconds."""
CHUNKS = (1, 2, 4, 8, 16, 32, 64, 128)
"""Bucket bounds of batch sizes."""


@dataclass(frozen=True, slots=True)
class HistogramSnapshot:
    """The counts of values up to each bound (inclusive), then of those above the last one, and the values' sum."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    sum: float

    @property
    def count(self) -> int:
        """Number of values."""
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
        """Return the current counts."""
        return HistogramSnapshot(self._bounds, tuple(self._counts), self._sum)


@dataclass(frozen=True, slots=True)
class EncoderInfo:
    """How the encoder computes; see :class:`streamasr.acoustic.base.Arithmetic`."""

    backend: str = ""
    precision: str = ""
    instructions: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineStats:
    """The engine's state and counters at one moment. All counters from ``sessions_opened`` on never decrease."""

    encoder: EncoderInfo

    sessions: int
    """Open sessions."""
    queue_depth: int
    """Sessions with a chunk that waits for its step."""
    backlog_ms: int
    """Waiting audio of all sessions."""
    sessions_opened: int
    sessions_refused: int
    audio_seconds: float
    """Recognised audio of all sessions."""
    steps: int
    step_failures: int
    """Steps that failed and ended all of their sessions."""
    decode_failures: int
    """Sessions ended by a failure of their own: of their decoding or their sink."""
    batch_size: HistogramSnapshot
    """Chunks per step."""
    frontend_s: HistogramSnapshot
    """Seconds per step."""
    encoder_s: HistogramSnapshot
    """Seconds per step."""
    decoder_s: HistogramSnapshot
    """Seconds per chunk: its share of the call that decodes a step's chunks."""
    max_sessions: int = 0
    """The most sessions at the same time; with ``max_sessions = "auto"`` an estimate, for default options."""
    step_cost_ratio: float = 1.0
    """Duration of the last steps relative to the measurement at start, with ``max_sessions = "auto"``."""
    chunk_lag_s: HistogramSnapshot
    """Seconds from when a chunk is ready until its messages have been sent."""


@dataclass(slots=True, eq=False)
class Counters:
    """The engine's counters."""

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
    encoder: EncoderInfo = EncoderInfo()

    def snapshot(
        self,
        *,
        sessions: int,
        queue_depth: int,
        backlog_ms: int,
        max_sessions: int = 0,
        step_cost_ratio: float = 1.0,
    ) -> EngineStats:
        """Return the counters with the engine's current state."""
        return EngineStats(
            encoder=self.encoder,
            sessions=sessions,
            queue_depth=queue_depth,
            backlog_ms=backlog_ms,
            max_sessions=max_sessions,
            step_cost_ratio=step_cost_ratio,
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
