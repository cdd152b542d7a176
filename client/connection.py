"""Open a session over one websocket, and compute the waiting time before the next attempt.

:mod:`streamasr_client.live` builds a continuous stream of captions from several sessions.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from typing import TypeVar
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI

from streamasr.errors import ConfigError, Fault, ProtocolError
from streamasr.protocol.messages import (
    ClientMessage,
    Done,
    Error,
    Ready,
    Resume,
    Resumed,
    ServerMessage,
    Start,
    Stop,
)
from streamasr.protocol.serialisation import encode, parse_server_message
from streamasr.units import MS_PER_SECOND
from streamasr_client.errors import ConnectionFailed, DaemonError

AnswerT = TypeVar("AnswerT", Ready, Resumed)

DEFAULT_URL = "ws://127.0.0.1:8765/v1/stream"
OPEN_TIMEOUT_S = 10.0
"""Longest wait for the handshake and for the daemon's ``ready``."""
CLOSE_TIMEOUT_S = 5.0
"""Longest wait for the daemon's side of the closing handshake."""
PING_TIMEOUT_S = 20.0
"""A connection is closed if the daemon does not answer a ping for this long."""
KEEPALIVE_MS = 5_000
"""How often ``keepalive`` is sent while there is no audio to send."""
AUDIO_TOLERANCE_MS = 100
"""Largest difference, caused by rounding, between the audio sent and ``done.audio_ms``."""
AUDIO_MESSAGE_BYTES = 16_384
"""Largest audio message that the client sends, well below the daemon's limit."""


@dataclass(slots=True)
class Backoff:
    """Exponential backoff with jitter, in milliseconds.

    Each waiting time is drawn uniformly from the upper half of a window that doubles from ``first_ms`` up to
    ``max_ms``, so that clients of the same daemon do not all reconnect at once. It is never shorter than the
    daemon's ``retry_after_ms``.
    """

    first_ms: int = 500
    max_ms: int = 20_000
    uniform: Callable[[float, float], float] = field(default=random.uniform)
    tries: int = 0

    def next_ms(self, retry_after_ms: int | None = None) -> int:
        """Return the next waiting time, at least ``retry_after_ms``."""
        window = min(self.max_ms, self.first_ms * 2 ** min(self.tries, 30))
        self.tries += 1
        jittered = round(self.uniform(window / 2, window))
        return jittered if retry_after_ms is None else retry_after_ms + jittered - window // 2

    def reset(self) -> None:
        """Start again from ``first_ms``, after a successful attempt."""
        self.tries = 0


class Session:
    """An open session, made by :func:`open_session` or :func:`resume_session`: audio may be sent."""

    def __init__(
        self,
        socket: ClientConnection,
        ready: Ready,
        resumed: Resumed | None = None,
        next_seq: int = 1,
        cookies: str = "",
    ) -> None:
        self._socket = socket
        self.ready = ready
        self.resumed = resumed
        """The daemon's answer if the session was resumed."""
        self.next_seq = next_seq
        """The number of the next message from the daemon."""
        self.cookies = cookies
        """The load balancer's cookies, as a ``Cookie`` header: they lead back to the daemon that has the session."""

    async def send_audio(self, pcm: bytes) -> None:
        """Send audio in the encoding of the ``start`` message. Waits while the socket's buffers are full.

        Raises:
            ConnectionFailed: the connection is closed.
        """
        try:
            for begin in range(0, len(pcm), AUDIO_MESSAGE_BYTES):
                await self._socket.send(pcm[begin : begin + AUDIO_MESSAGE_BYTES])
        except ConnectionClosed as error:
            raise ConnectionFailed(_why_closed(error)) from None

    async def send(self, message: ClientMessage) -> None:
        """Send a control message.

        Raises:
            ConnectionFailed: the connection is closed.
        """
        try:
            await self._socket.send(encode(message))
        except ConnectionClosed as error:
            raise ConnectionFailed(_why_closed(error)) from None

    async def stop(self) -> None:
        """Send ``stop``: end the audio. :meth:`messages` then yields the last finals and ``done``."""
        await self.send(Stop())

    def abort(self) -> None:
        """Close the connection at once and discard its buffers. :meth:`messages` then raises."""
        self._socket.transport.abort()

    async def messages(self) -> AsyncIterator[ServerMessage]:
        """Yield all further messages, up to and including ``done``.

        Raises:
            DaemonError: the daemon sent an ``error``.
            ConnectionFailed: the connection ended before ``done``.
        """
        while True:
            message = await _receive(self._socket)
            self.next_seq += 1
            yield message
            if isinstance(message, Done):
                return


