"""Share one port between websockets and HTTP: read the head of each connection's first request, then hand it on.

A request to upgrade goes to the ``websockets`` package, every other one to uvicorn. ``docs/architecture.md`` gives
the reasons.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import cast

from websockets.asyncio.server import ServerConnection
from websockets.server import ServerProtocol

from streamasr.service.http import text_response

_END = re.compile(rb"\r?\n\r?\n")
_END_BYTES = 4
_UPGRADE = re.compile(
    rb"\n[Uu][Pp][Gg][Rr][Aa][Dd][Ee][ \t]*:[ \t]*[^\r\n]*[Ww][Ee][Bb][Ss][Oo][Cc][Kk][Ee][Tt]"
)


class HeadReader(asyncio.Protocol):
    """Waits for the head of a connection's first request and passes the connection to the protocol that serves it.

    Args:
        websocket: makes the protocol for a websocket.
        http: makes the protocol for HTTP.
        waiting: the readers that wait for a head; this one adds itself.
        timeout_s: longest wait for the head.
        max_bytes: longest head.
        max_headers: most headers in it.
        protocol: the websocket's sans-I/O protocol, which the websockets package reads from its connections.
    """

    def __init__(
        self,
        *,
        websocket: Callable[[], ServerConnection],
        http: Callable[[], asyncio.Protocol],
        waiting: set[HeadReader],
        timeout_s: float,
        max_bytes: int,
        max_headers: int,
        protocol: ServerProtocol,
    ) -> None:
        self.protocol = protocol
        self._websocket = websocket
        self._http = http
        self._waiting = waiting
        self._timeout_s = timeout_s
        self._max_bytes = max_bytes
        self._max_headers = max_headers
        self._refused = False
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the connection has been passed on, or is lost."""
        self._head = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the head, but not for ever."""
        self._transport = cast(asyncio.Transport, transport)
        self._timer = asyncio.get_running_loop().call_later(self._timeout_s, self._transport.abort)
        self._waiting.add(self)

    def data_received(self, data: bytes) -> None:
        """Add to the head; when it is complete, choose the protocol. What is no head, or too long, is refused."""
        if self._refused:
            return
        new = max(0, len(self._head) - _END_BYTES)
        self._head += data
        end = _END.search(self._head, new)
        if not self._head[:1].isalpha():
            self._refuse(
                400, "this is not HTTP; the port expects HTTP and websockets, TLS only if it is set up"
            )
        elif (len(self._head) if end is None else end.end()) > self._max_bytes:
            self._refuse(431, f"the head of the request is longer than {self._max_bytes} bytes")
        elif self._head.count(b"\n", 0, None if end is None else end.start()) > self._max_headers:
            self._refuse(431, f"the request has more than {self._max_headers} headers")
        elif end is not None:
            upgrade = _UPGRADE.search(self._head, 0, end.start())
            self._hand_on(self._http if upgrade is None else self._websocket)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Forget a client that left before its request."""
        self._forget()

    def abort(self) -> None:
        """Drop the connection."""
        self._transport.abort()

    def _refuse(self, status: int, reason: str) -> None:
        """Answer with an error, and read on until the client closes or its time is over: it may still be sending."""
        self._refused = True
        self._head = b""
        self._transport.write(text_response(status, reason + "\n").serialize())
        if self._transport.can_write_eof():
            self._transport.write_eof()
        else:
            self._transport.close()

    def _hand_on(self, factory: Callable[[], asyncio.Protocol]) -> None:
        self._forget()
        protocol = factory()
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)
        protocol.data_received(self._head)

    def _forget(self) -> None:
        self._timer.cancel()
        self._waiting.discard(self)
        if not self.ended.done():
            self.ended.set_result(None)
