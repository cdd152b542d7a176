"""Provide a scripted daemon on a real socket, an audio source and factories of messages for the client's tests."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Protocol

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from streamasr.protocol.audio import AudioFormat
from streamasr.protocol.messages import Done, Final, Ready, ServerMessage
from streamasr.protocol.serialisation import encode


class ScriptedConnection:
    """The daemon's side of one connection."""

    def __init__(self, socket: ServerConnection) -> None:
        self.socket = socket
        self.start: dict[str, Any] = {}
        self.audio = b""

    async def open(self, **ready: Any) -> None:
        """Receive ``start`` and send ``ready``, with further fields of it."""
        self.start = json.loads(await self.socket.recv())
        rate = self.start["sample_rate"]
        await self.send(Ready(session="s", sample_rate=rate, latency_ms=640, model="en-small", **ready))

    async def send(self, *messages: ServerMessage) -> None:
        for message in messages:
            await self.socket.send(encode(message))

    async def receive_audio(self, size: int) -> None:
        """Receive until ``size`` bytes of audio have arrived in all."""
        while len(self.audio) < size:
            message = await self.socket.recv()
            assert isinstance(message, bytes)
            self.audio += message

    async def finish(self, *messages: ServerMessage) -> None:
        """Receive until ``stop``, then send ``messages`` and ``done``."""
        while isinstance(message := await self.socket.recv(), bytes):
            self.audio += message
        assert json.loads(message) == {"type": "stop"}
        await self.send(*messages, Done(audio_ms=self.received_ms))

    @property
    def received_ms(self) -> int:
        """Audio received so far, in milliseconds."""
        frame_bytes = (2 if self.start["encoding"] == "pcm_s16le" else 4) * int(self.start["channels"])
        return round(len(self.audio) / frame_bytes / int(self.start["sample_rate"]) * 1000)


Script = Callable[[ScriptedConnection], Awaitable[None]]


class ScriptedDaemon:
    """Runs the next of ``scripts`` for each connection, and collects the ``connections``."""

    def __init__(self) -> None:
        self.scripts: list[Script] = []
        self.connections: list[ScriptedConnection] = []
        self.url = ""

    async def handle(self, socket: ServerConnection) -> None:
        connection = ScriptedConnection(socket)
        self.connections.append(connection)
        with contextlib.suppress(ConnectionClosed):
            await self.scripts.pop(0)(connection)


class ListSource:
    """A source that yields the blocks of :meth:`give` until :meth:`stop`."""

    def __init__(self, *blocks: bytes, sample_rate: int = 16_000) -> None:
        self.format = AudioFormat(sample_rate)
        self._queue: asyncio.Queue[bytes | BaseException | None] = asyncio.Queue()
        self.give(*blocks)

    def give(self, *blocks: bytes | BaseException) -> None:
        """Queue blocks, or an exception for the source to raise."""
        for block in blocks:
            self._queue.put_nowait(block)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (block := await self._queue.get()) is not None:
            if isinstance(block, BaseException):
                raise block
            yield block

    def stop(self) -> None:
        self._queue.put_nowait(None)


class MakeFinal(Protocol):
    """Makes a final whose words take 300 ms each, including a pause of 50 ms after each word."""

    def __call__(self, text: str, *, utterance: int = 0, start_ms: int = 0, words: bool = True) -> Final: ...
