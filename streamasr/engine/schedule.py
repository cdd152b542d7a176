"""Which chunks are stepped next: admission, bounded queues, fair turns, waking the worker.

The only place that locks. Knows no tensor, decoder or socket: a session is a :class:`QueuedSession` here.
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
from streamasr.units import ms_to_samples, samples_to_ms


@dataclass(slots=True, eq=False)
class QueuedSession:
    """One session's place in the engine. What changes in it is guarded by the scheduler's lock."""

    id: str
    slot: int
    chunk_frames: int
    queue: ChunkQueue
    congested: bool = False
    """Whether more audio waits than the high mark, and not yet as little again as the low mark."""
    stepping: bool = False
    ready_since: float = 0.0


class ChunkJob(NamedTuple):
    """One chunk to step."""

    queued: QueuedSession
    chunk: Chunk
    ready_since: float
    """The clock's seconds when the chunk became the next of its session and whole."""


class Scheduler:
    """Lanes, their queues and their turns. Every method may be called from any thread.

    Turns go round: a session whose chunk is ready waits behind those that were ready before, and after its turn
    behind all of them again. So a file that comes at full speed takes the places that live sessions leave
    free, no more.

    Args:
        config: limits.
        sample_rate: Hz of the samples in the queues.
        clock: seconds, for heartbeat and statistics.
    """

    def __init__(
        self, config: EngineConfig, sample_rate: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._config = config
        self._sample_rate = sample_rate
        self._clock = clock
        self._changed = threading.Condition()
        self._sessions: dict[str, QueuedSession] = {}
        self._free_slots = list(reversed(range(config.max_sessions)))
        self._ready: dict[str, QueuedSession] = {}
        self._counters = Counters()
        self._draining = False
        self._closed = False
        self._high = ms_to_samples(config.high_backlog_ms, sample_rate)
        self._low = ms_to_samples(config.low_backlog_ms, sample_rate)
        self._hard = ms_to_samples(config.hard_backlog_ms, sample_rate)
        self.last_heartbeat = clock()
        """The clock's seconds when the worker last came to ask for work."""

    def admit(self, session_id: str, chunk_frames: int, queue: ChunkQueue) -> QueuedSession:
        """A session with a slot of its own, fed through ``queue``.

        Raises:
            OverloadedError: all slots are taken, or the engine is stopping.
        """
        with self._changed:
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
            session = QueuedSession(session_id, self._free_slots.pop(), chunk_frames, queue)
            self._sessions[session_id] = session
            return session

    def release(self, session: QueuedSession) -> None:
        """Give the session's slot back; what still waits in it is dropped. Releasing twice is nothing."""
        with self._changed:
            if self._sessions.pop(session.id, None) is None:
                return
            self._ready.pop(session.id, None)
            self._free_slots.append(session.slot)
            self._changed.notify_all()

    def append(self, session: QueuedSession, samples_S: Samples) -> None:
        """Queue audio; ignored once the session is released.

        Raises:
            OverloadedError: the queue is full; nothing was queued.
        """
        with self._changed:
            if session.id not in self._sessions:
                return
            if session.queue.waiting + len(samples_S) > self._hard:
                raise OverloadedError(
                    f"more than {self._config.hard_backlog_ms} ms of audio would wait; "
                    "send no faster than it is recognised"
                )
            session.queue.append(samples_S)
            session.congested = session.congested or session.queue.waiting > self._high
            self._offer(session)

    def mark(
        self, session: QueuedSession, mark: EndMark | HotwordsMark, rest_S: Samples | None = None
    ) -> None:
        """Queue something to do after the audio so far; ignored once the session is released.

        ``rest_S`` comes before the mark: what a resampler still held, too little for any limit to mind.

        Raises:
            OverloadedError: too many marks wait; nothing was queued.
        """
        with self._changed:
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
            self._offer(session)

    def next_batch(self) -> list[ChunkJob] | None:
        """Wait for work: one chunk each of sessions of one chunk size, longest ready first; ``None`` at the end.

        Only the worker asks; every turn of its wait is a heartbeat.
        """
        with self._changed:
            while True:
                self.last_heartbeat = self._clock()
                if self._closed:
                    return None
                if self._ready:
                    return self._pick()
                self._changed.wait(self._config.heartbeat_interval_s)

    def finish(self, job: ChunkJob) -> bool:
        """The chunk's messages are out; true where the session was congested and no longer is."""
        with self._changed:
            self._counters.audio_seconds += len(job.chunk.samples_S) / self._sample_rate
            self._counters.chunk_lag_s.observe(self._clock() - job.ready_since)
            session = job.queued
            session.stepping = False
            if session.id not in self._sessions:
                return False
            self._offer(session)
            relieved = session.congested and session.queue.waiting <= self._low
            session.congested = session.congested and not relieved
            return relieved

    def begin_drain(self) -> None:
        """Admit no more sessions."""
        with self._changed:
            self._draining = True

    def wait_idle(self, timeout_s: float | None) -> bool:
        """Wait until every session is released; false if time ran out first."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._sessions, timeout_s)

    def close(self) -> None:
        """Send the worker home."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def count_step(self, batch: int, times: StepTimes) -> None:
        """A step of ``batch`` chunks went well."""
        with self._changed:
            self._counters.steps += 1
            self._counters.batch_size.observe(batch)
            self._counters.frontend_s.observe(times.frontend_s)
            self._counters.encoder_s.observe(times.encoder_s)

    def count_decoding(self, seconds: float) -> None:
        """A chunk was decoded."""
        with self._changed:
            self._counters.decoder_s.observe(seconds)

    def count_failure(self, *, step: bool) -> None:
        """A step failed, or the decoding of one session."""
        with self._changed:
            if step:
                self._counters.step_failures += 1
            else:
                self._counters.decode_failures += 1

    def stats(self) -> EngineStats:
        """Everything counted so far."""
        with self._changed:
            waiting = sum(session.queue.waiting for session in self._sessions.values())
            return self._counters.snapshot(
                sessions=len(self._sessions),
                queue_depth=len(self._ready),
                backlog_ms=samples_to_ms(waiting, self._sample_rate),
            )

    def backlog_ms(self, session: QueuedSession) -> int:
        """Audio waiting in a session."""
        return samples_to_ms(session.queue.waiting, self._sample_rate)

    def _offer(self, session: QueuedSession) -> None:
        if session.queue.ready and not session.stepping and session.id not in self._ready:
            session.ready_since = self._clock()
            self._ready[session.id] = session
            self._changed.notify_all()

    def _pick(self) -> list[ChunkJob]:
        oldest = next(iter(self._ready.values()))
        sessions = [
            session for session in self._ready.values() if session.chunk_frames == oldest.chunk_frames
        ]
        batch = []
        for session in sessions[: self._config.max_batch]:
            del self._ready[session.id]
            session.stepping = True
            batch.append(ChunkJob(session, session.queue.take(), session.ready_since))
        return batch
