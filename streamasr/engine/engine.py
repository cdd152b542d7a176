"""Run one model for many live sessions, with one worker thread that steps their ready chunks in batches.

A failure ends the sessions that it affects, and no others. If every step fails, the engine ends.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import TracebackType

from streamasr.decoding.utterance import UtteranceOutcome, UtteranceState
from streamasr.engine.config import EngineConfig
from streamasr.engine.headroom import Headroom
from streamasr.engine.schedule import ChunkJob, Scheduler
from streamasr.engine.session import MessageSink, Session
from streamasr.engine.stats import EncoderInfo, EngineStats
from streamasr.engine.step_cost import measured_headroom
from streamasr.errors import EngineError, OverloadedError, StreamasrError
from streamasr.protocol.messages import Error, Start, Warning
from streamasr.protocol.model_info import ModelInfo
from streamasr.recognition.batch import BatchStep, LogProbs, set_step_threads
from streamasr.recognition.hotwords import unused_notice
from streamasr.recognition.model import LoadedModel
from streamasr.recognition.options import resolve_options

logger = logging.getLogger(__name__)
_FAILED = "recognition failed; open a new session to go on"


class Engine:
    """Runs a model for many sessions. The worker thread lives from construction to :meth:`close`.

    Args:
        model: the model to run.
        config: limits and thread counts.
    """

    def __init__(self, model: LoadedModel, config: EngineConfig | None = None) -> None:
        self.model = model
        self.config = config or EngineConfig()
        self._scheduler = Scheduler(self.config, model.sample_rate, headroom=_headroom(model, self.config))
        self._batch = BatchStep(model, self.config.slots, time.perf_counter)
        self._cpu_s = time.process_time()
        self._sessions: dict[str, Session] = {}
        self._admission_lock = threading.Lock()
        self._failed_steps = 0
        """Steps that have failed since the last one that did not."""
        self._worker = threading.Thread(target=self._run, name="streamasr-engine", daemon=True)
        self._worker.start()

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def open(
        self,
        start: Start,
        sink: MessageSink,
        resume: Callable[[], None] = lambda: None,
        *,
        bulk: bool = False,
    ) -> Session:
        """Open a session.

        Args:
            start: the client's options. Its token is ignored.
            sink: receives the session's messages but ``session.ready``, in order: a warning about unusable hotwords
                before this method returns, everything else on the worker thread.
            resume: called on the worker thread when a congested session may be fed again.
            bulk: whether the audio is an uploaded file, which gives way to live sessions.

        Raises:
            ProtocolError: the model does not support an option; the message says what it supports.
            OverloadedError: all sessions are taken, the captions of all would be late, or the engine is stopping;
                with ``retry_after_ms``.
        """
        options = resolve_options(start, self.model)
        with self._admission_lock:
            queue = self.model.chunk_queue(options.chunk_frames)
            queued = self._scheduler.admit(uuid.uuid4().hex, options.chunk_frames, queue, bulk=bulk)
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
        if (notice := unused_notice(options.hotwords)) is not None:
            session.emit(Warning(code="bad_hotwords", message=notice))
        return session

    @property
    def info(self) -> ModelInfo:
        """The name and language of the model."""
        return ModelInfo(name=self.model.config.name, language=self.model.config.language)

    @property
    def last_heartbeat(self) -> float:
        """``time.monotonic()`` when the worker last asked for work; at least every ``heartbeat_interval_s``."""
        return self._scheduler.last_heartbeat

    @property
    def alive(self) -> bool:
        """Whether the worker thread is running. It ends by :meth:`close`, or after ``max_failed_steps``."""
        return self._worker.is_alive()

    def stats(self) -> EngineStats:
        """Return what the engine has counted so far."""
        return replace(self._scheduler.stats(), encoder=EncoderInfo(*self.model.encoder.arithmetic))

    def drain(self, timeout_s: float | None = None) -> bool:
        """Admit no more sessions, stop the open ones, and wait until each has sent its last finals and ``done``.

        Blocks. Returns false if that takes longer than ``timeout_s``.
        """
        with self._admission_lock:
            self._scheduler.begin_drain()
            sessions = list(self._sessions.values())
        for session in sessions:
            session.stop()
        return self._scheduler.wait_idle(timeout_s)

    def close(self) -> None:
        """Stop the worker after its current step; open sessions receive an ``error``. Closing twice is allowed."""
        self._scheduler.close()
        self._worker.join()
        error = OverloadedError("the server has stopped", code="shutting_down")
        for session in list(self._sessions.values()):
            self._fail(session, error)

    def _run(self) -> None:
        set_step_threads(self.model, self.config.threads)
        while (batch := self._scheduler.next_batch()) is not None:
            start = time.perf_counter()
            self._step(batch)
            cpu_s, self._cpu_s = self._cpu_s, time.process_time()
            self._scheduler.correct_headroom(batch, time.perf_counter() - start, self._cpu_s - cpu_s)
            if self._failed_steps and self._failed_steps == self.config.max_failed_steps:
                self._give_up()
                return

    def _give_up(self) -> None:
        """Admit no more sessions and end the open ones: no step succeeds any more."""
        logger.critical("%d steps in a row failed: the engine ends", self._failed_steps)
        with self._admission_lock:
            self._scheduler.close()
            sessions = list(self._sessions.values())
        for session in sessions:
            self._fail(session, EngineError(_FAILED))

    def _step(self, batch: list[ChunkJob]) -> None:
        try:
            log_probs, times, lookahead = self._batch.run([(job.queued.slot, job.chunk) for job in batch])
        except Exception:
            logger.exception("a step with %d sessions failed", len(batch))
            self._failed_steps += 1
            self._scheduler.count_failure(step=True)
            for job in batch:
                if (session := self._sessions.get(job.queued.id)) is not None:
                    self._fail(session, EngineError(_FAILED))
            return
        self._failed_steps = 0
        self._scheduler.count_step(len(batch), times)
        for session, job, outcome in self._decode(batch, log_probs, lookahead):
            with self._isolated(session):
                for message in session.captioner.end_chunk(job.chunk, *outcome):
                    session.emit(message)
                if self._scheduler.finish(job):
                    session.resume()
            if session.over:
                self._leave(session)

    def _decode(
        self, batch: list[ChunkJob], log_probs: list[LogProbs], lookahead: list[LogProbs]
    ) -> list[tuple[Session, ChunkJob, UtteranceOutcome]]:
        """Decode the chunks of the sessions that are still open, in one call of the decoder."""
        start = time.perf_counter()
        decoding: list[tuple[Session, ChunkJob]] = []
        inputs: list[tuple[UtteranceState, LogProbs]] = []
        previews: list[LogProbs] = []
        for job, log_probs_TV, lookahead_TV in zip(batch, log_probs, lookahead, strict=True):
            session = self._sessions.get(job.queued.id)
            if session is None:
                continue  # It left during the step. Another session may have its slot by now.
            with self._isolated(session):
                inputs.append((session.captioner.begin_chunk(job.chunk), log_probs_TV))
                decoding.append((session, job))
                previews.append(lookahead_TV)
        outcomes = self._decode_batch([session for session, _ in decoding], inputs, previews)
        decoded = [
            (session, job, outcome)
            for (session, job), outcome in zip(decoding, outcomes, strict=True)
            if outcome is not None
        ]
        for _ in decoded:
            self._scheduler.count_decoding((time.perf_counter() - start) / len(decoded))
        return decoded

    def _decode_batch(
        self,
        sessions: list[Session],
        inputs: list[tuple[UtteranceState, LogProbs]],
        lookahead: list[LogProbs],
    ) -> list[UtteranceOutcome | None]:
        """Return the decoder's outcomes; ``None`` for the sessions that failed and have been ended."""
        step_all, threads = self.model.decoder.step_all, self.config.decoder_threads
        if len(sessions) > 1:
            try:
                return list(step_all(inputs, lookahead, threads=threads))
            except Exception:
                logger.exception("decoding a batch of %d sessions failed: decoding each alone", len(sessions))
        # States are values, so the failed call has changed nothing. Alone, each session fails by its own fault only.
        outcomes: list[UtteranceOutcome | None] = [None] * len(sessions)
        for place, session in enumerate(sessions):
            with self._isolated(session):
                (outcomes[place],) = step_all([inputs[place]], [lookahead[place]], threads=threads)
        return outcomes

    @contextmanager
    def _isolated(self, session: Session) -> Iterator[None]:
        """End ``session``, and no other one, if the body raises."""
        try:
            yield
        except Exception:
            logger.exception("decoding or delivering for session %s failed", session.id)
            self._scheduler.count_failure(step=False)
            self._fail(session, EngineError(_FAILED))

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
            logger.exception("the error of session %s could not be sent", session.id)

    def _leave(self, session: Session) -> None:
        self._sessions.pop(session.id, None)
        self._scheduler.release(session.queued)


def _headroom(model: LoadedModel, config: EngineConfig) -> Headroom | None:
    """Return what forecasts the lag with ``max_sessions = "auto"``.

    A model whose steps fail starts without: its sessions report the failure, and the others of the machine go on.
    """
    if config.max_sessions != "auto":
        return None
    try:
        return measured_headroom(model, config)
    except Exception:
        logger.exception("the time of a step could not be measured: sessions are admitted without a forecast")
        return None