@asynccontextmanager
async def open_session(
    url: str,
    start: Start,
    *,
    open_timeout_s: float = OPEN_TIMEOUT_S,
    ping_timeout_s: float | None = PING_TIMEOUT_S,
) -> AsyncIterator[Session]:
    """Connect, send ``start`` and wait for ``ready``. The context manager closes the connection on exit.

    Args:
        url: the daemon's stream, such as :data:`DEFAULT_URL`.
        start: the ``start`` message.
        open_timeout_s: longest wait for the handshake, and again for ``ready``.
        ping_timeout_s: longest wait for the answer to a ping; ``None`` waits forever. Use ``None`` for a sender
            that fills all buffers: a ping may then wait behind minutes of audio.

    Raises:
        ConfigError: ``url`` is not a websocket address, or ``start`` has half of a surrogate pair, as a terminal of
            another encoding gives it.
        ConnectionFailed: the daemon does not answer, or not in time.
        DaemonError: the daemon refused the connection or the session.
        ProtocolError: the server answered with something other than ``ready``.
    """
    try:
        encode(start).encode()
    except UnicodeEncodeError:
        raise ConfigError(
            "a hotword or the token has bytes that are no characters; check the terminal's encoding"
        ) from None
    async with _connected(url, open_timeout_s, ping_timeout_s) as socket:
        ready = await _first_answer(socket, url, start, Ready, open_timeout_s)
        yield Session(socket, ready, cookies=_cookies(socket))


@asynccontextmanager
async def resume_session(
    url: str,
    broken: Session,
    *,
    open_timeout_s: float = OPEN_TIMEOUT_S,
    ping_timeout_s: float | None = PING_TIMEOUT_S,
) -> AsyncIterator[Session]:
    """Connect, and continue the session ``broken``, whose connection was lost and whose daemon keeps sessions.

    The handshake carries the cookies of the session's first one, so that a load balancer finds its daemon.
    ``resumed`` of the new session states from which sample on audio has to be sent. Arguments and errors are those of
    :func:`open_session`; a :class:`DaemonError` with the code ``unknown_session`` means that it cannot be resumed.
    """
    assert broken.ready.resume is not None, "the daemon keeps no sessions"
    request = Resume(token=broken.ready.resume, seq=broken.next_seq)
    async with _connected(url, open_timeout_s, ping_timeout_s, broken.cookies) as socket:
        resumed = await _first_answer(socket, url, request, Resumed, open_timeout_s)
        yield Session(socket, broken.ready, resumed, broken.next_seq, broken.cookies)


async def try_to_resume(
    stack: AsyncExitStack, url: str, broken: Session | None, *, ping_timeout_s: float | None = PING_TIMEOUT_S
) -> Session | None:
    """Enter :func:`resume_session`; return ``None`` if the daemon keeps no sessions or has this one no more.

    Args:
        stack: closes the connection.
        url: the daemon's stream.
        broken: the session whose connection was lost, if there is one.
        ping_timeout_s: see :func:`open_session`.

    Raises:
        ConnectionFailed: the daemon does not answer, or not in time.
        DaemonError: the daemon refused the connection.
        ProtocolError: the server answered with something other than ``resumed``.
    """
    if broken is None or broken.ready.resume is None:
        return None
    try:
        return await stack.enter_async_context(resume_session(url, broken, ping_timeout_s=ping_timeout_s))
    except DaemonError as error:
        if error.code != "unknown_session":
            raise
        return None


