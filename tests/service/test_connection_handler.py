"""Test one client's connection: order, errors, limits, timeouts and backpressure, without effect on other clients."""

import asyncio
import json

import pytest
from websockets.exceptions import InvalidStatus

from streamasr.protocol.codes import ERROR_CODES
from streamasr.protocol.limits import Limits
from streamasr.protocol.messages import (
    Configure,
    Done,
    Error,
    Final,
    Finalize,
    Finalized,
    HotwordSpec,
    KeepAlive,
    Partial,
    Ready,
    Start,
    Stop,
    Warning,
)
from tests.service.conftest import Client, Launch
from tests.service.fake import FakeEngine

SECRET = "a-secret-of-some-length"


def partial(number: int, utterance: int = 0) -> Partial:
    return Partial(utterance=utterance, committed="", tail=f"word{number}", start_ms=0, end_ms=number)


def final(number: int) -> Final:
    return Final(utterance=number, text=f"text {number}", confidence=1.0, start_ms=0, end_ms=number)


async def ended_with(client: Client) -> Error:
    """Return the error that ends the session, after checking that the close code belongs to it."""
    last = (await client.rest())[-1]
    assert isinstance(last, Error)
    assert await client.close_code() == ERROR_CODES[last.code].close
    return last


async def test_a_whole_session(launch: Launch) -> None:
    harness = await launch(resume_for_ms=0)
    client = await harness.connect()
    await client.send(Start(sample_rate=8_000, encoding="mulaw"))
    assert await client.receive() == Ready(session="fake-0", sample_rate=8_000, latency_ms=640, model="fake")
    await client.send(b"abcd")
    await client.send(KeepAlive())
    await client.send(Configure(hotwords=(HotwordSpec(text="x"),)))
    await client.send(Finalize(id="7"))
    assert await client.receive() == Finalized(id="7")
    harness.engine.sessions[0].emit(final(0))
    assert await client.receive() == final(0)
    await client.send(Stop())
    assert await client.rest() == [Done(audio_ms=0)]
    assert await client.close_code() == 1000
    session = harness.engine.sessions[0]
    assert (session.audio, session.hotwords, session.stopped) == (b"abcd", (HotwordSpec(text="x"),), True)


@pytest.mark.parametrize(
    ("sent", "code", "words"),
    [
        (b"\0\0", "out_of_order", "audio came before start"),
        ("{", "bad_message", "not valid JSON"),
        ('{"type":"start","latency":640}', "bad_message", "latency: unknown field"),
        ('{"type":"stop"}', "out_of_order", "accepts start, keepalive"),
        ("x" * 70_000, "message_too_big", "may have at most 65536 bytes"),
    ],
)
async def test_an_invalid_first_message_ends_the_connection(
    launch: Launch, sent: str | bytes, code: str, words: str
) -> None:
    harness = await launch()
    client = await harness.connect()
    await client.send(sent)
    error = await ended_with(client)
    assert (error.code, error.fault) == (code, "client")
    assert words in error.message
    assert harness.engine.sessions == []


@pytest.mark.parametrize(
    ("sent", "code", "fault"),
    [
        (b"odd", "bad_audio", "client"),
        ('{"type":"start"}', "out_of_order", "client"),
        (bytes(5_000), "message_too_big", "client"),
        (b"boom", "internal", "server"),
    ],
)
async def test_an_error_ends_its_own_session_only(
    launch: Launch, sent: str | bytes, code: str, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    harness = await launch(limits=Limits(audio_bytes=4_096))
    other, client = await harness.session(), await harness.session()
    await client.send(sent)
    error = await ended_with(client)
    assert (error.code, error.fault) == (code, fault)
    assert "Traceback" not in error.message
    assert harness.engine.sessions[1].aborted
    await other.send(b"abcd")
    await other.send(Stop())
    assert isinstance((await other.rest())[-1], Done)
    assert harness.engine.sessions[0].audio == b"abcd"


async def test_messages_before_an_error_are_delivered(launch: Launch) -> None:
    harness = await launch()
    client = await harness.session()
    for number in range(5):
        harness.engine.sessions[0].emit(final(number))
    await client.send(b"odd")
    messages = await client.rest()
    assert messages[:-1] == [final(number) for number in range(5)]
    assert isinstance(messages[-1], Error)


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"odd", "bad_audio"),
        (bytes(5_000), "message_too_big"),
        ("x" * 5_000, "message_too_big"),
        ('{"type":"start"}', "out_of_order"),
        ("{", "bad_message"),
        ('{"type":"configure","hotwords":[{"word":"a"}]}', "bad_message"),
        (None, "idle_timeout"),
    ],
)
async def test_audio_before_a_clients_error_is_finished_first(
    launch: Launch, sent: str | bytes | None, code: str
) -> None:
    engine = FakeEngine()
    engine.last_words = (final(0), final(1))
    idle_timeout_s = 0.5 if sent is None else 60.0
    limits = Limits(audio_bytes=4_096, message_bytes=4_096)
    harness = await launch(engine, limits=limits, idle_timeout_s=idle_timeout_s)
    client = await harness.connect()
    for message in (Start(), b"abcd", sent):
        if message is not None:
            await client.send(message)
    ready, *finals, error = await client.rest()
    assert ready.type == "ready"
    (session,) = engine.sessions
    assert finals == [final(0), final(1)]
    assert isinstance(error, Error)
    assert error.code == code
    assert await client.close_code() == ERROR_CODES[code].close
    assert session.audio == b"abcd"


