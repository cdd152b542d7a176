"""Test that `listen` loses no words when the daemon is slow: neither the first ones nor the last ones."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from streamasr.protocol.messages import Done, Final, Start, Warning
from streamasr.service.server import CaptionServer
from streamasr_client.live import ConnectionStatus, LiveEvent, LiveStream
from tests.client.scripted import ListSource
from tests.service.conftest import Harness, Launch
from tests.service.fake import FakeEngine, FakeSession

BLOCKS = [bytes([number]) * 3_200 for number in range(1, 81)]
"""Eight seconds."""
LAST = Final(utterance=0, text="the very last words", confidence=1.0, start_ms=0, end_ms=7_900)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - the engine's thread gives no event
            await asyncio.sleep(0.01)


async def collect(harness: Harness, source: ListSource) -> list[LiveEvent]:
    stream = LiveStream(harness.server.stream_url, Start(), source)
    return [event async for event in stream.events()]


async def test_words_spoken_before_ready_are_recognised(
    launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness = await launch()
    source = ListSource()
    listening = asyncio.create_task(collect(harness, source))
    handle, may_open = CaptionServer._handle, asyncio.Event()

    async def late(server: CaptionServer, connection: object) -> None:
        await may_open.wait()
        await handle(server, connection)  # type: ignore[arg-type]

    monkeypatch.setattr(CaptionServer, "_handle", late)
    source.give(*BLOCKS)
    source.stop()
    await asyncio.sleep(0.2)
    may_open.set()
    events = await asyncio.wait_for(listening, 60)
    assert harness.engine.sessions[0].audio == b"".join(BLOCKS)
    assert events[-1] == Done(audio_ms=8_000)


async def test_the_last_words_come_although_the_daemon_is_behind_when_the_user_stops(launch: Launch) -> None:
    engine = FakeEngine()
    engine.last_words = (LAST,)
    harness = await launch(engine)
    source = ListSource(BLOCKS[0])
    listening = asyncio.create_task(collect(harness, source))
    await until(lambda: bool(engine.sessions) and bool(engine.sessions[0].audio))
    session: FakeSession = engine.sessions[0]
    session.congested = True
    source.give(*BLOCKS[1:])
    source.stop()
    await asyncio.sleep(0.2)
    assert not listening.done()
    assert len(session.audio) < 32_000, "the rest must wait"
    session.relieve()
    events = await asyncio.wait_for(listening, 60)
    assert session.audio == b"".join(BLOCKS)
    assert events[-2:] == [LAST, Done(audio_ms=8_000)]
    assert [event.state for event in events if isinstance(event, ConnectionStatus)] == ["connecting", "live"]
    assert {event.code for event in events if isinstance(event, Warning)} <= {"backlog"}
