"""Admit sessions, queue their audio within limits, and pick the chunks of the next step.

One lock guards the queues of all sessions and the counters.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from streamasr.engine.config import EngineConfig
from streamasr.engine.headroom import Headroom, Load
from streamasr.engine.stats import Counters, EngineStats
from streamasr.errors import NoHeadroomError, OverloadedError
from streamasr.frontend.pcm import Samples
from streamasr.recognition.batch import StepTimes
from streamasr.recognition.chunking import Chunk, ChunkQueue, EndMark, HotwordsMark, StopMark
from streamasr.units import MS_PER_SECOND, ms_to_samples, samples_to_ms

_IDLE_S = 10.0
"""A session that has sent no audio for so long does not count as live load."""
_SETTLED_S = 5.0
"""How long a session must have been open before its lag counts: a client that sends all at once makes itself late."""
_PACE = 1.05
"""A client's clock may be so much faster than real time."""


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
    opened_at: float = 0.0
    """Clock time of its admission."""
    last_audio: float = 0.0
    """Clock time of its last audio, or of its admission."""
    on_time_until: float = 0.0
    """Clock time when its recognised audio would have been sent in real time. As in the generic cell rate algorithm
    (ITU-T I.371), it is never behind the clock, so that a pause gives no credit."""


class ChunkJob(NamedTuple):
    """One chunk for the next step."""

    queued: QueuedSession
    chunk: Chunk
    ready_since: float
    """Clock time when the chunk became ready."""
    live: bool
    """Whether it was taken as a chunk of a live session, not of one that gives way."""
    in_real_time: bool
    """Whether its session has long sent its audio in real time, so that the chunk's lag is the captions' lag."""


