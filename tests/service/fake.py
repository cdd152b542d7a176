"""Provide a fake engine without a model. It records its input, and tests emit messages through its sessions."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from streamasr.engine.stats import Counters, EngineStats
from streamasr.errors import AudioError, OverloadedError
from streamasr.protocol.messages import Done, Finalized, HotwordSpec, Ready, ServerMessage, Start
from streamasr.protocol.model_info import ModelInfo

Sink = Callable[[ServerMessage], None]


class FakeSession:
    """A session that answers ``finalize`` and ``stop`` at once."""

    def __init__(self, name: str, start: Start, sink: Sink, resume: Callable[[], None]) -> None:
        self.id = name
        self.start = start
        self.emit = sink
        self.resume = resume
        self.audio = b""
        self.hotwords: tuple[HotwordSpec, ...] = ()
        self.congested = False
        self.is_live = True
        self.backlog_ms = 0
        self.bulk = False
        self.stopped = False
        self.aborted = False
        self.last_words: tuple[ServerMessage, ...] = ()
        """Emitted on ``stop``, before ``done``."""
        self.held_back = False
        """Whether ``stop`` emits nothing, as while recognition is behind."""
        self.ready = Ready(session=name, sample_rate=start.sample_rate, latency_ms=640, model="fake")

    def feed(self, data: bytes) -> None:
        if len(data) % 2:
            raise AudioError("half a sample")
        if data == b"boom":
            raise RuntimeError("an unexpected error")
        self.audio += data

    def drop_partial_frame(self) -> None:
        pass

    def finalize(self, finalize_id: str) -> None:
        self.emit(Finalized(id=finalize_id))

    def configure(self, hotwords: Iterable[HotwordSpec]) -> None:
        self.hotwords = tuple(hotwords)

    def stop(self) -> None:
        if self.stopped:
            return
        self.stopped = True
        if self.held_back:
            return
        for message in self.last_words:
            self.emit(message)
        self.emit(Done(audio_ms=len(self.audio) * 1_000 // (2 * self.start.sample_rate)))

    def abort(self) -> None:
        self.aborted = True

    def relieve(self) -> None:
        """End the congestion and resume reading."""
        self.congested = False
        self.resume()


class FakeEngine:
    """An engine for up to ``max_sessions`` sessions, whose ids begin with ``name``."""

    def __init__(self, max_sessions: int = 8, name: str = "fake") -> None:
        self.max_sessions = max_sessions
        self.name = name
        self.sessions: list[FakeSession] = []
        self.congested = False
        self.last_heartbeat = time.monotonic()
        self.alive = True
        self.closed = False
        self.last_words: tuple[ServerMessage, ...] = ()
        """The ``last_words`` of sessions that are opened from now on."""
        self.info = ModelInfo(name="fake", language="en")

    @property
    def open_sessions(self) -> list[FakeSession]:
        return [s for s in self.sessions if not (s.aborted or s.stopped)]

    def open(
        self, start: Start, sink: Sink, resume: Callable[[], None] = lambda: None, *, bulk: bool = False
    ) -> FakeSession:
        if len(self.open_sessions) >= self.max_sessions:
            raise OverloadedError("all sessions are taken", retry_after_ms=1_500)
        session = FakeSession(f"{self.name}-{len(self.sessions)}", start, sink, resume)
        session.congested = self.congested
        session.bulk = bulk
        session.last_words = self.last_words
        self.sessions.append(session)
        return session

    def stats(self) -> EngineStats:
        counters = Counters(sessions_opened=len(self.sessions), audio_seconds=1.5)
        counters.encoder_s.observe(0.03)
        return counters.snapshot(sessions=len(self.open_sessions), queue_depth=1, backlog_ms=500)

    def close(self) -> None:
        self.closed = True
