"""Test that a session outlives its connection, and that its client continues it on another one."""

import asyncio
import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest

from streamasr.errors import NoHeadroomError
from streamasr.protocol.limits import Limits
from streamasr.protocol.messages import Done, Error, Final, Finalize, Finalized, Partial, Resume, Start, Stop
from tests.service.conftest import Client, Harness, Launch
from tests.service.fake import FakeEngine, FakeSession, Sink


def final(number: int) -> Final:
    return Final(utterance=number, text=f"text {number}", confidence=1.0, start_ms=0, end_ms=number)


def partial(number: int) -> Partial:
    return Partial(utterance=0, committed="", tail=f"word{number}", start_ms=0, end_ms=number)


async def raw(client: Client) -> dict[str, Any]:
    """The next message, as JSON."""
    message: dict[str, Any] = json.loads(await client.socket.recv())
    return message


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def parked(harness: Harness) -> float:
    text = harness.server.metrics.exposition().decode()
    return float(text.partition("\nstreamasr_sessions_parked ")[2].partition("\n")[0])


async def opened(harness: Harness, start: Start | None = None) -> tuple[Client, str]:
    """A client with an open session, and its token."""
    client = await harness.connect()
    await client.send(start or Start())
    ready = await raw(client)
    assert (ready["type"], ready["seq"], ready["resume_for_ms"]) == ("ready", 0, 30_000)
    return client, ready["resume"]


async def cut(harness: Harness, client: Client) -> None:
    """Break the connection, and wait until the server has noticed."""
    client.socket.transport.abort()
    await client.socket.wait_closed()
    await until(lambda: parked(harness) or not harness.engine.open_sessions)


async def resumed(harness: Harness, token: str, seq: int) -> tuple[Client, dict[str, Any]]:
    client = await harness.connect()
    await client.send(Resume(token=token, seq=seq))
    return client, await raw(client)


async def refused(harness: Harness, token: str, seq: int = 0) -> Error:
    client = await harness.connect()
    await client.send(Resume(token=token, seq=seq))
    (error,) = await client.rest()
    assert isinstance(error, Error)
    return error


async def test_messages_and_audio_continue_where_the_connection_broke(launch: Launch) -> None:
    harness = await launch()
    client, token = await opened(harness)
    session = harness.engine.sessions[0]
    await client.send(b"ab" * 40)
    await client.send(Finalize(id="1"))
    assert (await raw(client))["type"] == "finalized"
    session.emit(final(0))
    assert (await raw(client))["seq"] == 2
    await cut(harness, client)
    assert not session.aborted
    session.emit(final(1))
    session.emit(partial(2))
    session.emit(partial(3))
    again, answer = await resumed(harness, token, 2)
    assert answer == {"type": "resumed", "session": "fake-0", "audio_samples": 40, "requests": 1}
    received = [await raw(again) for _ in range(3)]
    assert [(message["seq"], message["type"]) for message in received] == [
        (2, "final"),
        (3, "final"),
        (4, "partial"),
    ]
    assert received[2]["tail"] == "word3"
    await again.send(b"cd" * 20)
    await again.send(Stop())
    assert await raw(again) == {"type": "done", "seq": 5, "audio_ms": 3}
    assert session.audio == b"ab" * 40 + b"cd" * 20
    assert await again.close_code() == 1000
    assert (await refused(harness, token)).code == "unknown_session"


async def test_hotwords_that_were_refused_count_as_received(launch: Launch) -> None:
    harness = await launch()
    client, token = await opened(harness)
    await client.send('{"type":"configure","hotwords":[{"text":""}]}')
    assert (await raw(client))["code"] == "bad_hotwords"
    await cut(harness, client)
    _, answer = await resumed(harness, token, 1)
    assert answer["requests"] == 1


async def test_done_that_was_lost_is_sent_again(launch: Launch) -> None:
    harness = await launch(close_timeout_s=0.2)
    client, token = await opened(harness)
    session = harness.engine.sessions[0]
    session.held_back = True
    await client.send(Stop())
    await until(lambda: session.stopped)
    await cut(harness, client)
    session.emit(final(0))
    session.emit(Done(audio_ms=0))
    again, answer = await resumed(harness, token, 1)
    assert answer["requests"] == 1
    assert await again.rest() == [final(0), Done(audio_ms=0)]
    assert await again.close_code() == 1000


async def test_a_second_connection_takes_the_session_over(launch: Launch) -> None:
    harness = await launch()
    client, token = await opened(harness)
    await client.send(b"ab")
    await client.send(Finalize())
    await raw(client)
    again, answer = await resumed(harness, token, 2)
    assert answer["audio_samples"] == 1
    await client.send(b"old!")
    assert await client.rest() == []
    assert await client.close_code() == 1008
    await again.send(b"new!")
    await again.send(Finalize(id="2"))
    assert await again.receive() == Finalized(id="2")
    assert harness.engine.sessions[0].audio == b"abnew!"