class Scheduler:
    """Queues of all sessions, scheduled first come, first served. Every method may be called from any thread.

    After a step, a session with another ready chunk goes to the end of the line. Bulk sessions give way to live ones:
    their chunks run when no live chunk waits, and while live sessions are open one at a time, so that a live chunk
    waits for at most one of them. A bulk chunk that has waited for ``bulk_wait_ms`` joins the next step, so that bulk
    sessions go on under any load. Uploaded files are bulk sessions, and so is any other session while the engine has
    recognised ``burst_ms`` more of its audio than it could have sent in real time.

    Args:
        config: limits.
        sample_rate: sample rate of the queues, in Hz.
        clock: returns the time in seconds, for the heartbeat and the statistics.
        headroom: refuses live sessions for which the machine has no time; ``None`` to refuse none for that.
    """

    def __init__(
        self,
        config: EngineConfig,
        sample_rate: int,
        clock: Callable[[], float] = time.monotonic,
        headroom: Headroom | None = None,
    ) -> None:
        self._config = config
        self._headroom = headroom
        self._burst_s = config.burst_ms / MS_PER_SECOND
        self._sample_rate = sample_rate
        self._clock = clock
        self._condition = threading.Condition()
        self._sessions: dict[str, QueuedSession] = {}
        self._free_slots = list(reversed(range(config.slots)))
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
            OverloadedError: all slots are taken, the machine has no time for another live session, or the engine
                is stopping.
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
                    f"all {self._config.slots} sessions are taken; "
                    f"try again in {self._config.retry_after_ms} ms",
                    retry_after_ms=self._config.retry_after_ms,
                )
            now = self._clock()
            load = self._load(chunk_frames, queue)
            if self._headroom is not None and not bulk:
                self._check_headroom(self._headroom, load, now)
            self._counters.sessions_opened += 1
            slot = self._free_slots.pop()
            session = QueuedSession(
                session_id, slot, chunk_frames, queue, bulk, opened_at=now, last_audio=now
            )
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
            session.last_audio = self._clock()
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
            now = self._clock()
            self._counters.chunk_lag_s.observe(now - job.ready_since)
            if self._headroom is not None and job.in_real_time:
                self._headroom.observe_lag(now, now - job.ready_since)
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

    def correct_headroom(self, batch: Sequence[ChunkJob], step_s: float, cpu_s: float) -> None:
        """Correct the estimate of what steps cost by a whole step, from front end to messages.

        Args:
            batch: its chunks.
            step_s: its duration.
            cpu_s: CPU time of the process since the step before.
        """
        if self._headroom is not None:
            with self._condition:
                loads = [self._load(job.queued.chunk_frames, job.queued.queue) for job in batch]
                self._headroom.observe_step(loads, step_s, cpu_s)

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
                max_sessions=self._most_sessions(),
                step_cost_ratio=1.0 if self._headroom is None else self._headroom.step_ratio,
            )

    def backlog_ms(self, session: QueuedSession) -> int:
        """Return a session's waiting audio in milliseconds."""
        return samples_to_ms(session.queue.waiting, self._sample_rate)

    def is_live(self, session: QueuedSession) -> bool:
        """Whether an open session counts as live load: it sends in real time, and has sent audio lately."""
        with self._condition:
            return session.id in self._sessions and self._is_live(session, self._clock())

    def _check_headroom(self, headroom: Headroom, load: Load, now: float) -> None:
        """Refuse a live session that would make the captions of all late.

        Raises:
            NoHeadroomError: that is to be expected, or they are late already.
        """
        loads, late_ms = self._live_loads(now), self._config.max_lag_ms
        if not loads:
            return
        late = headroom.is_late(now)
        if late:
            reason = f"captions are more than {late_ms} ms late"
        elif not headroom.fits([*loads, load]):
            reason = f"with one more session, captions would be more than {late_ms} ms late"
        else:
            return
        self._counters.sessions_refused += 1
        retry_after_ms = self._config.retry_after_ms
        text = f"{reason}; try again in {retry_after_ms} ms"
        raise NoHeadroomError(text, late=late, retry_after_ms=retry_after_ms)

    def _live_loads(self, now: float) -> list[Load]:
        """Return what the sessions ask for that send audio in real time."""
        return [
            self._load(session.chunk_frames, session.queue)
            for session in self._sessions.values()
            if self._is_live(session, now)
        ]

    def _is_live(self, session: QueuedSession, now: float) -> bool:
        return not self._gives_way(session, now) and now - session.last_audio < _IDLE_S

    def _gives_way(self, session: QueuedSession, now: float) -> bool:
        return session.bulk or session.on_time_until - now > self._burst_s

    def _load(self, chunk_frames: int, queue: ChunkQueue) -> Load:
        return Load(chunk_frames, queue.hop_samples / self._sample_rate)

    def _most_sessions(self) -> int:
        """Return the slots, or with ``auto`` how many live sessions with default options fit by the estimate."""
        return self._config.slots if self._headroom is None else self._headroom.capacity()

    def _enqueue_if_ready(self, session: QueuedSession) -> None:
        if session.queue.ready and not session.stepping and session.id not in self._ready:
            session.ready_since = self._clock()
            self._ready[session.id] = session
            self._condition.notify_all()

    def _take_batch(self) -> list[ChunkJob]:
        waiting = self._next_in_line()
        sessions = [session for session in waiting if session.chunk_frames == waiting[0].chunk_frames]
        batch = []
        now = self._clock()
        for session in sessions[: self._config.max_batch]:
            del self._ready[session.id]
            session.stepping = True
            live, chunk = not self._gives_way(session, now), session.queue.take()
            audio_s = chunk.audio_samples / self._sample_rate
            ahead = session.on_time_until - now > audio_s
            in_real_time = live and not ahead and now - session.opened_at >= _SETTLED_S
            session.on_time_until = max(session.on_time_until, now) + audio_s / _PACE
            batch.append(ChunkJob(session, chunk, session.ready_since, live, in_real_time))
        return batch

    def _next_in_line(self) -> list[QueuedSession]:
        """The sessions with a ready chunk that may take part in the next step, the most urgent one first."""
        now = self._clock()
        bulk = [session for session in self._ready.values() if self._gives_way(session, now)]
        if not bulk:
            return list(self._ready.values())
        live = [session for session in self._ready.values() if not self._gives_way(session, now)]
        if not live:
            alone = not any(self._is_live(session, now) for session in self._sessions.values())
            return bulk if alone else bulk[:1]
        overdue = now - bulk[0].ready_since >= self._config.bulk_wait_ms / MS_PER_SECOND
        return [bulk[0], *live] if overdue else live
