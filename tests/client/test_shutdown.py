"""Test that captions continue whole when a daemon shuts down in the middle of an utterance."""

from __future__ import annotations

import pytest

from streamasr.protocol.messages import Done, Error, Final, SpeechStarted, Warning
from streamasr_client.errors import ConnectionFailed
from streamasr_client.live import LiveEvent
from tests.client.scripted import ListSource, MakeFinal, ScriptedConnection, ScriptedDaemon
from tests.client.test_live import SECOND, collect, stream

CUT = Warning(code="shutting_down", message="the last finals follow")
FIRST_WORDS, CUT_WORDS = "one two", "three fo"


async def drain_in_a_word(connection: ScriptedConnection, final: MakeFinal) -> None:
    """Recognise one utterance, and end the second one for a shutdown after three seconds."""
    await connection.open()
    await connection.receive_audio(96_000)
    await connection.send(final(FIRST_WORDS, start_ms=0))
    await connection.send(SpeechStarted(at_ms=2_100), CUT)
    await connection.send(final(CUT_WORDS, utterance=1, start_ms=2_100), Done(audio_ms=3_000))


def texts(events: list[LiveEvent]) -> list[tuple[int, str]]:
    return [(event.utterance, event.text) for event in events if isinstance(event, Final)]


async def test_an_utterance_that_a_shutdown_cuts_short_is_recognised_whole(
    daemon: ScriptedDaemon, final: MakeFinal
) -> None:
    blocks = [bytes([number]) * 32_000 for number in range(1, 5)]
    source = ListSource(*blocks[:3])

    async def continues(connection: ScriptedConnection) -> None:
        await connection.open()
        source.give(blocks[3])
        source.stop()
        await connection.finish(final("three four", start_ms=1_000))

    daemon.scripts = [lambda connection: drain_in_a_word(connection, final), continues]
    events = await collect(stream(daemon, source))
    assert texts(events) == [(0, FIRST_WORDS), (1, "three four")]
    first_end_ms = next(event.end_ms for event in events if isinstance(event, Final))
    assert daemon.connections[1].audio == b"".join(blocks)[first_end_ms * 32 :]
    assert events[-1] == Done(audio_ms=4_000)


async def test_a_final_before_a_shutdown_is_not_held_back_when_all_audio_was_recognised(
    daemon: ScriptedDaemon, final: MakeFinal
) -> None:
    source = ListSource(*[SECOND] * 3)
    source.stop()
    daemon.scripts = [lambda connection: drain_in_a_word(connection, final)]
    events = await collect(stream(daemon, source))
    assert texts(events) == [(0, FIRST_WORDS), (1, CUT_WORDS)]
    assert events[-1] == Done(audio_ms=3_000)


async def test_words_that_were_held_back_are_not_lost_without_another_daemon(
    daemon: ScriptedDaemon, final: MakeFinal
) -> None:
    source = ListSource(*[SECOND] * 3)
    gone = 0

    async def refuses(connection: ScriptedConnection) -> None:
        nonlocal gone
        gone += 1
        if gone == 1:
            source.give(SECOND)
            source.stop()
        await connection.socket.recv()
        connection.socket.transport.abort()

    daemon.scripts = [lambda connection: drain_in_a_word(connection, final), *[refuses] * 4]
    seen: list[LiveEvent] = []

    async def watch() -> None:
        async for event in stream(daemon, source).events():
            seen.append(event)

    with pytest.raises(ConnectionFailed):
        await watch()
    assert texts(seen) == [(0, FIRST_WORDS), (1, CUT_WORDS)]


async def test_words_that_were_held_back_are_shown_when_their_audio_is_gone(
    daemon: ScriptedDaemon, final: MakeFinal
) -> None:
    source = ListSource(*[SECOND] * 3)

    async def refuses(connection: ScriptedConnection) -> None:
        source.give(*[SECOND] * 3)
        source.stop()
        await connection.socket.recv()
        await connection.send(Error(code="overloaded", message="full", fault="server"))

    async def accepts(connection: ScriptedConnection) -> None:
        await connection.open()
        await connection.finish(final("five", start_ms=0))

    daemon.scripts = [lambda connection: drain_in_a_word(connection, final), refuses, accepts]
    events = await collect(stream(daemon, source, replay_ms=3_000))
    assert texts(events) == [(0, FIRST_WORDS), (1, CUT_WORDS), (2, "five")]
    assert events[-1] == Done(audio_ms=6_000)