@pytest.mark.parametrize(
    ("hotwords", "words"),
    [
        ([{"text": ""}], "configure.hotwords[0].text: must not be empty"),
        (
            [{"text": "a"}, {"text": "x" * 65}],
            "configure.hotwords[1].text: expected at most 64 characters, got 65",
        ),
        ([{"text": "a", "boost": 99}], "configure.hotwords[0].boost: expected -20 to 20, got 99.0"),
        ([{"text": "a"}] * 300, "configure.hotwords: expected at most 256, got 300"),
        ([{"text": "\ud800"}], "configure.hotwords[0].text: contains half of a surrogate pair"),
    ],
)
async def test_hotwords_beyond_a_limit_change_nothing_and_the_session_goes_on(
    launch: Launch, hotwords: list[dict[str, object]], words: str
) -> None:
    harness = await launch()
    client = await harness.session()
    await client.send(Configure(hotwords=(HotwordSpec(text="old"),)))
    await client.send(b"ab")
    await client.send(json.dumps({"type": "configure", "hotwords": hotwords}))
    warning = await client.receive()
    assert isinstance(warning, Warning)
    assert warning.code == "bad_hotwords"
    assert warning.message.startswith(f"the hotwords stay as they were; {words}")
    await client.send(b"cd")
    await client.send(Stop())
    assert (await client.rest())[-1] == Done(audio_ms=0)
    session = harness.engine.sessions[0]
    assert (session.audio, session.hotwords) == (b"abcd", (HotwordSpec(text="old"),))


@pytest.mark.parametrize("first", [None, Start()])
async def test_hotwords_beyond_a_limit_are_an_error_without_a_session_that_listens(
    launch: Launch, first: Start | None
) -> None:
    harness = await launch()
    client = await harness.connect()
    if first is not None:
        await client.send(first)
        assert isinstance(await client.receive(), Ready)
        harness.engine.sessions[0].held_back = True
        await client.send(Stop())
    await client.send('{"type":"configure","hotwords":[{"text":""}]}')
    if first is not None:
        await asyncio.wait_for(await client.socket.ping(), 60)
        harness.engine.sessions[0].emit(Done(audio_ms=0))
    assert (await ended_with(client)).code == "bad_message"


async def test_audio_after_stop_does_not_lose_the_last_words(launch: Launch) -> None:
    harness = await launch()
    client = await harness.session()
    session = harness.engine.sessions[0]
    session.held_back = True
    await client.send(Stop())
    await client.send(b"late")
    await asyncio.wait_for(await client.socket.ping(), 60)
    session.emit(final(0))
    session.emit(Done(audio_ms=0))
    first, error = await client.rest()
    assert first == final(0)
    assert isinstance(error, Error)
    assert error.code == "out_of_order"


async def test_a_client_that_leaves_after_its_error_frees_its_session(launch: Launch) -> None:
    harness = await launch()
    client = await harness.session()
    session = harness.engine.sessions[0]
    session.held_back = True
    await client.send("{")
    await asyncio.wait_for(await client.socket.ping(), 60)
    client.socket.transport.abort()
    async with asyncio.timeout(60):
        await harness.server.drain()
    assert session.aborted


async def test_an_engine_error_ends_the_session(launch: Launch) -> None:
    harness = await launch()
    client = await harness.session()
    harness.engine.sessions[0].emit(Error(code="engine_failed", message="recognition failed", fault="server"))
    assert (await ended_with(client)).code == "engine_failed"


