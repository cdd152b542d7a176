"""Provide messages, and scripts of sessions, for tests of the captions page."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from websockets.asyncio.server import ServerConnection

from streamasr.protocol.messages import Done, Final, Partial, Ready, ServerMessage, WordTiming
from streamasr.protocol.serialisation import encode
from tests.browser.conftest import Script

READY = Ready(session="s", sample_rate=48_000, latency_ms=640, model="en-small")


def final(number: int, text: str, start_ms: int, word_ms: int = 300) -> Final:
    words = tuple(
        WordTiming(
            word=word,
            start_ms=start_ms + i * word_ms,
            end_ms=start_ms + (i + 1) * word_ms - 50,
            confidence=0.9,
        )
        for i, word in enumerate(text.split())
    )
    return Final(
        utterance=number,
        text=text,
        confidence=0.9,
        start_ms=start_ms,
        end_ms=words[-1].end_ms,
        words=words,
    )


FINALS = (
    final(0, "good morning everyone and thank you for coming", 200),
    final(
        1,
        "the committee looked at the three proposals <a & b> and it has chosen the second one of them",
        4_000,
    ),
)


def partial(committed: str, tail: str, number: int = 2) -> Partial:
    return Partial(utterance=number, committed=committed, tail=tail, start_ms=10_000, end_ms=11_000)


async def receive_audio(socket: ServerConnection, count: int = 1) -> bytes:
    """Return the next `count` binary messages, joined."""
    audio = b""
    while count:
        message = await socket.recv()
        if isinstance(message, bytes):
            audio += message
            count -= 1
    return audio


async def receive_until_stop(
    socket: ServerConnection, heard: Callable[[int], None] = lambda size: None
) -> int:
    """Receive messages until `stop`; return the number of bytes of audio. `heard` gets those of each message."""
    size = 0
    while True:
        message = await socket.recv()
        if isinstance(message, bytes):
            size += len(message)
            heard(len(message))
        elif json.loads(message)["type"] == "stop":
            return size


def session_script(*messages: ServerMessage, starts: list[dict[str, Any]] | None = None) -> Script:
    """Return a script that sends `messages` after the first audio, and `done` after `stop`."""

    async def script(socket: ServerConnection) -> None:
        start = json.loads(await socket.recv())
        if starts is not None:
            starts.append(start)
        await socket.send(encode(READY))
        size = len(await receive_audio(socket))
        for message in messages:
            await socket.send(encode(message))
        size += await receive_until_stop(socket)
        await socket.send(encode(Done(audio_ms=round(size / 2 / start["sample_rate"] * 1000))))

    return script
