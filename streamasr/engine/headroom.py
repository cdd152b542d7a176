"""Forecast whether one more live session leaves the captions of all within the agreed lag.

Pure arithmetic: no clock, no threads. Times are in seconds.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

MOST_UTILISATION = 0.8
"""Share of the processors, and of the worker's time, that live sessions may take: nearer to 1, the smallest
disturbance makes all captions late."""
SERVICE_CPU_S = 0.012
"""CPU seconds for a second of audio that sockets, messages and checks take beside the steps (AMD EPYC, 2.6 GHz)."""
_LATE_SHARE = 0.05
"""Share of the captions that may be later than the agreed lag: the lag is a 95th percentile."""
_WINDOW_CHUNKS = 48
"""Chunks of real steps after which the estimate is corrected."""
_NEW_SHARE = 0.5
"""Weight of the newest correction."""
_MOST_RATIO = 3.0
"""The most by which steps count as longer than measured: disturbances pass, and late captions are noticed anyway."""
_FEWEST_LAGS = 20
_RECENT_S = 10.0
"""Lags of the last seconds count, if there are at least this many of them."""
_MOST_SESSIONS = 100_000


class Load(NamedTuple):
    """What one live session asks of the engine."""

    chunk_frames: int
    """Encoder frames in one of its chunks."""
    hop_s: float
    """Audio from one of its chunks to the next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCost:
    """The measured time of steps: front end, encoder and decoder."""

    chunk_frames: int
    """Encoder frames in the measured chunks; the time of others is taken to be proportional."""
    batch: int
    """Chunks in a full step."""
    alone_s: float
    """Duration of a step with one chunk."""
    full_s: float
    """Duration of a full step."""
    cpu_s: float
    """CPU time of a full step, all threads together."""

    def step_s(self, chunk_frames: int, batch: float) -> float:
        """Return the expected duration of a step with ``batch`` chunks."""
        if self.batch == 1:
            seconds = self.alone_s * batch
        else:
            seconds = self.alone_s + (self.full_s - self.alone_s) * (batch - 1) / (self.batch - 1)
        return seconds * chunk_frames / self.chunk_frames

    def chunk_s(self, chunk_frames: int) -> float:
        """Return the expected time of a chunk in a full step."""
        return self.step_s(chunk_frames, self.batch) / self.batch

    def chunk_cpu_s(self, load: Load) -> float:
        """Return the expected CPU time of a chunk, with what the service adds."""
        return self.cpu_s / self.batch * load.chunk_frames / self.chunk_frames + SERVICE_CPU_S * load.hop_s


class Forecast(NamedTuple):
    """The expected state of the engine with certain sessions."""

    utilisation: float
    """Share of the processors' or of the worker's time, whichever is larger."""
    lag_s: float
    """95th percentile of the time from a complete chunk to its messages; infinite if the sessions do not fit."""


