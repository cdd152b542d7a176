"""A scripted daemon on a real socket, sources of audio, and messages to script with."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import pytest_asyncio
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from streamasr.protocol.messages import Done, Final, Ready, ServerMessage, WordTiming
from streamasr.protocol.serialisation import encode
from streamasr_client.audio import AudioFormat

Script = Callable[["Talk"], Awaitable[None]]


class Talk:
    """The daemon's side of one connection."""

    def __init__(self, socket: ServerConnection) -> None:
        self.socket = socket
        self.start: dict[str, Any] = {}
        self.audio = b""

    async def open(self) -> None:
        """Take `start`, answer `ready`."""
        self.start = json.loads(await self.socket.recv())
        await self.say(
            Ready(session="s", sample_rate=self.start["sample_rate"], latency_ms=640, model="en-small")
        )

    async def say(self, *messages: ServerMessage) -> None:
        for message in messages:
            await self.socket.send(encode(message))

    async def hear(self, size: int) -> None:
        """Until so many bytes of audio have come."""
        while len(self.audio) < size:
            message = await self.socket.recv()
            assert isinstance(message, bytes)
            self.audio += message

    async def finish(self, *messages: ServerMessage) -> None:
        """To `stop`, then `messages` and `done`."""
        while isinstance(message := await self.socket.recv(), bytes):
            self.audio += message
        assert json.loads(message) == {"type": "stop"}
        await self.say(*messages, Done(audio_ms=self.recognised_ms))

    @property
    def recognised_ms(self) -> int:
        width = (2 if self.start["encoding"] == "pcm_s16le" else 4) * self.start["channels"]
        return round(len(self.audio) / width / self.start["sample_rate"] * 1000)


class ScriptedDaemon:
    """Runs the next of ``scripts`` for each connection; ``talks`` are those that came."""

    def __init__(self) -> None:
        self.scripts: list[Script] = []
        self.talks: list[Talk] = []
        self.url = ""

    async def handle(self, socket: ServerConnection) -> None:
        talk = Talk(socket)
        self.talks.append(talk)
        with contextlib.suppress(ConnectionClosed):
            await self.scripts.pop(0)(talk)


@pytest_asyncio.fixture
async def daemon() -> AsyncIterator[ScriptedDaemon]:
    """A daemon that does as it is told."""
    scripted = ScriptedDaemon()
    async with serve(scripted.handle, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        scripted.url = f"ws://127.0.0.1:{port}/v1/stream"
        yield scripted


class ListSource:
    """Audio from the test: blocks given with :meth:`give`, until :meth:`stop`."""

    def __init__(self, *blocks: bytes, sample_rate: int = 16_000) -> None:
        self.format = AudioFormat(sample_rate)
        self._queue: asyncio.Queue[bytes | BaseException | None] = asyncio.Queue()
        self.give(*blocks)

    def give(self, *blocks: bytes | BaseException) -> None:
        for block in blocks:
            self._queue.put_nowait(block)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (block := await self._queue.get()) is not None:
            if isinstance(block, BaseException):
                raise block
            yield block

    def stop(self) -> None:
        self._queue.put_nowait(None)


@pytest.fixture
def make_source() -> Callable[..., ListSource]:
    """Makes a source of 16 kHz mono blocks."""
    return ListSource


@pytest.fixture
def final() -> Callable[..., Final]:
    """Makes a final whose words take 300 ms each, 50 ms of which are the pause behind them."""

    def make(text: str, *, utterance: int = 0, start_ms: int = 0, words: bool = True) -> Final:
        texts = text.split()
        timings = tuple(
            WordTiming(
                word=word,
                start_ms=start_ms + 300 * index,
                end_ms=start_ms + 300 * index + 250,
                confidence=0.9,
            )
            for index, word in enumerate(texts)
        )
        return Final(
            utterance=utterance,
            text=text,
            confidence=0.9,
            start_ms=start_ms,
            end_ms=start_ms + 300 * len(texts) - 50,
            words=timings if words else (),
        )

    return make