async def test_the_session_limit_sends_retry_after(launch: Launch) -> None:
    harness = await launch(FakeEngine(max_sessions=1))
    first = await harness.session()
    second = await harness.connect()
    await second.send(Start())
    error = await ended_with(second)
    assert (error.code, error.retry_after_ms, error.fault) == ("overloaded", 1_500, "server")
    await first.send(Stop())
    await first.rest()
    await harness.session()


async def test_too_many_connections_are_refused_in_the_handshake(launch: Launch) -> None:
    harness = await launch(max_connections=1)
    await harness.connect()
    with pytest.raises(InvalidStatus) as caught:
        await harness.connect()
    assert caught.value.response.status_code == 503
    assert caught.value.response.headers["Retry-After"] == "2"


async def test_a_client_without_start_times_out(launch: Launch) -> None:
    harness = await launch(start_timeout_s=2)
    client = await harness.connect()
    await client.send(KeepAlive())
    assert (await ended_with(client)).code == "start_timeout"


async def test_an_idle_session_times_out(launch: Launch) -> None:
    harness = await launch(idle_timeout_s=0.05)
    client = await harness.session()
    assert (await ended_with(client)).code == "idle_timeout"


async def test_a_lost_client_frees_its_session(launch: Launch) -> None:
    harness = await launch()
    client = await harness.session()
    client.socket.transport.abort()
    async with asyncio.timeout(60):
        await harness.server.drain()
    assert harness.engine.sessions[0].aborted


async def test_backpressure_stops_reading_until_resumed(launch: Launch) -> None:
    harness = await launch()
    client = await harness.session()
    session = harness.engine.sessions[0]
    session.congested, session.backlog_ms = True, 5_000
    await client.send(b"ab")
    warning = await client.receive()
    assert isinstance(warning, Warning)
    assert warning.code == "backlog"
    assert "5000 ms behind" in warning.message
    await client.send(b"cd")
    pong = await client.socket.ping()
    await asyncio.wait_for(pong, 60)
    assert session.audio == b"ab"
    session.resume()  # a spurious wake-up changes nothing
    session.relieve()
    await client.send(Finalize(id="after"))
    assert await client.receive() == Finalized(id="after")
    assert session.audio == b"abcd"


async def test_pings_are_answered_while_recognition_is_far_behind(launch: Launch) -> None:
    """A client with the default settings of its library closes with 1011 if a ping is not answered in time."""
    harness = await launch(read_ahead_bytes=640_000)
    client = await harness.session(ping_interval=0.1)
    session = harness.engine.sessions[0]
    session.congested = True
    for _ in range(200):  # 20 s
        await client.send(bytes(3_200))
        await asyncio.sleep(0.01)
    await asyncio.wait_for(await client.socket.ping(), 60)
    assert session.audio == bytes(3_200)
    session.relieve()
    await client.send(Stop())
    *_, done = await client.rest()
    assert done == Done(audio_ms=20_000)
    assert await client.close_code() == 1000


async def test_no_more_than_the_limit_is_read_ahead(launch: Launch) -> None:
    harness = await launch(read_ahead_bytes=100_000, receive_buffer_bytes=16_384)
    client = await harness.session(ping_interval=None)
    session = harness.engine.sessions[0]
    session.congested = True

    async def send() -> None:
        for _ in range(600):
            await client.send(bytes(16_000))

    sending = asyncio.create_task(send())
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(sending), 1)
    assert session.audio == bytes(16_000)
    session.relieve()
    await sending
    await client.send(Stop())
    *_, done = await client.rest()
    assert done == Done(audio_ms=300_000)


async def test_a_client_that_leaves_while_recognition_is_behind_frees_its_session(launch: Launch) -> None:
    harness = await launch(resume_for_ms=0)
    client = await harness.session()
    session = harness.engine.sessions[0]
    session.congested = True
    await client.send(bytes(3_200))
    await asyncio.wait_for(await client.socket.ping(), 60)
    client.socket.transport.abort()
    async with asyncio.timeout(60):
        await harness.server.drain()
    assert session.aborted


async def test_a_client_faster_than_real_time_gets_no_warning(launch: Launch) -> None:
    harness = await launch()
    client = await harness.session()
    session = harness.engine.sessions[0]
    session.congested = True
    await client.send(bytes(32_000 * 10))
    await client.send(Finalize(id="x"))
    session.emit(final(0))
    assert await client.receive() == final(0)
    session.relieve()
    assert await client.receive() == Finalized(id="x")


