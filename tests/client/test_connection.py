"""Test opening a session, its messages and its errors, with a scripted daemon."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from websockets.asyncio.server import serve
from websockets.datastructures import Headers
from websockets.http11 import Response

from streamasr.errors import ConfigError, ProtocolError
from streamasr.protocol.messages import Done, Error, HotwordSpec, SpeechStarted, Start
from streamasr_client.connection import AUDIO_MESSAGE_BYTES, DEFAULT_URL, Backoff, open_session
from streamasr_client.errors import ConnectionFailed, DaemonError
from tests.client.scripted import ScriptedConnection, ScriptedDaemon


def test_backoff_doubles_up_to_its_limit_with_jitter() -> None:
    high = Backoff(first_ms=100, max_ms=1_000, uniform=lambda low, top: top)
    assert [high.next_ms() for _ in range(6)] == [100, 200, 400, 800, 1_000, 1_000]
    high.reset()
    assert high.next_ms() == 100
    low = Backoff(first_ms=100, max_ms=1_000, uniform=lambda low, top: low)
    assert [low.next_ms() for _ in range(3)] == [50, 100, 200]


def test_backoff_waits_at_least_retry_after() -> None:
    low = Backoff(uniform=lambda low, top: low)
    assert low.next_ms(retry_after_ms=5_000) == 5_000
    high = Backoff(first_ms=500, uniform=lambda low, top: top)
    assert high.next_ms(retry_after_ms=5_000) == 5_250


async def test_a_session_from_start_to_done(daemon: ScriptedDaemon) -> None:
    async def script(connection: ScriptedConnection) -> None:
        await connection.open()
        await connection.finish(SpeechStarted(at_ms=3))

    daemon.scripts = [script]
    async with open_session(daemon.url, Start(sample_rate=8_000, token="t")) as session:
        assert session.ready.model == "en-small"
        await session.send_audio(bytes(2 * AUDIO_MESSAGE_BYTES + 4))
        await session.stop()
        messages = [message async for message in session.messages()]
    (connection,) = daemon.connections
    assert connection.start["token"] == "t"
    assert len(connection.audio) == 2 * AUDIO_MESSAGE_BYTES + 4
    assert messages == [SpeechStarted(at_ms=3), Done(audio_ms=2_048)]


async def test_a_refusal_keeps_code_fault_and_retry(daemon: ScriptedDaemon) -> None:
    async def full(connection: ScriptedConnection) -> None:
        await connection.socket.recv()
        await connection.send(Error(code="overloaded", message="no room", fault="server", retry_after_ms=700))

    daemon.scripts = [full]
    with pytest.raises(DaemonError, match="no room") as caught:
        async with open_session(daemon.url, Start()):
            pass
    assert (caught.value.code, caught.value.fault, caught.value.retry_after_ms) == (
        "overloaded",
        "server",
        700,
    )
    assert caught.value.may_retry


async def test_no_daemon_is_running() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"ws://127.0.0.1:{free.getsockname()[1]}/v1/stream"
        with pytest.raises(
            ConnectionFailed, match=r"no daemon at .*\(Connection refused\); start one with `streamasr serve`"
        ):
            async with open_session(url, Start()):
                pass


async def test_an_invalid_address_is_reported() -> None:
    with pytest.raises(ConfigError, match=r"not a websocket address.*an example is ws://"):
        async with open_session("http:/nowhere", Start()):
            pass


@pytest.mark.parametrize(
    "start", [Start(token="caf\udce9"), Start(hotwords=(HotwordSpec(text="caf\udce9"),))]
)
async def test_bytes_of_another_encoding_are_refused_before_they_are_sent(start: Start) -> None:
    with pytest.raises(ConfigError, match="a hotword or the token has bytes that are no characters"):
        async with open_session(DEFAULT_URL, start):
            pass


async def test_a_missing_ready_times_out(daemon: ScriptedDaemon) -> None:
    async def silent(connection: ScriptedConnection) -> None:
        await connection.socket.wait_closed()

    daemon.scripts = [silent]
    with pytest.raises(ConnectionFailed, match=r"no `ready` within 2 s"):
        async with open_session(daemon.url, Start(), open_timeout_s=2):
            pass


async def test_another_kind_of_server_is_reported(daemon: ScriptedDaemon) -> None:
    async def chatty(connection: ScriptedConnection) -> None:
        await connection.send(Done(audio_ms=0))

    async def foreign(connection: ScriptedConnection) -> None:
        await connection.socket.send("hello")

    daemon.scripts = [chatty, foreign]
    for pattern in ("expected `ready`", "not valid JSON"):
        with pytest.raises(ProtocolError, match=pattern):
            async with open_session(daemon.url, Start()):
                pass


async def test_a_lost_connection_raises_an_error(daemon: ScriptedDaemon) -> None:
    async def breaks(connection: ScriptedConnection) -> None:
        await connection.open()
        connection.socket.transport.abort()

    async def leaves(connection: ScriptedConnection) -> None:
        await connection.open()
        await connection.socket.close(1001, "upgrade")

    daemon.scripts = [breaks, leaves]
    for pattern in ("connection to the daemon was lost", "shutting down: upgrade"):
        with pytest.raises(ConnectionFailed, match=pattern):
            async with open_session(daemon.url, Start()) as session:
                assert [message async for message in session.messages()] == []


@pytest.mark.parametrize(
    ("status", "words", "fault", "retry_after_ms"),
    [
        (401, "--token", "client", None),
        (404, "the path is /v1/stream", "client", None),
        (429, "full", "server", 2_000),
        (503, "full", "server", 2_000),
    ],
)
async def test_a_refused_handshake_is_reported(
    status: int, words: str, fault: str, retry_after_ms: int | None
) -> None:
    def refuse(connection: Any, request: Any) -> Response:
        headers = Headers({"Retry-After": "2"} if retry_after_ms else {})
        return Response(status, "No", headers, b"full up\n")

    async with serve(lambda socket: socket.wait_closed(), "127.0.0.1", 0, process_request=refuse) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(DaemonError, match=words) as caught:
            async with open_session(f"ws://127.0.0.1:{port}/x", Start()):
                pass
    assert caught.value.fault == fault
    assert caught.value.retry_after_ms == retry_after_ms
