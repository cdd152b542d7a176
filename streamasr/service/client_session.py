"""Hold one client's session: the engine's part, the messages for the client, and where the client's input stands.

A session outlives a broken connection, so that the client can resume it on a new one.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import cast

from streamasr.dialects.base import Reply
from streamasr.dialects.conversation import Conversation
from streamasr.errors import ProtocolError, StreamasrError
from streamasr.frontend.pcm import Encoding, frame_bytes
from streamasr.protocol.messages import (
    Configure,
    Done,
    Error,
    Finalize,
    Resumed,
    ServerMessage,
    Start,
    Stop,
    Warning,
)
from streamasr.protocol.serialisation import BAD_HOTWORDS
from streamasr.service.interfaces import EngineInterface, SessionInterface
from streamasr.service.outbox import Outbox
from streamasr.service.session_metrics import SessionMetrics

logger = logging.getLogger(__name__)


class ClientSession:
    """One client's session. Its methods run on the event loop; the engine's callbacks come from any thread.

    Args:
        outbox: the messages for the client.
        conversation: translates the client's frames and follows the session's state.
        session_metrics: counts and logs.
    """

    def __init__(self, outbox: Outbox, conversation: Conversation, session_metrics: SessionMetrics) -> None:
        self.outbox = outbox
        self.conversation = conversation
        self.metrics = session_metrics
        self.token = ""
        """Resumes the session; empty if it ends with its connection."""
        self.room = asyncio.Event()
        """Set when a congested session may be fed again."""
        self.over = False
        """Whether its last message has been queued."""
        self.engine_session: SessionInterface | None = None
        """``None`` before :meth:`open`."""
        self._loop = asyncio.get_running_loop()
        self._ending_with: Error | None = None
        self._frame_bytes = 1
        self._audio_bytes = 0
        self._requests = 0

    @property
    def is_live(self) -> bool:
        """Whether it counts as live load of the engine."""
        return self.engine_session is not None and self.engine_session.is_live

    def open(self, engine: EngineInterface, start: Start, *, bulk: bool) -> SessionInterface:
        """Open the engine's session.

        Raises:
            ProtocolError: the model does not support an option.
            OverloadedError: all sessions are taken, or the engine is stopping.
        """
        session = engine.open(start, self._deliver_from_thread, self._make_room_from_thread, bulk=bulk)
        self.engine_session = session
        self._frame_bytes = frame_bytes(cast(Encoding, start.encoding), start.channels)
        self.metrics.session_opened(start, session.ready)
        return session

    def feed(self, session: SessionInterface, data: bytes) -> None:
        """Queue audio.

        Raises:
            AudioError: the bytes are not in the session's encoding.
            OverloadedError: too much audio is waiting.
        """
        session.feed(data)
        self._audio_bytes += len(data)
        self.metrics.audio_received(len(data))

    def request(self, session: SessionInterface, event: Finalize | Configure | Stop) -> None:
        """Pass a request to the engine.

        Raises:
            OverloadedError: too many requests are waiting.
        """
        self._requests += 1
        match event:
            case Finalize():
                self.metrics.request_received(Finalize.type)
                session.finalize(event.id)
            case Configure():
                session.configure(event.hotwords)
            case Stop():
                self.metrics.request_received(Stop.type)
                session.stop()

    def resume(self, seq: int) -> None:
        """Queue ``resumed``, and again the messages from number ``seq`` on. Bytes of an incomplete frame are dropped.

        Raises:
            ProtocolError: message ``seq`` is not kept any more, or was never sent.
        """
        session = self.engine_session
        assert session is not None, "only open sessions have a token"
        if seq > self.outbox.next_seq:
            raise ProtocolError(f"resume.seq: expected at most {self.outbox.next_seq}, got {seq}")
        if seq < self.outbox.first_kept_seq:
            raise ProtocolError(
                f"messages before number {self.outbox.first_kept_seq} are no longer kept, and resume.seq is {seq}; "
                "open a new session",
                code="unknown_session",
            )
        session.drop_partial_frame()
        self._audio_bytes -= self._audio_bytes % self._frame_bytes
        resumed = Resumed(
            session=session.id, audio_samples=self._audio_bytes // self._frame_bytes, requests=self._requests
        )
        self.outbox.resume(seq, resumed, time.monotonic())

    def refuse_hotwords(self, why: str) -> None:
        """Answer a ``configure`` that is not passed to the engine with a warning. It counts as received."""
        self._requests += 1
        self.warn(BAD_HOTWORDS, f"the hotwords stay as they were; {why}")

    def warn(self, code: str, text: str) -> None:
        """Queue a warning."""
        self.deliver(Warning(code=code, message=text), time.monotonic())

    def deliver(self, message: ServerMessage | Reply, emitted_at: float) -> None:
        """Queue a message. If the outbox is full, the session ends with ``slow_reader``."""
        if isinstance(message, Done) and self._ending_with is not None:
            self._fail_with(self._ending_with)
        elif isinstance(message, (Done, Error)):
            self.over = True
            self.outbox.put_last(message, emitted_at)
        elif not self.outbox.put(message, emitted_at):
            text = (
                f"{len(self.outbox)} messages are waiting to be read; read faster, or set partials to false"
            )
            self.fail(ProtocolError(text, code="slow_reader"), drop_waiting=True)

    def finish_and_fail(self, error: StreamasrError) -> None:
        """End the session with an error message, after the finals of the audio received so far."""
        if self.engine_session is None:
            self.fail(error)
            return
        self._ending_with = _error_message(error)
        self.engine_session.stop()

    def fail(self, error: StreamasrError, *, drop_waiting: bool = False) -> None:
        """End the session with an error message, sent after the queued messages unless they are dropped."""
        self._fail_with(_error_message(error), drop_waiting=drop_waiting)

    def end(self) -> None:
        """Drop the session, and log its end."""
        if self.engine_session is not None:
            self.engine_session.abort()
        self.outbox.close()
        self.metrics.connection_closed()

    def _fail_with(self, message: Error, *, drop_waiting: bool = False) -> None:
        if self.engine_session is not None:
            self.engine_session.abort()
        self.over = True
        self.outbox.put_last(message, time.monotonic(), drop_waiting=drop_waiting)

    def _deliver_from_thread(self, message: ServerMessage) -> None:
        self._loop.call_soon_threadsafe(self._deliver_or_fail, message, time.monotonic())

    def _deliver_or_fail(self, message: ServerMessage, emitted_at: float) -> None:
        """Queue a message. If that is not possible, for lack of memory, the client learns that one is missing."""
        try:
            self.deliver(message, emitted_at)
        except Exception:
            logger.exception("delivery_failed", extra={"fields": {"session": self.metrics.session}})
            self.fail(StreamasrError("a message was lost; open a new session to continue"))

    def _make_room_from_thread(self) -> None:
        self._loop.call_soon_threadsafe(self.room.set)


def _error_message(error: StreamasrError) -> Error:
    return Error(
        code=error.code, message=error.message, fault=error.fault, retry_after_ms=error.retry_after_ms
    )
