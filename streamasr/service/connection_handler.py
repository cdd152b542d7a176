"""Handle one client's connection from its opening to close: dialect, engine session, outbox and timeouts.

The handler runs on the event loop and never waits for the engine there. It logs neither audio nor text.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable
from contextlib import suppress

from streamasr.dialects.base import Frame, Incoming, Reply
from streamasr.dialects.conversation import Conversation
from streamasr.errors import OverloadedError, ProtocolError, StreamasrError
from streamasr.protocol.codes import CLOSE_GOING_AWAY
from streamasr.protocol.connection import Audio
from streamasr.protocol.messages import (
    Configure,
    Done,
    Error,
    Finalize,
    KeepAlive,
    ServerMessage,
    Start,
    Stop,
    Warning,
)
from streamasr.protocol.states import State
from streamasr.service.auth import TokenAuth
from streamasr.service.config import ServerConfig
from streamasr.service.interfaces import EngineInterface, SessionInterface
from streamasr.service.metrics import Metrics
from streamasr.service.outbox import Outbox
from streamasr.service.session_metrics import SessionMetrics, frame_size
from streamasr.service.transport import DisconnectedError, Transport

logger = logging.getLogger(__name__)


class ConnectionHandler:
    """Runs one connection until either side closes it. A failure here does not affect other clients.

    Args:
        transport: an open connection.
        conversation: translates its frames.
        dialect: the dialect's name, for metrics.
        config: the daemon's settings.
        engine: opens the session.
        auth: checks the token of ``start``.
        metrics: the daemon's metrics.
        authorized: whether the handshake had a valid token, or no token is required.
        bulk: whether the audio is an uploaded file. Its session gives way to live ones, and is finished, not cut
            short, when the daemon shuts down.
    """

    def __init__(
        self,
        transport: Transport,
        conversation: Conversation,
        *,
        dialect: str,
        config: ServerConfig,
        engine: EngineInterface,
        auth: TokenAuth,
        metrics: Metrics,
        authorized: bool,
        bulk: bool = False,
    ) -> None:
        self._transport = transport
        self._conversation = conversation
        self._config = config
        self._engine = engine
        self._auth = auth
        self._session_metrics = SessionMetrics(metrics, dialect, transport.peer)
        self._authorized = authorized
        self._bulk = bulk
        self._loop = asyncio.get_running_loop()
        self._outbox = Outbox(config.outbox_messages)
        self._resumed = asyncio.Event()
        self._session: SessionInterface | None = None
        self._backlog_warned = False
        self._draining = False
        self._ending_with: Error | None = None

    async def run(self) -> None:
        """Run the connection; returns when the socket is closed or closing."""
        reader = asyncio.create_task(self._read())
        try:
            await self._write()
        except DisconnectedError:
            pass
        finally:
            reader.cancel()
            await asyncio.wait([reader])
            if self._session is not None:
                self._session.abort()
            self._session_metrics.connection_closed()

    def drain(self) -> None:
        """Finish the session because the daemon is shutting down, or refuse to open one."""
        if self._bulk:
            return
        self._draining = True
        if self._conversation.state is State.AWAITING_START:
            text = "the server is shutting down; connect again later"
            retry_after_ms = self._config.engine.retry_after_ms
            self._fail(OverloadedError(text, code="shutting_down", retry_after_ms=retry_after_ms))
        elif self._conversation.state is State.STREAMING and self._session is not None:
            self._conversation.drain()
            self._warn("shutting_down", "the server is shutting down; the last finals follow")
            self._session.stop()

    async def _read(self) -> None:
        """Receive messages until the client disconnects. After an error, read and discard them.

        Unread messages would delay the closing handshake, and a TCP reset could discard the error message.
        """
        try:
            await self._receive()
        except DisconnectedError:
            self._outbox.close()
            return
        except StreamasrError as error:
            self._finish_and_fail(error)
        except Exception:
            fields = {"session": self._session_metrics.session}
            logger.exception("conversation_failed", extra={"fields": fields})
            self._fail(StreamasrError("internal server error; open a new session to continue"))
        with suppress(DisconnectedError):
            while True:
                await self._transport.receive()
        self._outbox.close()

    async def _receive(self) -> None:
        start_by = self._loop.time() + self._config.start_timeout_s
        await self._act_on(self._conversation.opened())
        while True:
            try:
                async with asyncio.timeout_at(self._deadline(start_by)):
                    frame = await self._transport.receive()
            except TimeoutError:
                raise self._timeout_error() from None
            self._session_metrics.message_received(frame)
            await self._act_on(self._conversation.receive(frame))

    async def _act_on(self, incoming: Iterable[Incoming]) -> None:
        for item in incoming:
            self._dispatch(item)
            await self._wait_while_congested()

    def _deadline(self, start_by: float) -> float | None:
        match self._conversation.state:
            case State.AWAITING_START:
                return start_by
            case State.STREAMING:
                return self._loop.time() + self._config.idle_timeout_s
            case _:
                return None

    def _timeout_error(self) -> ProtocolError:
        if self._conversation.state is State.AWAITING_START:
            return ProtocolError(
                f"no start message within {self._config.start_timeout_s:g} s; send it right after connecting",
                code="start_timeout",
            )
        return ProtocolError(
            f"no audio and no message for {self._config.idle_timeout_s:g} s; send keepalive during pauses",
            code="idle_timeout",
        )

    def _dispatch(self, received: Incoming) -> None:
        if isinstance(received, Reply):
            self._deliver(received, time.monotonic())
            return
        if isinstance(received, Start):
            self._open(received)
            return
        if isinstance(received, KeepAlive):
            return
        assert self._session is not None, "the state table allows only start and keepalive before start"
        match received:
            case Audio():
                self._session.feed(received.data)
                self._session_metrics.audio_received(len(received.data))
            case Finalize():
                self._session_metrics.request_received(Finalize.type)
                self._session.finalize(received.id)
            case Configure():
                self._session.configure(received.hotwords)
            case Stop():
                self._session_metrics.request_received(Stop.type)
                self._session.stop()

    def _open(self, start: Start) -> None:
        if not self._authorized and not self._auth.accepts(start.token, time.time()):
            raise ProtocolError(
                "missing or invalid token; send it as `token` in start, "
                "as `Authorization: Bearer TOKEN` or as `?token=TOKEN`",
                code="unauthorized",
            )
        self._session = self._engine.open(
            start, self._deliver_from_thread, self._resume_from_thread, bulk=self._bulk
        )
        self._session_metrics.session_opened(start, self._session.ready)
        self._outbox.put(self._session.ready, time.monotonic())

    async def _wait_while_congested(self) -> None:
        """Apply backpressure: stop reading while the session's backlog is too large."""
        session = self._session
        if session is None or not session.congested:
            return
        self._session_metrics.reading_paused()
        self._warn_of_backlog(session)
        while session.congested:
            await self._resumed.wait()
            self._resumed.clear()

    def _warn_of_backlog(self, session: SessionInterface) -> None:
        if self._backlog_warned or not self._session_metrics.in_real_time():
            return
        self._backlog_warned = True
        text = f"recognition is {session.backlog_ms} ms behind; captions are late, but no audio is lost"
        self._warn("backlog", text)

    def _warn(self, code: str, text: str) -> None:
        self._deliver(Warning(code=code, message=text), time.monotonic())

    def _deliver_from_thread(self, message: ServerMessage) -> None:
        self._loop.call_soon_threadsafe(self._deliver, message, time.monotonic())

    def _resume_from_thread(self) -> None:
        self._loop.call_soon_threadsafe(self._resumed.set)

    def _deliver(self, message: ServerMessage | Reply, emitted_at: float) -> None:
        if isinstance(message, Done) and self._ending_with is not None:
            self._fail_with(self._ending_with)
        elif isinstance(message, (Done, Error)):
            self._outbox.put_last(message, emitted_at)
        elif not self._outbox.put(message, emitted_at):
            text = (
                f"{len(self._outbox)} messages are waiting to be read; read faster, or set partials to false"
            )
            self._fail(ProtocolError(text, code="slow_reader"), drop_waiting=True)

    def _finish_and_fail(self, error: StreamasrError) -> None:
        """End the session with an error message, after the finals of the audio received so far."""
        if self._session is None:
            self._fail(error)
            return
        self._ending_with = _error_message(error)
        self._session.stop()

    def _fail(self, error: StreamasrError, *, drop_waiting: bool = False) -> None:
        """End the session with an error message, sent after the queued messages unless they are dropped."""
        self._fail_with(_error_message(error), drop_waiting=drop_waiting)

    def _fail_with(self, message: Error, *, drop_waiting: bool = False) -> None:
        if self._session is not None:
            self._session.abort()
        self._outbox.put_last(message, time.monotonic(), drop_waiting=drop_waiting)

    async def _write(self) -> None:
        """Send the outbox's messages up to the last one, then close the socket."""
        while (queued := await self._outbox.get()) is not None:
            message = queued.message
            size = 0
            for frame in self._conversation.send(message):
                if not await self._send(frame):
                    return
                size += frame_size(frame)
            self._session_metrics.message_sent(message, size, queued.emitted_at)
            if isinstance(message, Error):
                self._session_metrics.outcome = message.code
                await self._transport.close(self._conversation.close_code(message), message.code)
                return
            if isinstance(message, Done):
                self._session_metrics.outcome = "drained" if self._draining else "done"
                code = self._conversation.close_code(message)
                await self._transport.close(CLOSE_GOING_AWAY if self._draining else code)
                return

    async def _send(self, frame: Frame) -> bool:
        try:
            async with asyncio.timeout(self._config.slow_reader_s):
                await self._transport.send(frame)
        except TimeoutError:
            # A close frame would not get through either: the data before it has not been read.
            self._session_metrics.outcome = "slow_reader"
            self._transport.abort()
            return False
        return True


def _error_message(error: StreamasrError) -> Error:
    return Error(
        code=error.code, message=error.message, fault=error.fault, retry_after_ms=error.retry_after_ms
    )