async def test_a_session_is_taken_over_again_and_again(launch: Launch) -> None:
    harness = await launch()
    client, token = await opened(harness)
    for number in range(5):
        client, answer = await resumed(harness, token, 1 + number)
        assert answer["audio_samples"] == 2 * number
        await client.send(b"abcd")
        await client.send(Finalize(id=str(number)))
        assert (await raw(client))["seq"] == 1 + number


async def test_a_token_works_without_the_servers_token(launch: Launch) -> None:
    harness = await launch(token="a-secret-of-some-length")
    client, token = await opened(harness, Start(token="a-secret-of-some-length"))
    await cut(harness, client)
    _, answer = await resumed(harness, token, 1)
    assert answer["type"] == "resumed"


@pytest.mark.parametrize("token", ["", "unknown", "ä" * 40])
async def test_an_unknown_token_is_refused(launch: Launch, token: str) -> None:
    harness = await launch()
    error = await refused(harness, token)
    assert (error.code, error.fault) == ("unknown_session", "client")
    assert "open a new one with `start`" in error.message


async def test_sessions_are_found_by_a_digest(launch: Launch) -> None:
    harness = await launch()
    await harness.session()
    assert harness.server._sessions is not None
    (session,) = (entry.session for entry in harness.server._sessions._entries.values())
    assert list(harness.server._sessions._entries) == [hashlib.sha256(session.token.encode()).digest()]


async def test_messages_that_are_no_longer_kept_cannot_be_repeated(launch: Launch) -> None:
    harness = await launch(resume_messages=3)
    client, token = await opened(harness)
    for number in range(5):
        harness.engine.sessions[0].emit(final(number))
        await raw(client)
    await cut(harness, client)
    error = await refused(harness, token, 2)
    assert (error.code, "before number 3" in error.message) == ("unknown_session", True)
    error = await refused(harness, token, 7)
    assert (error.code, error.message) == ("bad_message", "resume.seq: expected at most 6, got 7")
    _, answer = await resumed(harness, token, 3)
    assert answer["type"] == "resumed"


async def test_a_client_that_leaves_ends_its_session(launch: Launch) -> None:
    harness = await launch()
    client, token = await opened(harness)
    await client.socket.close(1000)
    await until(lambda: harness.engine.sessions[0].aborted)
    assert (await refused(harness, token)).code == "unknown_session"


async def test_a_page_that_is_reloaded_may_come_back(launch: Launch) -> None:
    harness = await launch()
    client, token = await opened(harness)
    await client.socket.close(1001)
    _, answer = await resumed(harness, token, 1)
    assert answer["type"] == "resumed"


async def test_a_parked_session_expires(launch: Launch) -> None:
    harness = await launch(resume_for_ms=50)
    client = await harness.connect()
    await client.send(Start())
    token = (await raw(client))["resume"]
    await cut(harness, client)
    await until(lambda: harness.engine.sessions[0].aborted)
    assert (await refused(harness, token)).code == "unknown_session"
    assert parked(harness) == 0


async def test_the_oldest_parked_session_makes_room_for_a_new_one(launch: Launch) -> None:
    harness = await launch(engine=FakeEngine(max_sessions=2))
    first, first_token = await opened(harness)
    second, second_token = await opened(harness)
    for client in (first, second):
        client.socket.transport.abort()
        await client.socket.wait_closed()
    await until(lambda: parked(harness) == 2)
    await opened(harness)
    assert [session.aborted for session in harness.engine.sessions] == [True, False, False]
    assert (await refused(harness, first_token)).code == "unknown_session"
    _, answer = await resumed(harness, second_token, 1)
    assert answer["type"] == "resumed"
    refused_client = await harness.connect()
    await refused_client.send(Start())
    (error,) = await refused_client.rest()
    assert isinstance(error, Error)
    assert error.code == "overloaded"


class BusyEngine(FakeEngine):
    """Has slots, but no time for a second live session."""

    late = False

    def open(
        self, start: Start, sink: Sink, resume: Callable[[], None] = lambda: None, *, bulk: bool = False
    ) -> FakeSession:
        if any(session.is_live for session in self.open_sessions):
            raise NoHeadroomError("no time", late=self.late, retry_after_ms=1_500)
        return super().open(start, sink, resume, bulk=bulk)


@pytest.mark.parametrize(
    ("live", "late", "admitted"), [(True, False, True), (True, True, False), (False, False, True)]
)
async def test_a_parked_session_gives_its_time_to_a_new_one(
    launch: Launch, live: bool, late: bool, admitted: bool
) -> None:
    """But not if that helps nobody: when captions are late already, or when it takes no time any more."""
    engine = BusyEngine()
    harness = await launch(engine=engine)
    client, token = await opened(harness)
    await cut(harness, client)
    engine.sessions[0].is_live, engine.late = live, late
    another = await harness.connect()
    await another.send(Start())
    assert (await raw(another))["type"] == ("ready" if admitted else "error")
    assert engine.sessions[0].aborted == (live and not late)
    if not engine.sessions[0].aborted:
        _, answer = await resumed(harness, token, 1)
        assert answer["type"] == "resumed"