class Headroom:
    """The engine's estimate of its free capacity, corrected by its real steps.

    The lag of a caption is the wait for the chunks before it and the duration of its own step. Streams send their
    chunks at equal intervals and independent times, so the wait follows the queue nD/D/1. With n streams, utilisation
    u and time s for a chunk, P(wait > x s) is about exp(-2 x (x / n + 1 - u)) (Hajek 1994, "A queue with periodic
    arrivals and constant service rate").

    Args:
        cost: measured on this machine.
        usual: what a live session with default options asks of the engine.
        cores: processor cores that the process may use.
        max_lag_s: the 95th percentile of the lag that is acceptable.
    """

    def __init__(self, cost: StepCost, usual: Load, *, cores: int, max_lag_s: float) -> None:
        self._cost = cost
        self._usual = usual
        self._cores = cores
        self._max_lag_s = max_lag_s
        self._step_ratio = 1.0
        self._cpu_ratio = 1.0
        self._window = _Window()
        self._lags: deque[tuple[float, float]] = deque(maxlen=1_024)

    @property
    def step_ratio(self) -> float:
        """Duration of the last steps, relative to the measurement at start."""
        return self._step_ratio

    def forecast(self, loads: Sequence[Load]) -> Forecast:
        """Return the utilisation and the lag to expect with these live sessions."""
        if not loads:
            return Forecast(0.0, 0.0)
        busy = sum(self._chunk_s(load) / load.hop_s for load in loads)
        cpu = sum(self._cost.chunk_cpu_s(load) / load.hop_s for load in loads) * self._cpu_ratio / self._cores
        utilisation = max(busy, cpu)
        if utilisation >= 1:
            return Forecast(utilisation, math.inf)
        count, free = len(loads), 1 - utilisation
        chunk_s = busy / sum(1 / load.hop_s for load in loads)
        waiting = count / 2 * (math.sqrt(free**2 + 2 * math.log(1 / _LATE_SHARE) / count) - free)
        batch = min(self._cost.batch, count, math.ceil(waiting) + 1)
        own_s = max(self._cost.step_s(load.chunk_frames, batch) for load in loads) * self._step_ratio
        return Forecast(utilisation, waiting * chunk_s + own_s)

    @property
    def cpu_per_audio_s(self) -> float:
        """CPU seconds for a second of audio of a session with default options."""
        return self._cost.chunk_cpu_s(self._usual) / self._usual.hop_s * self._cpu_ratio

    @property
    def keeps_up(self) -> bool:
        """Whether a single session leaves enough time, so that its captions are not late."""
        return self.forecast([self._usual]).utilisation <= MOST_UTILISATION

    def fits(self, loads: Sequence[Load]) -> bool:
        """Whether these live sessions keep the lag. A single one always fits: nobody else is made late."""
        utilisation, lag_s = self.forecast(loads)
        return len(loads) <= 1 or (utilisation <= MOST_UTILISATION and lag_s <= self._max_lag_s)

    def capacity(self) -> int:
        """Return how many live sessions with default options fit, and at least 1."""
        load = self._usual
        low, high = 1, 2
        while high < _MOST_SESSIONS and self.fits([load] * high):
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.fits([load] * middle) else (low, middle)
        return low

    def observe_step(self, loads: Sequence[Load], step_s: float, cpu_s: float) -> None:
        """Correct the estimate by a real step.

        Steps with single chunks only lower it: an idle machine is slow to wake up, which says nothing about a loaded
        one.

        Args:
            loads: the sessions of its chunks.
            step_s: its duration.
            cpu_s: CPU time of the process since the step before.
        """
        self._window.chunks += len(loads)
        self._window.steps += 1
        self._window.step_s += step_s
        self._window.cpu_s += cpu_s
        longest = max(load.chunk_frames for load in loads)
        self._window.expected_step_s += self._cost.step_s(longest, len(loads))
        self._window.expected_cpu_s += sum(self._cost.chunk_cpu_s(load) for load in loads)
        if self._window.chunks < _WINDOW_CHUNKS:
            return
        window, self._window = self._window, _Window()
        loaded = window.chunks >= 2 * window.steps
        step_change = min(window.step_s / window.expected_step_s, _MOST_RATIO) - self._step_ratio
        cpu_change = min(window.cpu_s / window.expected_cpu_s, _MOST_RATIO) - self._cpu_ratio
        self._step_ratio += _NEW_SHARE * (step_change if loaded else min(0.0, step_change))
        self._cpu_ratio += _NEW_SHARE * (cpu_change if loaded else min(0.0, cpu_change))

    def observe_lag(self, now: float, lag_s: float) -> None:
        """Record the lag of a live session's chunk."""
        self._lags.append((now, lag_s))

    def is_late(self, now: float) -> bool:
        """Whether the captions of the last seconds were later than agreed."""
        recent = sorted(lag_s for at, lag_s in self._lags if now - at <= _RECENT_S)
        late = math.ceil((1 - _LATE_SHARE) * len(recent)) - 1
        return len(recent) >= _FEWEST_LAGS and recent[late] > self._max_lag_s

    def _chunk_s(self, load: Load) -> float:
        return self._cost.chunk_s(load.chunk_frames) * self._step_ratio


@dataclass(slots=True, eq=False)
class _Window:
    """Sums over some real steps."""

    chunks: int = 0
    steps: int = 0
    step_s: float = 0.0
    cpu_s: float = 0.0
    expected_step_s: float = 0.0
    expected_cpu_s: float = 0.0