async def test_a_client_with_a_full_outbox_is_dropped(launch: Launch) -> None:
    harness = await launch(outbox_messages=4)
    client, other = await harness.session(), await harness.session()
    for number in range(6):
        harness.engine.sessions[0].emit(final(number))
    assert (await ended_with(client)).code == "slow_reader"
    assert harness.engine.sessions[0].aborted
    await other.send(Finalize(id="x"))
    assert await other.receive() == Finalized(id="x")


async def test_a_client_that_never_reads_is_disconnected(launch: Launch) -> None:
    harness = await launch(slow_reader_s=0.2, outbox_messages=100_000, send_buffer_bytes=4_096)
    client, other = await harness.session(close_timeout=0.1), await harness.session()
    client.socket.transport.pause_reading()
    long = Final(utterance=0, text="x" * 10_000, confidence=1.0, start_ms=0, end_ms=0)
    for _ in range(2_000):
        harness.engine.sessions[0].emit(long)
    async with asyncio.timeout(60):
        while not harness.engine.sessions[0].aborted:
            await other.send(Finalize(id="x"))
            assert await other.receive() == Finalized(id="x")
    assert b'code="slow_reader"' in harness.server.metrics.exposition()


async def test_only_the_newest_partial_is_queued(launch: Launch) -> None:
    harness = await launch()
    client = await harness.session()
    for number in range(1_000):
        harness.engine.sessions[0].emit(partial(number))
    assert await client.receive() == partial(999)


async def test_draining_finishes_open_sessions_and_refuses_new_ones(launch: Launch) -> None:
    harness = await launch()
    streaming, waiting = await harness.session(), await harness.connect()
    session = harness.engine.sessions[0]
    await streaming.send(b"ab" * 16_000)
    await streaming.send(Finalize(id="heard"))
    assert await streaming.receive() == Finalized(id="heard")
    draining = asyncio.create_task(harness.server.drain())
    warning, done = await streaming.rest()
    assert isinstance(warning, Warning)
    assert (warning.code, done) == ("shutting_down", Done(audio_ms=1_000))
    assert await streaming.close_code() == 1001
    assert session.stopped
    error = await ended_with(waiting)
    assert (error.code, error.fault, error.retry_after_ms) == ("shutting_down", "server", 2_000)
    assert await draining
    with pytest.raises(InvalidStatus, match="503"):
        await harness.connect()


async def test_audio_received_while_draining_is_ignored(launch: Launch) -> None:
    harness = await launch()
    client = await harness.session()
    session = harness.engine.sessions[0]
    session.stop = lambda: None  # type: ignore[method-assign]
    draining = asyncio.create_task(harness.server.drain())
    assert (await client.receive()).type == "warning"
    await client.send(b"late")
    await client.send(Stop())
    session.emit(Done(audio_ms=0))
    assert await client.rest() == [Done(audio_ms=0)]
    assert await client.close_code() == 1001
    assert (await draining, session.audio) == (True, b"")


async def test_draining_times_out(launch: Launch) -> None:
    harness = await launch(drain_timeout_s=0.05)
    client = await harness.session()
    harness.engine.sessions[0].stop = lambda: None  # type: ignore[method-assign]
    assert not await harness.server.drain()
    await harness.server.close()
    assert await client.close_code() == 1001


async def test_a_token_in_start_is_accepted(launch: Launch) -> None:
    harness = await launch(token=SECRET)
    await harness.session(Start(token=SECRET))
    for start in (Start(), Start(token="wrong")):
        client = await harness.connect()
        await client.send(start)
        assert (await ended_with(client)).code == "unauthorized"


async def test_a_token_in_the_handshake_is_accepted(launch: Launch) -> None:
    harness = await launch(token=SECRET)
    await harness.session(query=f"?token={SECRET}")
    await harness.session(additional_headers={"Authorization": f"Bearer {SECRET}"})
    for options in ({"query": "?token=wrong"}, {"additional_headers": {"Authorization": "Bearer wrong"}}):
        with pytest.raises(InvalidStatus, match="401"):
            await harness.session(**options)


async def test_neither_audio_nor_text_is_logged(launch: Launch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    harness = await launch()
    client = await harness.session(Start(hotwords=(HotwordSpec(text="confidential"),)))
    harness.engine.sessions[0].emit(
        Final(utterance=0, text="confidential", confidence=1, start_ms=0, end_ms=1)
    )
    await client.send(Stop())
    await client.rest()
    await harness.server.drain()
    records = [record.getMessage() + json.dumps(getattr(record, "fields", {})) for record in caplog.records]
    assert any("session_closed" in text and '"outcome": "done"' in text for text in records)
    assert not any("confidential" in text for text in records)
