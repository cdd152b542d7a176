"""Carry frames between the daemon and one client, over a websocket or within the process."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from streamasr.dialects.base import Frame
from streamasr.protocol.codes import CLOSE_NORMAL
from streamasr.service.addresses import plain, with_port

_TCP_FRAME_BYTES = 65_536
"""Most bytes of a frame of a TCP connection."""


class DisconnectedError(Exception):
    """The other side is gone, or the connection was closed."""


class Transport(Protocol):
    """One open connection. Every method but ``abort`` may raise :class:`DisconnectedError`."""

    @property
    def peer(self) -> str:
        """The client's address, for the log."""

    @property
    def broken(self) -> bool:
        """Whether the closed connection ended without a closing handshake, or the client may come back.

        A client that has left closes with code 1000; a page that is reloaded, for example, with 1001.
        """

    @property
    def half_closed(self) -> bool:
        """Whether the client sends no more, but may still read, as TCP allows."""

    async def receive(self) -> Frame:
        """Wait for the client's next frame."""

    async def send(self, frame: Frame) -> None:
        """Send a frame; waits while the client does not read."""

    async def close(self, code: int, reason: str = "") -> None:
        """Close the connection after what was sent."""

    def abort(self) -> None:
        """Drop the connection at once."""


class WebsocketTransport:
    """A websocket.

    Args:
        socket: the open websocket.
        peer: the client's address, for the log.
    """

    def __init__(self, socket: ServerConnection, peer: str) -> None:
        self._socket = socket
        self.peer = peer
        """See :class:`Transport`."""

    @property
    def broken(self) -> bool:
        """See :class:`Transport`."""
        protocol = self._socket.protocol
        if protocol.close_rcvd is None:
            return True
        return bool(protocol.close_rcvd_then_sent) and protocol.close_rcvd.code != CLOSE_NORMAL

    half_closed = False
    """See :class:`Transport`. A websocket ends in both directions."""

    async def receive(self) -> Frame:
        """See :class:`Transport`."""
        try:
            return await self._socket.recv()
        except ConnectionClosed as error:
            raise DisconnectedError from error

    async def send(self, frame: Frame) -> None:
        """See :class:`Transport`."""
        try:
            if isinstance(frame, str):
                await self._socket.send(frame.encode(), text=True)
            else:
                await self._socket.send(frame)
        except ConnectionClosed as error:
            raise DisconnectedError from error

    async def close(self, code: int, reason: str = "") -> None:
        """See :class:`Transport`."""
        await self._socket.close(code, reason)

    def abort(self) -> None:
        """See :class:`Transport`."""
        self._socket.transport.abort()


class TcpTransport:
    """A TCP connection. Its frames are the bytes as they arrive.

    Args:
        reader: the connection's bytes.
        writer: sends bytes.
        close_timeout_s: longest wait for the client to close its side.
    """

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, close_timeout_s: float
    ) -> None:
        self._reader, self._writer, self._close_timeout_s = reader, writer, close_timeout_s
        self._ended = asyncio.Event()
        address = writer.get_extra_info("peername")
        self.peer = with_port(plain(address[0]), address[1]) if address else ""
        """See :class:`Transport`."""
        self.broken = False
        """See :class:`Transport`."""
        self.half_closed = False
        """See :class:`Transport`."""

    async def receive(self) -> Frame:
        """See :class:`Transport`."""
        try:
            data = await self._reader.read(_TCP_FRAME_BYTES)
            self.half_closed = not data
        except OSError:
            data = b""
            self.half_closed = False
        if not data:
            self._ended.set()
            raise DisconnectedError
        return data

    async def send(self, frame: Frame) -> None:
        """See :class:`Transport`."""
        assert isinstance(frame, bytes), "a TCP connection has no text messages"
        try:
            self._writer.write(frame)
            await self._writer.drain()
        except OSError as error:
            raise DisconnectedError from error

    async def close(self, code: int, reason: str = "") -> None:  # noqa: ARG002
        """See :class:`Transport`. Unread bytes would reset the connection, so the client closes first, if it does."""
        with suppress(OSError, TimeoutError):
            self._writer.write_eof()
            async with asyncio.timeout(self._close_timeout_s):
                await self._ended.wait()
        self._writer.close()

    def abort(self) -> None:
        """See :class:`Transport`."""
        self._writer.transport.abort()


class LocalTransport:
    """A connection within the process, bounded in both directions. The client uses ``feed``, ``fetch`` and ``abort``.

    Args:
        peer: the client's address, for the log.
        depth: frames that may wait in each direction.
    """

    def __init__(self, peer: str, depth: int = 4) -> None:
        self.peer = peer
        """See :class:`Transport`."""
        self._depth = depth
        self._to_server: deque[Frame] = deque()
        self._to_client: deque[Frame] = deque()
        self._closed = False
        self._changed = asyncio.Event()

    half_closed = False
    """See :class:`Transport`."""
    broken = False
    """See :class:`Transport`. A recording that was not read to its end is uploaded again."""

    async def feed(self, frame: Frame) -> None:
        """Send a frame to the server; waits while the server does not read.

        Raises:
            DisconnectedError: the connection is closed.
        """
        await self._put(self._to_server, frame)

    async def fetch(self) -> Frame:
        """Wait for the server's next frame.

        Raises:
            DisconnectedError: the connection is closed, and all frames have been fetched.
        """
        return await self._get(self._to_client)

    async def receive(self) -> Frame:
        """See :class:`Transport`."""
        return await self._get(self._to_server)

    async def send(self, frame: Frame) -> None:
        """See :class:`Transport`."""
        await self._put(self._to_client, frame)

    async def close(self, code: int, reason: str = "") -> None:  # noqa: ARG002
        """See :class:`Transport`."""
        self.abort()

    def abort(self) -> None:
        """See :class:`Transport`."""
        self._closed = True
        self._changed.set()

    async def _put(self, queue: deque[Frame], frame: Frame) -> None:
        await self._until(lambda: len(queue) < self._depth or self._closed)
        if self._closed:
            raise DisconnectedError
        queue.append(frame)
        self._changed.set()

    async def _get(self, queue: deque[Frame]) -> Frame:
        await self._until(lambda: bool(queue) or self._closed)
        if not queue:
            raise DisconnectedError
        self._changed.set()
        return queue.popleft()

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._changed.clear()
            await self._changed.wait()
