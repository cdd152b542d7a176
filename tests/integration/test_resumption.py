"""Test that sessions whose connections break at random bytes give the messages of undisturbed ones."""

import asyncio
import json
import random
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from tests.integration.conftest import Daemon, run_daemon
from tests.integration.streams import voice

pytestmark = pytest.mark.timeout(300)

SESSIONS = 24
AT_ONCE = 4
MAX_BREAKS = 4
BLOCK_SAMPLES = 640
START = {"type": "start", "partials": False, "endpointing": {"silence_ms": 200}}


@pytest.fixture
def daemon(tiny_folder: Path) -> Iterator[Daemon]:
    """A daemon with a slot for every connection of a test: it never ends a parked session to make room.

    A client whose connection breaks before ``ready`` arrives opens another session, and the first stays parked.
    """
    slots = str(AT_ONCE * (MAX_BREAKS + 1))
    with run_daemon("--model", str(tiny_folder), "--max-sessions", slots) as running:
        yield running


class BreakingProxy:
    """Forwards TCP connections to the daemon, and breaks each one after a random number of bytes.

    After ``breaks`` of them it forwards without an end.
    """

    def __init__(self, port: int, breaks: int, chance: random.Random) -> None:
        self._port = port
        self._chance = chance
        self.breaks_left = breaks
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> str:
        self._server = await asyncio.start_server(self._forward, "127.0.0.1", 0)
        return f"ws://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1/stream"

    async def __aexit__(self, *error: object) -> None:
        assert self._server is not None
        self._server.close()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        daemon_reader, daemon_writer = await asyncio.open_connection("127.0.0.1", self._port)
        left = self._chance.randrange(300, 60_000) if self.breaks_left > 0 else None
        self.breaks_left -= 1

        async def pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            nonlocal left
            while data := await source.read(1_024):
                part = data if left is None else data[:left]
                target.write(part)
                if left is not None:
                    left -= len(part)
                    if left <= 0:
                        return
                await target.drain()

        pumps = [
            asyncio.create_task(pump(reader, daemon_writer)),
            asyncio.create_task(pump(daemon_reader, writer)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in pumps:
                task.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            for end in (writer, daemon_writer):
                end.transport.abort()


class ResumingClient:
    """Streams audio with two requests in it, and resumes its session until ``done``."""

    def __init__(self, url: str, pcm: bytes) -> None:
        self._url = url
        self._pcm = pcm
        self._samples = len(pcm) // 2
        self._requests: list[tuple[int, dict[str, Any]]] = [
            (self._samples // 3, {"type": "finalize", "id": "a"}),
            (self._samples, {"type": "stop"}),
        ]
        self.messages: list[dict[str, Any]] = []
        self.breaks = 0

    async def run(self) -> list[dict[str, Any]]:
        while not self.messages or self.messages[-1]["type"] != "done":
            with suppress(WebSocketException, OSError, EOFError):
                async with connect(self._url, proxy=None, compression=None) as socket:
                    await self._converse(socket)
                    continue
            self.breaks += 1
            await asyncio.sleep(0.01)
        return self.messages

    async def _converse(self, socket: Any) -> None:
        samples = requests = 0
        if self.messages:
            token = self.messages[0]["resume"]
            await socket.send(json.dumps({"type": "resume", "token": token, "seq": len(self.messages)}))
            answer = json.loads(await socket.recv())
            assert answer["type"] == "resumed", answer
            samples, requests = answer["audio_samples"], answer["requests"]
        else:
            await socket.send(json.dumps(START))
        sending = asyncio.create_task(self._send(socket, samples, requests))
        try:
            async for text in socket:
                message = json.loads(text)
                assert message["seq"] == len(self.messages)
                self.messages.append(message)
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
        assert self.messages[-1]["type"] == "done"

    async def _send(self, socket: Any, at: int, requests: int) -> None:
        for position, request in self._requests[requests:]:
            while at < position:
                end = min(position, at + BLOCK_SAMPLES)
                await socket.send(self._pcm[2 * at : 2 * end])
                at = end
                await asyncio.sleep(0.001)
            await socket.send(json.dumps(request))


def content(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The messages without what is different in every session."""
    return [{k: v for k, v in m.items() if k not in ("session", "resume")} for m in messages]


async def test_broken_sessions_equal_undisturbed_ones(daemon: Daemon) -> None:
    chance = random.Random(5)
    breaks = finals = 0
    for first in range(0, SESSIONS, AT_ONCE):
        voices = [voice(seed, 3.0) for seed in range(first, first + AT_ONCE)]
        undisturbed = await asyncio.gather(*(ResumingClient(daemon.url, pcm).run() for pcm in voices))
        proxies = [BreakingProxy(daemon.port, chance.randint(1, MAX_BREAKS), chance) for _ in voices]
        urls = [await proxy.__aenter__() for proxy in proxies]
        clients = [ResumingClient(url, pcm) for url, pcm in zip(urls, voices, strict=True)]
        try:
            broken = await asyncio.gather(*(client.run() for client in clients))
        finally:
            for proxy in proxies:
                await proxy.__aexit__()
        assert [content(messages) for messages in broken] == [content(messages) for messages in undisturbed]
        breaks += sum(client.breaks for client in clients)
        finals += sum(message["type"] == "final" for messages in broken for message in messages)
    assert breaks >= SESSIONS
    assert finals >= SESSIONS
