"""Test that captions continue when connections are lost."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable
from contextlib import aclosing
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed

from streamasr.protocol.messages import (
    Done,
    Error,
    Final,
    Partial,
    Ready,
    Resumed,
    SpeechStarted,
    Start,
    UtteranceEnding,
    Warning,
)
from streamasr_client.connection import Backoff
from streamasr_client.errors import ConnectionFailed, DaemonError, MicrophoneError
from streamasr_client.live import AudioLost, ConnectionStatus, LiveEvent, LiveStream, ReplayBuffer
from tests.client.scripted import ListSource, MakeFinal, ScriptedConnection, ScriptedDaemon

SECOND = bytes(32_000)


def stream(daemon: ScriptedDaemon, source: ListSource, **options: Any) -> LiveStream:
    return LiveStream(daemon.url, Start(), source, backoff=Backoff(first_ms=1, max_ms=2), **options)


async def collect(live: LiveStream) -> list[LiveEvent]:
    async with aclosing(live.events()) as events:
        return [event async for event in events]


@given(st.lists(st.tuples(st.binary(max_size=9), st.integers(0, 40)), max_size=20))
def test_the_replay_buffer_holds_the_newest_bytes(steps: list[tuple[bytes, int]]) -> None:
    buffer, whole, released = ReplayBuffer(16), b"", 0
    for data, release in steps:
        whole += data
        buffer.append(data)
        released = max(released, min(release, len(whole)), len(whole) - 16)
        buffer.release(release)
        assert buffer.end == len(whole)
        assert buffer.start == released
        assert buffer.read(buffer.start, 100) == whole[released:]
        assert buffer.end - buffer.start <= 16


async def test_one_session(daemon: ScriptedDaemon, final: MakeFinal) -> None:
    async def script(connection: ScriptedConnection) -> None:
        await connection.open()
        await connection.receive_audio(32_000)
        await connection.send(Warning(code="backlog", message="late"))
        await connection.finish(final("hello"))

    daemon.scripts = [script]
    source = ListSource(SECOND)
    source.stop()
    block_sizes: list[int] = []
    events = await collect(stream(daemon, source, on_audio=lambda block: block_sizes.append(len(block))))
    assert [type(event) for event in events] == [
        ConnectionStatus,
        ConnectionStatus,
        Ready,
        Warning,
        Final,
        Done,
    ]
    assert [event.state for event in events if isinstance(event, ConnectionStatus)] == ["connecting", "live"]
    assert daemon.connections[0].start["sample_rate"] == 16_000
    assert daemon.connections[0].audio == SECOND
    assert block_sizes == [32_000]


async def test_a_pause_of_the_source_keeps_the_session_open(daemon: ScriptedDaemon, final: MakeFinal) -> None:
    source = ListSource(SECOND)
    kept: list[Any] = []

    async def script(connection: ScriptedConnection) -> None:
        await connection.open()
        await connection.receive_audio(32_000)
        kept.extend([json.loads(await connection.socket.recv()) for _ in range(3)])
        source.give(SECOND)
        source.stop()
        message: Any = None
        while message != {"type": "stop"}:
            received = await connection.socket.recv()
            message = None if isinstance(received, bytes) else json.loads(received)
        await connection.send(final("hello"), Done(audio_ms=2_000))

    daemon.scripts = [script]
    events = await collect(stream(daemon, source, keepalive_ms=20))
    assert kept == [{"type": "keepalive"}] * 3
    assert events[-1] == Done(audio_ms=2_000)


async def test_audio_that_no_final_covers_is_sent_again(daemon: ScriptedDaemon, final: MakeFinal) -> None:
    """A daemon that is behind may still find words in it, although it has reported no speech."""
    blocks = [bytes([number]) * 32_000 for number in range(1, 41)]
    source = ListSource(*blocks[:21])

    async def is_behind(connection: ScriptedConnection) -> None:
        await connection.open()
        await connection.receive_audio(21 * 32_000)
        await connection.send(final("one", start_ms=750))
        connection.socket.transport.abort()

    async def continues(connection: ScriptedConnection) -> None:
        await connection.open()
        await connection.receive_audio(20 * 32_000)
        source.stop()
        await connection.finish(final("two", start_ms=1_000))

    daemon.scripts = [is_behind, continues]
    events = await collect(stream(daemon, source))
    assert daemon.connections[1].audio == b"".join(blocks[:21])[32_000:]
    assert [(event.text, event.start_ms) for event in events if isinstance(event, Final)] == [
        ("one", 750),
        ("two", 2_000),
    ]
    assert not [event for event in events if isinstance(event, AudioLost)]


async def test_times_numbers_and_audio_continue_after_a_reconnect(
    daemon: ScriptedDaemon, final: MakeFinal
) -> None:
    blocks = [bytes([number]) * 32_000 for number in range(1, 5)]
    source = ListSource(*blocks[:3])

    async def disconnects(connection: ScriptedConnection) -> None:
        await connection.open()
        await connection.receive_audio(96_000)
        # the first 2 s are finished; the connection is lost before the third second is
        await connection.send(final("one two three four", start_ms=850))
        await connection.send(
            SpeechStarted(at_ms=2_100),
            UtteranceEnding(utterance=1, probability=0.5, text="fi", start_ms=2_100, end_ms=2_200),
            Partial(utterance=1, committed="fi", tail="", start_ms=2_100, end_ms=2_300),
        )
        connection.socket.transport.abort()

    async def continues(connection: ScriptedConnection) -> None:
        await connection.open()
        source.give(blocks[3])
        source.stop()
        words = final("five", start_ms=100)
        ending = UtteranceEnding(
            utterance=0,
            probability=0.5,
            text="five",
            start_ms=words.start_ms,
            end_ms=words.end_ms,
            words=words.words,
        )
        await connection.finish(ending, words)

    daemon.scripts = [disconnects, continues]
    events = await collect(stream(daemon, source))
    assert daemon.connections[1].audio == b"".join(blocks)[64_000:]
    finals = [event for event in events if isinstance(event, Final)]
    assert [(each.text, each.utterance, each.start_ms) for each in finals] == [
        ("one two three four", 0, 850),
        ("five", 1, 2_100),
    ]
    assert finals[1].words[0].end_ms == 2_350
    _, ending = (event for event in events if isinstance(event, UtteranceEnding))
    assert (ending.utterance, ending.start_ms, ending.words) == (1, 2_100, finals[1].words)
    assert events[-1] == Done(audio_ms=4_000)
    (waiting,) = [
        event for event in events if isinstance(event, ConnectionStatus) and event.state == "waiting"
    ]
    assert "connection to the daemon was lost" in waiting.message


async def test_audio_beyond_the_buffer_is_reported(daemon: ScriptedDaemon) -> None:
    source = ListSource()

    async def refuses(connection: ScriptedConnection) -> None:
        source.give(*[SECOND] * 5)
        source.stop()
        await connection.socket.recv()
        await connection.send(Error(code="overloaded", message="full", fault="server", retry_after_ms=30))

    async def accepts(connection: ScriptedConnection) -> None:
        await connection.open()
        await connection.finish()

    daemon.scripts = [refuses, accepts]
    events = await collect(stream(daemon, source, replay_ms=2_000))
    assert AudioLost(ms=3_000) in events
    assert len(daemon.connections[1].audio) == 64_000
    assert events[-1] == Done(audio_ms=5_000)


async def test_the_stream_reconnects_after_a_shutdown(daemon: ScriptedDaemon, final: MakeFinal) -> None:
    source = ListSource(SECOND)

    async def drains(connection: ScriptedConnection) -> None:
        await connection.open()
        await connection.receive_audio(32_000)
        await connection.send(final("one two three"), Done(audio_ms=1_000))

    async def accepts(connection: ScriptedConnection) -> None:
        await connection.open()
        source.give(SECOND)
        source.stop()
        await connection.finish(final("four"))

    daemon.scripts = [drains, accepts]
    events = await collect(stream(daemon, source))
    assert [event.text for event in events if isinstance(event, Final)] == ["one two three", "four"]
    assert daemon.connections[1].audio == SECOND


async def test_a_permanent_refusal_is_raised(daemon: ScriptedDaemon) -> None:
    async def refuses(connection: ScriptedConnection) -> None:
        await connection.socket.recv()
        await connection.send(Error(code="unauthorized", message="a token is needed", fault="client"))

    daemon.scripts = [refuses]
    with pytest.raises(DaemonError, match="a token is needed"):
        await collect(stream(daemon, ListSource()))


async def test_a_stalled_client_reconnects(daemon: ScriptedDaemon) -> None:
    source = ListSource()

    async def times_out(connection: ScriptedConnection) -> None:
        await connection.open()
        await connection.send(Error(code="idle_timeout", message="nothing came", fault="client"))

    async def accepts(connection: ScriptedConnection) -> None:
        await connection.open()
        source.stop()
        await connection.finish()

    daemon.scripts = [times_out, accepts]
    assert isinstance((await collect(stream(daemon, source)))[-1], Done)


async def test_attempts_are_limited_after_the_source_has_ended(daemon: ScriptedDaemon) -> None:
    async def disconnects(connection: ScriptedConnection) -> None:
        connection.socket.transport.abort()

    daemon.scripts = [disconnects] * 3
    source = ListSource(SECOND)
    source.stop()
    with pytest.raises(ConnectionFailed):
        await collect(stream(daemon, source))
    assert len(daemon.connections) == 3


async def test_a_microphone_error_is_raised_after_the_last_final(
    daemon: ScriptedDaemon, final: MakeFinal
) -> None:
    async def script(connection: ScriptedConnection) -> None:
        await connection.open()
        await connection.finish(final("last words"))

    daemon.scripts = [script]
    source = ListSource(SECOND)
    source.give(MicrophoneError("unplugged"))
    seen: list[LiveEvent] = []

    async def watch() -> None:
        async with aclosing(stream(daemon, source).events()) as events:
            async for event in events:
                seen.append(event)

    with pytest.raises(MicrophoneError, match="unplugged"):
        await watch()
    assert any(isinstance(event, Final) for event in seen)


async def test_a_daemon_that_is_too_slow_is_disconnected(daemon: ScriptedDaemon) -> None:
    source = ListSource()
    given = asyncio.Event()

    async def stops_reading(connection: ScriptedConnection) -> None:
        await connection.open()
        connection.socket.transport.pause_reading()
        await given.wait()
        connection.socket.transport.abort()

    daemon.scripts = [stops_reading]
    live = stream(daemon, source, replay_ms=1_000)
    async with aclosing(live.events()) as events:
        async for event in events:
            if isinstance(event, Ready):
                for _ in range(400):
                    source.give(SECOND)
                    await asyncio.sleep(0)
                given.set()
            if isinstance(event, ConnectionStatus) and event.state == "waiting":
                assert event.message == "the daemon fell more than 1000 ms behind"
                break
        else:
            raise AssertionError("the slow daemon was not disconnected")


def resume_open(connection: ScriptedConnection, **fields: Any) -> Awaitable[None]:
    """Open a session that may be resumed."""
    return connection.open(resume="the-token", resume_for_ms=30_000, **fields)


async def resume(connection: ScriptedConnection, start: dict[str, Any]) -> dict[str, Any]:
    """Receive ``resume``; the audio has the format of ``start``."""
    connection.start = start
    request: dict[str, Any] = json.loads(await connection.socket.recv())
    return request


async def test_a_session_is_resumed_after_a_lost_connection(daemon: ScriptedDaemon, final: MakeFinal) -> None:
    audio = bytes(range(256)) * 250  # 2 s
    source = ListSource(audio)
    requests = []

    async def first(connection: ScriptedConnection) -> None:
        await resume_open(connection)
        await connection.receive_audio(len(audio))
        await connection.send(final("a"), final("b", utterance=1, start_ms=300))
        connection.socket.transport.abort()

    async def second(connection: ScriptedConnection) -> None:
        requests.append(await resume(connection, daemon.connections[0].start))
        connection.audio = audio[:40_000]
        await connection.send(
            Resumed(session="s", audio_samples=20_000, requests=0), final("c", utterance=2, start_ms=600)
        )
        source.stop()
        await connection.finish(final("d", utterance=3, start_ms=1_500))

    daemon.scripts = [first, second]
    events = await collect(stream(daemon, source))
    received = [event for event in events if isinstance(event, Final)]
    assert [(f.utterance, f.start_ms) for f in received] == [(0, 0), (1, 300), (2, 600), (3, 1_500)]
    # A final may be lost with the connection: the client asks for the first one that it has not received.
    assert requests == [{"type": "resume", "token": "the-token", "seq": 3}]
    assert daemon.connections[1].audio == audio
    assert sum(isinstance(event, Ready) for event in events) == 1


async def test_stop_is_not_sent_twice(daemon: ScriptedDaemon, final: MakeFinal) -> None:
    source = ListSource(bytes(6_400))
    source.stop()

    async def first(connection: ScriptedConnection) -> None:
        await resume_open(connection)
        while isinstance(await connection.socket.recv(), bytes):
            pass
        connection.socket.transport.abort()

    async def second(connection: ScriptedConnection) -> None:
        await resume(connection, daemon.connections[0].start)
        resumed = Resumed(session="s", audio_samples=3_200, requests=1)
        await connection.send(resumed, final("a"), Done(audio_ms=200))
        with pytest.raises(ConnectionClosed):
            pytest.fail(f"unexpected: {await connection.socket.recv()!r}")

    daemon.scripts = [first, second]
    events = await collect(stream(daemon, source))
    assert [event.utterance for event in events if isinstance(event, Final)] == [0]


async def test_audio_is_sent_again_if_the_daemon_does_not_have_the_session(
    daemon: ScriptedDaemon, final: MakeFinal
) -> None:
    source = ListSource(bytes(32_000))

    async def first(connection: ScriptedConnection) -> None:
        await resume_open(connection)
        await connection.receive_audio(32_000)
        connection.socket.transport.abort()

    async def second(connection: ScriptedConnection) -> None:
        await resume(connection, daemon.connections[0].start)
        await connection.send(Error(code="unknown_session", message="none", fault="client"))
        await connection.socket.close(1008)

    async def third(connection: ScriptedConnection) -> None:
        await resume_open(connection)
        source.stop()
        await connection.finish(final("a", start_ms=100))

    daemon.scripts = [first, second, third]
    events = await collect(stream(daemon, source))
    assert [event.start_ms for event in events if isinstance(event, Final)] == [100]
    assert daemon.connections[2].audio == bytes(32_000)
