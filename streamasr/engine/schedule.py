"""Admit sessions, queue their audio within limits, and pick the chunks of the next step.

One lock guards the queues of all sessions and the counters.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from streamasr.engine.config import EngineConfig
from streamasr.engine.stats import Counters, EngineStats
from streamasr.errors import OverloadedError
from streamasr.frontend.pcm import Samples
from streamasr.recognition.batch import StepTimes
from streamasr.recognition.chunking import Chunk, ChunkQueue, EndMark, HotwordsMark, StopMark
from streamasr.units import MS_PER_SECOND, ms_to_samples, samples_to_ms


@dataclass(slots=True, eq=False)
class QueuedSession:
    """A session's slot and queue. The scheduler's lock guards its mutable parts."""

    id: str
    slot: int
    chunk_frames: int
    queue: ChunkQueue
    bulk: bool = False
    """Whether it is an uploaded file, which gives way to live sessions."""
    congested: bool = False
    """Whether the waiting audio has exceeded ``high_backlog_ms`` and not yet dropped to ``low_backlog_ms``."""
    stepping: bool = False
    """Whether a chunk of it is in the current step."""
    ready_since: float = 0.0
    """Clock time when its next chunk became ready."""


class ChunkJob(NamedTuple):
    """One chunk for the next step."""

    queued: QueuedSession
    chunk: Chunk
    ready_since: float
    """Clock time when the chunk became ready."""


class Scheduler:
    """Queues of all sessions, scheduled first come, first served. Every method may be called from any thread.

    After a step, a session with another ready chunk goes to the end of the line. Bulk sessions, which are uploaded
    files, give way to live ones: their chunks run when no live chunk waits, and while live sessions are open one at a
    time, so that a live chunk waits for at most one of them. A bulk chunk that has waited for ``bulk_wait_ms`` joins
    the next step, so that uploads go on under any load.

    Args:
        config: limits.
        sample_rate: sample rate of the queues, in Hz.
        clock: returns the time in seconds, for the heartbeat and the statistics.
    """

    def __init__(
        self, config: EngineConfig, sample_rate: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._config = config
        self._sample_rate = sample_rate
        self._clock = clock
        self._condition = threading.Condition()
        self._sessions: dict[str, QueuedSession] = {}
        self._free_slots = list(reversed(range(config.max_sessions)))
        self._ready: dict[str, QueuedSession] = {}
        self._counters = Counters()
        self._draining = False
        self._closed = False
        self._high_samples = ms_to_samples(config.high_backlog_ms, sample_rate)
        self._low_samples = ms_to_samples(config.low_backlog_ms, sample_rate)
        self._hard_samples = ms_to_samples(config.hard_backlog_ms, sample_rate)
        self.last_heartbeat = clock()
        """Clock time when the worker last asked for work."""

    def admit(
        self, session_id: str, chunk_frames: int, queue: ChunkQueue, *, bulk: bool = False
    ) -> QueuedSession:
        """Add a session with a slot of its own and ``queue`` for its audio. Live sessions precede ``bulk`` ones.

        Raises:
            OverloadedError: all slots are taken, or the engine is stopping.
        """
        with self._condition:
            if self._draining or self._closed:
                self._counters.sessions_refused += 1
                raise OverloadedError(
                    "the server is shutting down; connect again later",
                    code="shutting_down",
                    retry_after_ms=self._config.retry_after_ms,
                )
            if not self._free_slots:
                self._counters.sessions_refused += 1
                raise OverloadedError(
                    f"all {self._config.max_sessions} sessions are taken; "
                    f"try again in {self._config.retry_after_ms} ms",
                    retry_after_ms=self._config.retry_after_ms,
                )
            self._counters.sessions_opened += 1
            session = QueuedSession(session_id, self._free_slots.pop(), chunk_frames, queue, bulk)
            self._sessions[session_id] = session
            return session

    def release(self, session: QueuedSession) -> None:
        """Remove a session, free its slot and drop its waiting audio. Releasing twice is allowed."""
        with self._condition:
            if self._sessions.pop(session.id, None) is None:
                return
            self._ready.pop(session.id, None)
            self._free_slots.append(session.slot)
            self._condition.notify_all()

    def append(self, session: QueuedSession, samples_S: Samples) -> None:
        """Queue audio. Ignored after :meth:`release`.

        Raises:
            OverloadedError: the queue is full; nothing has been queued.
        """
        with self._condition:
            if session.id not in self._sessions:
                return
            if session.queue.waiting + len(samples_S) > self._hard_samples:
                raise OverloadedError(
                    f"more than {self._config.hard_backlog_ms} ms of audio would wait; "
                    "send no faster than it is recognised"
                )
            session.queue.append(samples_S)
            session.congested = session.congested or session.queue.waiting > self._high_samples
            self._enqueue_if_ready(session)

    def mark(
        self, session: QueuedSession, mark: EndMark | HotwordsMark, rest_S: Samples | None = None
    ) -> None:
        """Place a mark after the audio so far. Ignored after :meth:`release`.

        Args:
            session: the session.
            mark: the mark.
            rest_S: samples before the mark that a resampler still held. They are few, and exempt from the limit.

        Raises:
            OverloadedError: too many marks are waiting; nothing has been queued.
        """
        with self._condition:
            if session.id not in self._sessions:
                return
            full = session.queue.waiting_marks >= self._config.max_waiting_marks
            if full and not isinstance(mark, StopMark):
                raise OverloadedError(
                    f"{session.queue.waiting_marks} finalize and configure messages wait already; send fewer"
                )
            if rest_S is not None:
                session.queue.append(rest_S)
            session.queue.mark(mark)
            self._enqueue_if_ready(session)

    def next_batch(self) -> list[ChunkJob] | None:
        """Wait for ready chunks, and return those of the next step; ``None`` after :meth:`close`.

        They have one chunk size and belong to different sessions, those that have waited longest. Only the worker
        calls this: each turn of the waiting loop is a heartbeat.
        """
        with self._condition:
            while True:
                self.last_heartbeat = self._clock()
                if self._closed:
                    return None
                if self._ready:
                    return self._take_batch()
                self._condition.wait(self._config.heartbeat_interval_s)

    def finish(self, job: ChunkJob) -> bool:
        """Note that a chunk's messages have been sent; true if that ended its session's congestion."""
        with self._condition:
            self._counters.audio_seconds += job.chunk.audio_samples / self._sample_rate
            self._counters.chunk_lag_s.observe(self._clock() - job.ready_since)
            session = job.queued
            session.stepping = False
            if session.id not in self._sessions:
                return False
            self._enqueue_if_ready(session)
            relieved = session.congested and session.queue.waiting <= self._low_samples
            session.congested = session.congested and not relieved
            return relieved

    def begin_drain(self) -> None:
        """Admit no more sessions from now on."""
        with self._condition:
            self._draining = True

    def wait_idle(self, timeout_s: float | None) -> bool:
        """Wait until all sessions are released; false if that takes longer than ``timeout_s``."""
        with self._condition:
            return self._condition.wait_for(lambda: not self._sessions, timeout_s)

    def close(self) -> None:
        """Make :meth:`next_batch` return ``None`` from now on."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()

    def count_step(self, batch: int, times: StepTimes) -> None:
        """Count a step of ``batch`` chunks."""
        with self._condition:
            self._counters.steps += 1
            self._counters.batch_size.observe(batch)
            self._counters.frontend_s.observe(times.frontend_s)
            self._counters.encoder_s.observe(times.encoder_s)

    def count_decoding(self, seconds: float) -> None:
        """Count a decoded chunk."""
        with self._condition:
            self._counters.decoder_s.observe(seconds)

    def count_failure(self, *, step: bool) -> None:
        """Count a failed step, or a failure of one session."""
        with self._condition:
            if step:
                self._counters.step_failures += 1
            else:
                self._counters.decode_failures += 1

    def stats(self) -> EngineStats:
        """Return the counters and the sessions' current state."""
        with self._condition:
            waiting = sum(session.queue.waiting for session in self._sessions.values())
            return self._counters.snapshot(
                sessions=len(self._sessions),
                queue_depth=len(self._ready),
                backlog_ms=samples_to_ms(waiting, self._sample_rate),
            )

    def backlog_ms(self, session: QueuedSession) -> int:
        """Return a session's waiting audio in milliseconds."""
        return samples_to_ms(session.queue.waiting, self._sample_rate)

    def _enqueue_if_ready(self, session: QueuedSession) -> None:
        if session.queue.ready and not session.stepping and session.id not in self._ready:
            session.ready_since = self._clock()
            self._ready[session.id] = session
            self._condition.notify_all()

    def _take_batch(self) -> list[ChunkJob]:
        waiting = self._next_in_line()
        sessions = [session for session in waiting if session.chunk_frames == waiting[0].chunk_frames]
        batch = []
        for session in sessions[: self._config.max_batch]:
            del self._ready[session.id]
            session.stepping = True
            batch.append(ChunkJob(session, session.queue.take(), session.ready_since))
        return batch

    def _next_in_line(self) -> list[QueuedSession]:
        """The sessions with a ready chunk that may take part in the next step, the most urgent one first."""
        live = [session for session in self._ready.values() if not session.bulk]
        bulk = [session for session in self._ready.values() if session.bulk]
        if not bulk:
            return live
        if not live:
            alone = all(session.bulk for session in self._sessions.values())
            return bulk if alone else bulk[:1]
        overdue = self._clock() - bulk[0].ready_since >= self._config.bulk_wait_ms / MS_PER_SECOND
        return [bulk[0], *live] if overdue else live
