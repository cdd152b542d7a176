"""Handle one client's connection from its opening to close: dialect, session, timeouts and resumption.

The handler runs on the event loop and never waits for the engine there. It logs neither audio nor text.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

from streamasr.dialects.base import Frame, Incoming, Reply
from streamasr.dialects.conversation import Conversation
from streamasr.errors import NoHeadroomError, OverloadedError, ProtocolError, StreamasrError
from streamasr.protocol.codes import CLOSE_GOING_AWAY, CLOSE_POLICY
from streamasr.protocol.connection import Audio
from streamasr.protocol.messages import Done, Error, KeepAlive, Resume, Start
from streamasr.protocol.serialisation import BAD_HOTWORDS
from streamasr.protocol.states import State
from streamasr.service.client_session import ClientSession
from streamasr.service.config import ServerConfig
from streamasr.service.interfaces import EngineInterface, SessionInterface
from streamasr.service.logs import StrangersLog
from streamasr.service.metrics import Metrics
from streamasr.service.outbox import Outbox
from streamasr.service.read_ahead import ReadAhead
from streamasr.service.resumption import ResumableSessions
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
        refuse: returns why the token of ``start`` is refused, if it is; ``None`` if the client needs none in
            ``start``.
        metrics: the daemon's metrics.
        log: logs connections without a session.
        sessions: the sessions that may be resumed; ``None`` if this one ends with its connection.
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
        refuse: Callable[[str | None], StreamasrError | None] | None,
        metrics: Metrics,
        log: StrangersLog,
        sessions: ResumableSessions | None = None,
        bulk: bool = False,
    ) -> None:
        self._transport = transport
        self._conversation = conversation
        self._config = config
        self._engine = engine
        self._refuse = refuse
        self._metrics = metrics
        self._sessions = sessions
        self._bulk = bulk
        self._loop = asyncio.get_running_loop()
        self._session = ClientSession(
            Outbox(config.outbox_messages, config.resume_messages if sessions is not None else 0),
            conversation,
            SessionMetrics(metrics, dialect, transport.peer, log),
        )
        self._frames = ReadAhead(transport, config.read_ahead_bytes)
        self._writing: asyncio.Task[None] | None = None
        self._backlog_warned = False
        self._draining = False
        self._closing = False
        self._taken_over = False

    async def run(self) -> None:
        """Run the connection; returns when the socket is closed or closing."""
        reading = asyncio.create_task(self._read())
        self._writing = asyncio.create_task(self._write())
        try:
            await asyncio.wait([self._writing])
        finally:
            reading.cancel()
            self._writing.cancel()
            await asyncio.wait([reading, self._writing])
            self._frames.close()
            self._leave_session()
        if self._taken_over:
            with suppress(DisconnectedError):
                await self._transport.close(CLOSE_POLICY, "the session was resumed on another connection")
        if not self._writing.cancelled() and (error := self._writing.exception()) is not None:
            raise error

    def drain(self) -> None:
        """Finish the session because the daemon is shutting down, or refuse to open one."""
        if self._bulk:
            return
        self._draining = True
        session = self._session.engine_session
        if self._conversation.state is State.AWAITING_START:
            text = "the server is shutting down; connect again later"
            retry_after_ms = self._config.engine.retry_after_ms
            self._session.fail(OverloadedError(text, code="shutting_down", retry_after_ms=retry_after_ms))
        elif self._conversation.state is State.STREAMING and session is not None:
            self._conversation.drain()
            self._session.warn("shutting_down", "the server is shutting down; the last finals follow")
            session.stop()

    def _leave_session(self) -> None:
        """Park the session if its client may come back, or end it."""
        if self._taken_over:
            return
        if self._sessions is not None and self._may_be_resumed():
            self._sessions.park(self._session)
            return
        if self._sessions is not None and self._session.token:
            self._sessions.forget(self._session)
        self._session.end()

    def _may_be_resumed(self) -> bool:
        """Whether the connection broke. A session that ended for a slow reader is not worth a slot."""
        if not self._session.token or self._draining or self._session.metrics.outcome == "slow_reader":
            return False
        return self._transport.broken

    def _lose_session(self) -> None:
        """Give the session up to another connection of its client."""
        self._taken_over = True
        self._session.room.set()
        assert self._writing is not None, "the session was opened by this connection"
        self._writing.cancel()

    async def _read(self) -> None:
        """Receive messages until the client disconnects. After an error, read and discard them.

        Unread messages would delay the closing handshake, and a TCP reset could discard the error message.
        """
        try:
            await self._receive()
        except DisconnectedError:
            self._disconnected()
            return
        except StreamasrError as error:
            self._session.finish_and_fail(error)
        except Exception:
            fields = {"session": self._session.metrics.session}
            logger.exception("conversation_failed", extra={"fields": fields})
            self._session.fail(StreamasrError("internal server error; open a new session to continue"))
        with suppress(DisconnectedError):
            while True:
                await self._frames.receive()
        self._disconnected()

    def _disconnected(self) -> None:
        assert self._writing is not None, "reading begins with writing"
        awaits_the_rest = self._transport.half_closed and self._conversation.state is State.STOPPING
        if not self._closing and not awaits_the_rest:
            self._writing.cancel()

    async def _receive(self) -> None:
        start_by = self._loop.time() + self._config.start_timeout_s
        await self._act_on(self._conversation.opened())
        while True:
            try:
                async with asyncio.timeout_at(self._deadline(start_by)):
                    frame = await self._frames.receive()
            except TimeoutError:
                raise self._timeout_error() from None
            if self._taken_over:
                raise DisconnectedError
            self._session.metrics.message_received(frame)
            try:
                await self._act_on(self._conversation.receive(frame))
            except ProtocolError as error:
                if error.code != BAD_HOTWORDS:
                    raise
                self._refuse_hotwords(error)

    async def _act_on(self, incoming: Iterable[Incoming]) -> None:
        for item in incoming:
            self._dispatch(item)
            if isinstance(item, Reply):
                # A client cannot make replies faster than it reads them.
                await self._session.outbox.wait_for_room()
            await self._wait_while_congested()

    def _deadline(self, start_by: float) -> float | None:
        match self._conversation.state:
            case State.AWAITING_START if not self._conversation.opens_late:
                return start_by
            case State.AWAITING_START | State.STREAMING:
                return self._loop.time() + self._config.idle_timeout_s
            case _:
                return None

    def _timeout_error(self) -> ProtocolError:
        if self._conversation.state is State.AWAITING_START and not self._conversation.opens_late:
            return ProtocolError(
                f"no start message within {self._config.start_timeout_s:g} s; send it right after connecting",
                code="start_timeout",
            )
        return ProtocolError(
            f"no audio and no message for {self._config.idle_timeout_s:g} s; send keepalive during pauses",
            code="idle_timeout",
        )

    def _dispatch(self, received: Incoming) -> None:
        match received:
            case Reply():
                self._session.deliver(received, time.monotonic())
            case Start():
                self._open(received)
            case Resume():
                self._resume(received)
            case KeepAlive():
                pass
            case Audio():
                self._session.feed(self._engine_session, received.data)
            case _:
                self._session.request(self._engine_session, received)

    def _refuse_hotwords(self, error: ProtocolError) -> None:
        """Keep the old hotwords, because the new ones are beyond a limit.

        Raises:
            ProtocolError: there is no session whose hotwords could stay.
        """
        if self._conversation.state is not State.STREAMING:
            error.code = ProtocolError.code
            raise error
        self._session.refuse_hotwords(error.message)

    @property
    def _engine_session(self) -> SessionInterface:
        session = self._session.engine_session
        assert session is not None, "the state table allows only start, resume and keepalive before start"
        return session

    def _open(self, start: Start) -> None:
        error = None if self._refuse is None else self._refuse(start.token)
        if error is not None:
            raise error
        ready = self._admit(start).ready
        if self._sessions is not None:
            token = self._sessions.add(self._session, self._lose_session)
            ready = dataclasses.replace(ready, resume=token, resume_for_ms=self._config.resume_for_ms)
        self._session.outbox.put(ready, time.monotonic())

    def _admit(self, start: Start) -> SessionInterface:
        """Open the engine's session, in the place of a parked session if there is no other."""
        while True:
            try:
                return self._session.open(self._engine, start, bulk=self._bulk)
            except OverloadedError as error:
                if self._sessions is None or error.code != "overloaded":
                    raise
                if isinstance(error, NoHeadroomError) and error.late:
                    raise
                if not self._sessions.end_oldest(live_only=isinstance(error, NoHeadroomError)):
                    raise

    def _resume(self, request: Resume) -> None:
        """Continue the session of a connection that broke, or that the client gave up."""
        session = None if self._sessions is None else self._sessions.find(request.token)
        try:
            if self._sessions is None or session is None:
                raise ProtocolError(
                    "there is no session to resume: it has ended or expired; open a new one with `start`",
                    code="unknown_session",
                )
            session.resume(request.seq)
        except ProtocolError as error:
            self._metrics.resumed.labels(error.code).inc()
            raise
        self._sessions.take(session, self._lose_session)
        self._metrics.resumed.labels("resumed").inc()
        self._conversation.resume(session.conversation, request.seq)
        session.conversation = self._conversation
        session.metrics.session_resumed(self._transport.peer)
        former, self._session = self._session, session
        former.outbox.close()

    async def _wait_while_congested(self) -> None:
        """Apply backpressure: while the session's backlog is too large, only read a limited amount ahead."""
        engine_session = self._session.engine_session
        if engine_session is None or not engine_session.congested:
            return
        self._session.metrics.reading_paused()
        self._warn_of_backlog(engine_session)
        while engine_session.congested and not self._taken_over:
            await self._frames.receive_until(self._session.room)
            self._session.room.clear()

    def _warn_of_backlog(self, engine_session: SessionInterface) -> None:
        if self._backlog_warned or not self._session.metrics.in_real_time():
            return
        self._backlog_warned = True
        text = (
            f"recognition is {engine_session.backlog_ms} ms behind; captions are late, but no audio is lost"
        )
        self._session.warn("backlog", text)

    async def _write(self) -> None:
        """Send the outbox's messages up to the last one, then close the socket."""
        with suppress(DisconnectedError):
            while True:
                session = self._session
                if (queued := await session.outbox.get()) is None:
                    if session is self._session:
                        return
                    continue  # Another session was resumed.
                message = queued.message
                size = 0
                for frame in self._conversation.send(message):
                    if not await self._send(frame):
                        return
                    size += frame_size(frame)
                session.metrics.message_sent(message, size, queued.emitted_at)
                if isinstance(message, (Done, Error)):
                    await self._close(message)
                    return

    async def _close(self, last: Done | Error) -> None:
        self._closing = True
        code = self._conversation.close_code(last)
        if isinstance(last, Error):
            self._session.metrics.outcome = last.code
            await self._transport.close(code, last.code)
        else:
            self._session.metrics.outcome = "drained" if self._draining else "done"
            await self._transport.close(CLOSE_GOING_AWAY if self._draining else code)

    async def _send(self, frame: Frame) -> bool:
        try:
            async with asyncio.timeout(self._config.slow_reader_s):
                await self._transport.send(frame)
        except TimeoutError:
            # A close frame would not get through either: the data before it has not been read.
            self._session.metrics.outcome = "slow_reader"
            self._transport.abort()
            return False
        return True
