"""Test what every dialect gets from the service: tokens, refusals, limits, order, drain and metrics."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from streamasr.protocol.limits import Limits
from streamasr.protocol.messages import Final
from tests.dialects.lines import LinesDialect
from tests.service.conftest import Harness, Launch, launch
from tests.service.fake import FakeEngine

__all__ = ["launch"]
SECRET = "a-secret-of-some-length"


def final(number: int) -> Final:
    return Final(utterance=number, text=f"text {number}", confidence=1.0, start_ms=0, end_ms=number)


def url(harness: Harness, path: str = "/v1/lines") -> str:
    return f"ws://127.0.0.1:{harness.port}{path}"


async def rest(client: ClientConnection) -> list[str]:
    return [str(frame) async for frame in texts(client)]


async def texts(client: ClientConnection) -> AsyncIterator[object]:
    try:
        while True:
            yield await client.recv()
    except ConnectionClosed:
        return


async def test_a_session_in_a_dialect(launch: Launch) -> None:
    harness = await launch(dialects=[LinesDialect()])
    async with connect(url(harness, "/v1/lines?rate=8000"), proxy=None) as client:
        await client.send(b"abcd")
        await client.send("count")
        assert await client.recv() == "0 lines"
        (session,) = harness.engine.sessions
        assert (session.start.sample_rate, session.audio) == (8_000, b"abcd")
        session.last_words = (final(0), final(1))
        await client.send("end")
        assert await rest(client) == ["text 0", "text 1"]
        assert client.close_code == 1000
    text = harness.server.metrics.exposition().decode()
    assert 'streamasr_dialect_sessions_total{dialect="lines"} 1.0' in text
    assert 'streamasr_dialect_audio_seconds_total{dialect="lines"} 0.00025' in text


async def test_replies_keep_their_place_among_the_engines_messages(launch: Launch) -> None:
    harness = await launch(dialects=[LinesDialect()])
    async with connect(url(harness), proxy=None) as client:
        await client.send("count")
        assert await client.recv() == "0 lines"
        harness.engine.sessions[0].emit(final(0))
        assert await client.recv() == "text 0"
        await client.send("count")
        assert await client.recv() == "1 lines"


@pytest.mark.parametrize(
    ("sent", "words", "close_code"),
    [
        ("nonsense", "expected audio, end or count", 1008),
        (bytes(5_000), "may have at most 4096 bytes", 1009),
        (b"odd", "half a sample", 1003),
    ],
)
async def test_an_error_has_the_dialects_shape_and_comes_after_the_finals(
    launch: Launch, sent: str | bytes, words: str, close_code: int
) -> None:
    harness = await launch(dialects=[LinesDialect()], limits=Limits(audio_bytes=4_096))
    async with connect(url(harness), proxy=None) as client:
        await client.send(b"abcd")
        await client.send("count")
        await client.recv()
        harness.engine.sessions[0].last_words = (final(0),)
        await client.send(sent)
        text, error = await rest(client)
    assert text == "text 0"
    assert error.startswith("error: ")
    assert words in error
    assert client.close_code == close_code


async def test_options_beyond_a_limit_are_refused_as_in_the_native_protocol(launch: Launch) -> None:
    harness = await launch(dialects=[LinesDialect()])
    async with connect(url(harness, "/v1/lines?rate=1"), proxy=None) as client:
        assert await rest(client) == ["error: start.sample_rate: expected 8000 to 48000, got 1"]
        assert client.close_code == 1008


async def test_a_refused_handshake_has_the_dialects_shape(launch: Launch) -> None:
    harness = await launch(dialects=[LinesDialect()])
    with pytest.raises(InvalidStatus) as caught:
        await connect(url(harness, "/v1/lines?rate=fast"), proxy=None)
    assert caught.value.response.status_code == 400
    assert caught.value.response.body == b"refused: rate must be a number of Hz, got 'fast'\n"


@pytest.mark.parametrize(
    "options",
    [
        {"additional_headers": {"Authorization": f"Bearer {SECRET}"}},
        {"additional_headers": {"Authorization": f"Token {SECRET}"}},
        {"additional_headers": {"api-key": SECRET}},
        {"subprotocols": ["token", SECRET]},
        {"subprotocols": ["realtime", f"openai-insecure-api-key.{SECRET}"]},
    ],
)
async def test_the_token_is_accepted_wherever_clients_put_it(
    launch: Launch, options: dict[str, object]
) -> None:
    harness = await launch(dialects=[LinesDialect()], token=SECRET)
    async with connect(url(harness), proxy=None, **options) as client:  # type: ignore[arg-type]
        await client.send("count")
        assert await client.recv() == "0 lines"
    async with connect(url(harness, f"/v1/lines?token={SECRET}"), proxy=None) as client:
        await client.send("count")
        assert await client.recv() == "0 lines"


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}])
async def test_a_client_without_the_token_is_refused_in_the_handshake(
    launch: Launch, headers: dict[str, str]
) -> None:
    harness = await launch(dialects=[LinesDialect()], token=SECRET)
    with pytest.raises(InvalidStatus) as caught:
        await connect(url(harness), proxy=None, additional_headers=headers)
    assert caught.value.response.status_code == 401
    assert (caught.value.response.body or b"").startswith(b"refused: missing or invalid token")
    assert harness.engine.sessions == []


async def test_an_overloaded_engine_is_reported(launch: Launch) -> None:
    harness = await launch(FakeEngine(max_sessions=0), dialects=[LinesDialect()])
    async with connect(url(harness), proxy=None) as client:
        assert await rest(client) == ["error: all sessions are taken"]
        assert client.close_code == 1013


@pytest.mark.parametrize("path", ["/vosk", "/v1/realtime", "/v1/listen"])
async def test_a_client_may_connect_before_a_person_allows_the_microphone(launch: Launch, path: str) -> None:
    harness = await launch(start_timeout_s=0.05, idle_timeout_s=0.5)
    async with connect(url(harness, path), proxy=None) as client:
        await rest(client)
        assert (client.close_code, client.close_reason) == (1008, "idle_timeout"), "not start_timeout"
    assert harness.engine.sessions == []


async def test_draining_finishes_the_session(launch: Launch) -> None:
    harness = await launch(dialects=[LinesDialect()])
    async with connect(url(harness), proxy=None) as client:
        await client.send("count")
        await client.recv()
        harness.engine.sessions[0].last_words = (final(0),)
        draining = asyncio.create_task(harness.server.drain())
        assert await rest(client) == ["text 0"]
        assert client.close_code == 1001
        assert await draining
