"""Provide a client that sends audio and collects all messages."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from streamasr.protocol.messages import ServerMessage, Start, Stop
from streamasr.protocol.serialisation import encode, parse_server_message
from tests.recognition.tiny import final_text, noise, s16

MESSAGE_BYTES = 1_280
"""40 ms."""


def voice(seed: int, seconds: float = 6.0) -> bytes:
    """Return noise that the tiny model recognises as words, different for every seed."""
    return s16(noise(seconds, seed))


class Stream:
    """An open session. Messages are read as they arrive, so that the daemon never waits for this client."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.messages: list[ServerMessage] = []
        self._reader = asyncio.create_task(self._read())

    @property
    def text(self) -> str:
        """The text of all finals so far."""
        return final_text(self.messages)

    async def send(self, pcm: bytes) -> None:
        for offset in range(0, len(pcm), MESSAGE_BYTES):
            await self.socket.send(pcm[offset : offset + MESSAGE_BYTES])

    async def all_messages(self) -> list[ServerMessage]:
        """Wait until the connection is closed, and return all messages."""
        await self._reader
        return self.messages

    async def finish(self) -> str:
        """Send ``stop`` and return the text of all finals."""
        await self.socket.send(encode(Stop()))
        messages = await self.all_messages()
        assert messages[-1].type == "done", messages[-1]
        return self.text

    async def transcribe(self, pcm: bytes) -> str:
        await self.send(pcm)
        return await self.finish()

    async def _read(self) -> None:
        try:
            while True:
                self.messages.append(parse_server_message(str(await self.socket.recv())))
        except ConnectionClosed:
            return


@asynccontextmanager
async def open_stream(url: str, start: Start | None = None, **options: Any) -> AsyncIterator[Stream]:
    """Open a session. Its first message is ``ready``, or an error."""
    async with connect(url, proxy=None, **options) as socket:
        await socket.send(encode(start or Start(latency_ms=160)))
        yield Stream(socket)
