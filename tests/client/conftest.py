"""Provide fixtures for the client's tests: a scripted daemon and a factory of finals."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from websockets.asyncio.server import serve

from streamasr.protocol.messages import Final, WordTiming
from tests.client.scripted import MakeFinal, ScriptedDaemon


@pytest_asyncio.fixture
async def daemon() -> AsyncIterator[ScriptedDaemon]:
    """A daemon that follows the test's scripts."""
    scripted = ScriptedDaemon()
    async with serve(scripted.handle, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        scripted.url = f"ws://127.0.0.1:{port}/v1/stream"
        yield scripted


@pytest.fixture
def final() -> MakeFinal:
    """Makes finals with word times."""

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