@asynccontextmanager
async def _connected(
    url: str, open_timeout_s: float, ping_timeout_s: float | None, cookies: str = ""
) -> AsyncIterator[ClientConnection]:
    try:
        socket = await connect(
            url,
            additional_headers={"Cookie": cookies} if cookies else None,
            open_timeout=open_timeout_s,
            close_timeout=CLOSE_TIMEOUT_S,
            ping_timeout=ping_timeout_s,
            compression=None,  # audio samples hardly compress; it would only cost time
            proxy=None if _is_loopback(url) else True,
        )
    except (InvalidURI, ValueError) as error:
        raise ConfigError(f"{url}: not a websocket address ({error}); an example is {DEFAULT_URL}") from None
    except InvalidStatus as error:
        raise _refused(url, error) from None
    except InvalidHandshake as error:
        raise ConnectionFailed(f"{url} is not a streamasr daemon: {error}") from None
    except TimeoutError:
        raise ConnectionFailed(f"{url} did not answer within {open_timeout_s:g} s") from None
    except OSError as error:
        hint = "; start one with `streamasr serve`" if _is_loopback(url) else ""
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise ConnectionFailed(f"no daemon at {url} ({reason}){hint}") from None
    async with socket:
        yield socket


def _cookies(socket: ClientConnection) -> str:
    """Return the cookies that the answer to the handshake set, as a ``Cookie`` header; empty if there are none."""
    assert socket.response is not None, "the handshake is done"
    pairs = []
    for header in socket.response.headers.get_all("Set-Cookie"):
        with contextlib.suppress(CookieError):
            pairs += [f"{name}={morsel.coded_value}" for name, morsel in SimpleCookie(header).items()]
    return "; ".join(pairs)


async def _first_answer(
    socket: ClientConnection, url: str, request: Start | Resume, expected: type[AnswerT], timeout_s: float
) -> AnswerT:
    """Send the first message of a connection and return its answer."""
    try:
        async with asyncio.timeout(timeout_s):
            with contextlib.suppress(ConnectionClosed):  # the reason may still be in the receive buffer
                await socket.send(encode(request))
            answer = await _receive(socket)
    except TimeoutError:
        raise ConnectionFailed(f"{url} sent no `{expected.type}` within {timeout_s:g} s") from None
    if not isinstance(answer, expected):
        raise ProtocolError(
            f"expected `{expected.type}` from {url}, got `{answer.type}`; is it a streamasr daemon?"
        )
    return answer


async def _receive(socket: ClientConnection) -> ServerMessage:
    try:
        text = await socket.recv(decode=True)
    except ConnectionClosed as error:
        raise ConnectionFailed(_why_closed(error)) from None
    message = parse_server_message(str(text))
    if isinstance(message, Error):
        raise DaemonError(
            message.message, code=message.code, fault=message.fault, retry_after_ms=message.retry_after_ms
        )
    return message


def _why_closed(error: ConnectionClosed) -> str:
    if error.rcvd is None:
        return "the connection to the daemon was lost"
    reason = f": {error.rcvd.reason}" if error.rcvd.reason else ""
    if error.rcvd.code == 1001:
        return f"the daemon is shutting down{reason}"
    return f"the daemon closed the connection ({error.rcvd.code}{reason})"


def _refused(url: str, error: InvalidStatus) -> DaemonError:
    status = error.response.status_code
    body = (error.response.body or b"").decode("utf-8", "replace").strip().partition("\n")[0][:200]
    retry_after = error.response.headers.get("Retry-After", "")
    retry_after_ms = int(retry_after) * MS_PER_SECOND if retry_after.isdecimal() else None
    code, hint = {
        401: ("unauthorized", "; give the daemon's token with --token"),
        403: ("unauthorized", "; the daemon, or a proxy in front of it, does not allow this client"),
        404: ("not_found", "; the path is /v1/stream"),
        429: ("rate_limited", ""),
        503: ("overloaded", ""),
    }.get(status, ("refused", ""))
    fault: Fault = "server" if status >= 500 or status == 429 else "client"
    reason = f": {body}" if body else ""
    return DaemonError(
        f"{url} refused the connection (HTTP {status}{reason}){hint}",
        code=code,
        fault=fault,
        retry_after_ms=retry_after_ms,
    )


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