async def test_only_sessions_that_take_time_are_ended_for_it(launch: Launch) -> None:
    engine = FakeEngine()
    harness = await launch(engine=engine)
    clients = [await opened(harness) for _ in range(2)]
    for client, _ in clients:
        client.socket.transport.abort()
        await client.socket.wait_closed()
    await until(lambda: parked(harness) == 2)
    engine.sessions[0].is_live = False
    assert harness.server._sessions is not None
    assert harness.server._sessions.end_oldest(live_only=True)
    assert not harness.server._sessions.end_oldest(live_only=True)
    assert [session.aborted for session in engine.sessions] == [False, True]


async def test_the_messages_that_wait_for_a_parked_session_are_bounded(launch: Launch) -> None:
    harness = await launch(outbox_messages=3)
    client, token = await opened(harness)
    await cut(harness, client)
    for number in range(20):
        harness.engine.sessions[0].emit(final(number))
    await until(lambda: harness.engine.sessions[0].aborted)
    again, answer = await resumed(harness, token, 1)
    assert answer["type"] == "resumed"
    (error,) = await again.rest()
    assert isinstance(error, Error)
    assert error.code == "slow_reader"


async def test_sessions_that_are_over_are_kept_up_to_a_number(launch: Launch) -> None:
    """They have no slot, so a client that stops and vanishes again and again could leave any number behind."""
    harness = await launch(max_connections=3, close_timeout_s=0.2)
    tokens = []
    for _ in range(6):
        client, token = await opened(harness)
        harness.engine.sessions[-1].held_back = True
        await client.send(Stop())
        await until(lambda: harness.engine.sessions[-1].stopped)
        client.socket.transport.abort()
        await client.socket.wait_closed()
        harness.engine.sessions[-1].emit(Done(audio_ms=0))
        tokens.append(token)
    await until(lambda: not harness.server._handlers)
    assert parked(harness) == 3
    assert (await refused(harness, tokens[0])).code == "unknown_session"
    _, answer = await resumed(harness, tokens[-1], 1)
    assert answer["type"] == "resumed"


async def test_draining_ends_parked_sessions(launch: Launch) -> None:
    harness = await launch()
    client, _ = await opened(harness)
    await cut(harness, client)
    assert await harness.server.drain()
    assert harness.engine.sessions[0].aborted


async def test_sessions_are_not_kept_if_the_operator_says_so(launch: Launch) -> None:
    harness = await launch(resume_for_ms=0)
    client = await harness.connect()
    await client.send(Start())
    ready = await raw(client)
    assert "resume" not in ready
    assert ready["seq"] == 0
    client.socket.transport.abort()
    await until(lambda: harness.engine.sessions[0].aborted)
    assert (await refused(harness, "any")).code == "unknown_session"


async def test_resume_during_a_session_is_refused(launch: Launch) -> None:
    harness = await launch()
    client, token = await opened(harness)
    await client.send(Resume(token=token))
    (error,) = await client.rest()
    assert isinstance(error, Error)
    assert error.code == "out_of_order"


async def test_a_congested_session_is_resumed(launch: Launch) -> None:
    """The old connection waits for room, which it must not take from the new one."""
    harness = await launch()
    client, token = await opened(harness)
    session = harness.engine.sessions[0]
    session.congested = True
    await client.send(b"abcd")
    again, answer = await resumed(harness, token, 1)
    assert answer["audio_samples"] in (0, 2)
    rest = b"abcd"[2 * answer["audio_samples"] :] + b"efgh"
    await again.send(rest)
    await again.send(b"ijkl")
    await asyncio.sleep(0.05)
    session.relieve()
    await again.send(Finalize(id="x"))
    async with asyncio.timeout(60):
        while (message := await again.receive()) != Finalized(id="x"):
            assert message.type == "warning"
    assert session.audio == b"abcdefghijkl"


async def test_what_came_before_a_message_beyond_all_limits_can_still_be_finished(launch: Launch) -> None:
    """The websocket layer closes at once with 1009, and sends nothing after that; the session is kept."""
    harness = await launch(limits=Limits(audio_bytes=4_096))
    client, token = await opened(harness)
    await client.send(b"abcd")
    await client.send(bytes(4 * 4_096 + 2))
    assert await client.rest() == []
    assert await client.close_code() == 1009
    again, answer = await resumed(harness, token, 1)
    assert answer["audio_samples"] == 2
    harness.engine.sessions[0].last_words = (final(0),)
    await again.send(Stop())
    last, done = await again.rest()
    assert (last, done.type) == (final(0), "done")
