"""A client that speaks audio and remembers all it is told."""

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
    """Noise that the tiny model takes for speech, another for every seed."""
    return s16(noise(seconds, seed))


class Stream:
    """An open session. Messages are read as they come, so that the daemon never waits for this client."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.told: list[ServerMessage] = []
        self._reader = asyncio.create_task(self._read())

    @property
    def text(self) -> str:
        """All finals so far."""
        return final_text(self.told)

    async def send(self, pcm: bytes) -> None:
        for offset in range(0, len(pcm), MESSAGE_BYTES):
            await self.socket.send(pcm[offset : offset + MESSAGE_BYTES])

    async def ended(self) -> list[ServerMessage]:
        """Everything that was told until the socket closed."""
        await self._reader
        return self.told

    async def finish(self) -> str:
        """Stop; all finals' text once the session is done."""
        await self.socket.send(encode(Stop()))
        told = await self.ended()
        assert told[-1].type == "done", told[-1]
        return self.text

    async def transcribe(self, pcm: bytes) -> str:
        await self.send(pcm)
        return await self.finish()

    async def _read(self) -> None:
        try:
            while True:
                self.told.append(parse_server_message(str(await self.socket.recv())))
        except ConnectionClosed:
            return


@asynccontextmanager
async def open_stream(url: str, start: Start | None = None, **options: Any) -> AsyncIterator[Stream]:
    """A session; its ``ready`` (or refusal) is the first thing told."""
    async with connect(url, proxy=None, **options) as socket:
        await socket.send(encode(start or Start(latency_ms=160)))
        yield Stream(socket)
