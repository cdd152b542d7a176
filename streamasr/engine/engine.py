"""Many sessions, one worker thread: their ready chunks in one forward pass, then in one call of the decoder.

Knows models, slots and sessions; no socket. A failure ends the sessions it touched and nothing else.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

import torch

from streamasr.decoding.utterance import UtteranceOutcome, UtteranceState
from streamasr.engine.config import EngineConfig
from streamasr.engine.schedule import ChunkJob, QueuedSession, Scheduler
from streamasr.engine.session import MessageSink, Session
from streamasr.engine.stats import EngineStats
from streamasr.errors import EngineError, OverloadedError, StreamasrError
from streamasr.protocol.messages import Error, Start
from streamasr.recognition.batch import BatchStep, LogProbs
from streamasr.recognition.model import LoadedModel
from streamasr.recognition.options import resolve_options

logger = logging.getLogger(__name__)


class Engine:
    """Runs a model for many sessions. Its worker thread lives from construction to :meth:`close`.

    Args:
        model: what to run.
        config: limits.
    """

    def __init__(self, model: LoadedModel, config: EngineConfig | None = None) -> None:
        self.model = model
        self.config = config or EngineConfig()
        self._scheduler = Scheduler(self.config, model.sample_rate)
        self._batch = BatchStep(model, self.config.max_sessions, time.perf_counter)
        self._sessions: dict[str, Session] = {}
        self._admission_lock = threading.Lock()
        self._worker = threading.Thread(target=self._run, name="streamasr-engine", daemon=True)
        self._worker.start()

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def open(self, start: Start, sink: MessageSink, resume: Callable[[], None] = lambda: None) -> Session:
        """A new session.

        Args:
            start: what the client asked for; its token is not looked at.
            sink: takes the session's messages, in order, on the engine's thread; ``session.ready`` is none of
                them.
            resume: called on the engine's thread when a congested session may be fed again.

        Raises:
            ProtocolError: the model cannot do what ``start`` asks for; it says what would be right.
            OverloadedError: all sessions are taken, or the engine is stopping; with ``retry_after_ms``.
        """
        options = resolve_options(start, self.model)
        with self._admission_lock:
            queue = self.model.chunk_queue(options.chunk_frames)
            queued = self._scheduler.admit(uuid.uuid4().hex, options.chunk_frames, queue)
            session = Session(
                model=self.model,
                options=options,
                scheduler=self._scheduler,
                queued=queued,
                sink=sink,
                resume=resume,
                leave=self._leave,
            )
            self._sessions[queued.id] = session
            return session

    @property
    def last_heartbeat(self) -> float:
        """``time.monotonic()`` when the worker last asked for work; idle, it asks every ``heartbeat_interval_s``."""
        return self._scheduler.last_heartbeat

    @property
    def alive(self) -> bool:
        """Whether the worker thread runs."""
        return self._worker.is_alive()

    def stats(self) -> EngineStats:
        """What has been done so far."""
        return self._scheduler.stats()

    def drain(self, timeout_s: float | None = None) -> bool:
        """Admit nobody, finish everybody: wait until every session has had its finals and ``done``.

        Blocks; call it on a thread of its own. Returns false if time ran out first.
        """
        with self._admission_lock:
            self._scheduler.begin_drain()
            sessions = list(self._sessions.values())
        for session in sessions:
            session.stop()
        return self._scheduler.wait_idle(timeout_s)

    def close(self) -> None:
        """Stop the worker after the step under way; open sessions get an ``error``. Twice is nothing."""
        self._scheduler.close()
        self._worker.join()
        gone = OverloadedError("the server has stopped", code="shutting_down")
        for session in list(self._sessions.values()):
            self._fail(session, gone)

    def _run(self) -> None:
        if self.config.threads:
            torch.set_num_threads(self.config.threads)
        while (batch := self._scheduler.next_batch()) is not None:
            self._step(batch)

    def _step(self, batch: list[ChunkJob]) -> None:
        try:
            log_probs, times = self._batch.run([(job.queued.slot, job.chunk) for job in batch])
        except Exception:
            logger.exception("a step with %d sessions failed", len(batch))
            self._scheduler.count_failure(step=True)
            for job in batch:
                self._fail_queued(job.queued, EngineError("recognition failed; open a new session to go on"))
            return
        self._scheduler.count_step(len(batch), times)
        for session, job, outcome in self._decode(batch, log_probs):
            with self._isolated(session):
                for message in session.captioner.end_chunk(job.chunk, *outcome):
                    session.emit(message)
                if self._scheduler.finish(job):
                    session.resume()
            if session.over:
                self._leave(session)

    def _decode(
        self, batch: list[ChunkJob], log_probs: list[LogProbs]
    ) -> list[tuple[Session, ChunkJob, UtteranceOutcome]]:
        """What the decoder makes of the chunks of the sessions that are still here, in one call of it."""
        began = time.perf_counter()
        hearing: list[tuple[Session, ChunkJob]] = []
        steps: list[tuple[UtteranceState, LogProbs]] = []
        for job, log_probs_TV in zip(batch, log_probs, strict=True):
            session = self._sessions.get(job.queued.id)
            if session is None:
                continue  # It left while its chunk was stepped; another session may have its slot by now.
            with self._isolated(session):
                self.model.decoder.beams.check(log_probs_TV)
                steps.append((session.captioner.begin_chunk(job.chunk), log_probs_TV))
                hearing.append((session, job))
        outcomes: list[UtteranceOutcome] = []
        with self._isolated(*(session for session, _ in hearing)):
            outcomes = self.model.decoder.step_all(steps, threads=self.config.decoder_threads)
        for _ in outcomes:
            self._scheduler.count_decoding((time.perf_counter() - began) / len(outcomes))
        return [(*heard, outcome) for heard, outcome in zip(hearing, outcomes, strict=False)]

    @contextmanager
    def _isolated(self, *sessions: Session) -> Iterator[None]:
        """Whatever goes wrong inside ends ``sessions``, and nothing else."""
        try:
            yield
        except Exception:
            for session in sessions:
                logger.exception("decoding or delivering for session %s failed", session.id)
                self._scheduler.count_failure(step=False)
                self._fail(session, EngineError("recognition failed; open a new session to go on"))

    def _fail_queued(self, queued: QueuedSession, error: StreamasrError) -> None:
        session = self._sessions.get(queued.id)
        if session is not None:
            self._fail(session, error)

    def _fail(self, session: Session, error: StreamasrError) -> None:
        self._leave(session)
        try:
            session.emit(
                Error(
                    code=error.code,
                    message=error.message,
                    fault=error.fault,
                    retry_after_ms=error.retry_after_ms,
                )
            )
        except Exception:
            logger.exception("session %s could not be told of its failure", session.id)

    def _leave(self, session: Session) -> None:
        self._sessions.pop(session.id, None)
        self._scheduler.release(session.queued)
