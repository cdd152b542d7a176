"""Test that nothing that one client does changes another client's text."""

import asyncio
import os
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from streamasr.protocol.messages import Done, Error, Start, Warning
from streamasr.protocol.serialisation import encode, parse_server_message
from tests.integration.conftest import Daemon, run_daemon
from tests.integration.streams import Stream, open_stream, voice

pytestmark = pytest.mark.timeout(300)
"""Starting daemons takes long on a busy machine."""

VOICES = [voice(1), voice(2), voice(3)]

ENDLESS_CLIENT = """
import sys
from websockets.sync.client import connect
with connect(sys.argv[1], proxy=None) as socket:
    socket.send('{"type":"start"}')
    socket.recv()
    socket.send(bytes(32000))
    print("streaming", flush=True)
    while True:
        socket.send(bytes(3200))
        socket.recv()
"""


@pytest.fixture
async def expected(daemon: Daemon) -> list[str]:
    """The text of each voice when it is the only stream."""
    texts = [await daemon.transcribe(pcm) for pcm in VOICES]
    assert len({text for text in texts if text}) == len(VOICES), "the voices must have different texts"
    return texts


async def test_a_client_killed_with_sigkill(daemon: Daemon, expected: list[str]) -> None:
    client = await asyncio.create_subprocess_exec(
        sys.executable, "-c", ENDLESS_CLIENT, daemon.url, stdout=asyncio.subprocess.PIPE
    )
    assert client.stdout is not None
    assert await client.stdout.readline() == b"streaming\n"

    async def kill() -> None:
        client.send_signal(signal.SIGKILL)
        assert await client.wait() == -signal.SIGKILL

    assert await daemon.transcribe_during(VOICES, kill) == expected
    # Its slot is free again, so four sessions can be opened.
    assert await daemon.transcribe_during([*VOICES, VOICES[0]], nothing) == [*expected, expected[0]]


async def test_a_client_that_never_reads(daemon: Daemon, expected: list[str]) -> None:
    """It is disconnected when the buffers are full."""
    tcp_socket = socket.socket()
    tcp_socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    tcp_socket.connect(("127.0.0.1", daemon.port))
    tcp_socket.setblocking(False)
    async with connect(daemon.url, sock=tcp_socket, max_queue=1, ping_interval=None) as client:
        await client.send(encode(Start(latency_ms=160, alternatives=10)))
        client.transport.pause_reading()

        async def send_until_disconnected() -> None:
            with suppress(ConnectionClosed):
                while True:
                    await client.send(VOICES[0])

        assert await daemon.transcribe_during(VOICES, send_until_disconnected) == expected
    assert 'streamasr_session_errors_total{code="slow_reader"} 1.0' in await daemon.metrics()


@pytest.mark.parametrize(
    "garbage",
    [
        pytest.param(os.urandom(20_000), id="noise"),
        pytest.param(b"\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff" + bytes(4), id="a message of 2^64 bytes"),
        pytest.param(b"\xf1\x80\0\0\0\0", id="reserved bits"),
        pytest.param(b"\x81\x82\0\0\0\0\xc3\x28", id="text that is not UTF-8"),
        pytest.param(b"\x01\x80\0\0\0\0" * 1_000, id="fragments without end"),
        pytest.param(b"\x81\x81\0\0\0\0{", id="a broken object"),
    ],
)
async def test_garbage_after_the_handshake(daemon: Daemon, expected: list[str], garbage: bytes) -> None:
    async def send_garbage() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", daemon.port)
        writer.write(
            b"GET /v1/stream HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        assert b" 101 " in await reader.readline()
        writer.write(garbage)
        async with asyncio.timeout(60):
            answer = await reader.read()
        assert b"Traceback" not in answer
        writer.close()

    assert await daemon.transcribe_during(VOICES, send_garbage) == expected


async def test_invalid_messages(daemon: Daemon, expected: list[str]) -> None:
    nan = b"\x00\x00\xc0\x7f"
    cases: list[tuple[str, str | bytes, str]] = [
        ('{"type":"start"}', b"OggS\0\0", "bad_audio"),
        ('{"type":"start","encoding":"pcm_f32le"}', nan * 4, "bad_audio"),
        ('{"type":"start"}', bytes(2_000_000), "message_too_big"),
        ('{"type":"start"}', "null", "bad_message"),
        ('{"type":"start","hotwords":[{"text":"\\u4f60\\u597d"}]}', "x", "bad_message"),
    ]

    async def misbehave() -> None:
        for start, then, code in cases:
            async with connect(daemon.url, proxy=None) as client:
                await client.send(start)
                await client.send(then)
                last = (await Stream(client).all_messages())[-1]
                assert isinstance(last, Error)
                assert (last.code, last.fault) == (code, "client")
                assert "Traceback" not in last.message

    assert await daemon.transcribe_during(VOICES, misbehave) == expected


async def test_twice_the_session_limit(daemon: Daemon, expected: list[str]) -> None:
    """Four of eight are accepted and lose nothing; the others get ``retry_after_ms`` and are accepted later."""
    first = await daemon.transcribe_during([*VOICES, VOICES[0]], lambda: refused_four_times(daemon))
    assert first == [*expected, expected[0]]
    assert await daemon.transcribe_during([*VOICES, VOICES[1]], nothing) == [*expected, expected[1]]


async def test_sigterm_during_an_utterance(daemon: Daemon, tiny_folder: Path) -> None:
    """Every stream gets the finals of its audio, `done` and 1001; the daemon exits with 0."""
    results: list[tuple[bytes, str]] = []

    async def stream_voice(pcm: bytes, sent: asyncio.Barrier) -> None:
        async with open_stream(stopping.url) as stream:
            await stream.send(pcm)
            await sent.wait()
            messages = await stream.all_messages()
            assert stream.socket.close_code == 1001
            assert "shutting_down" in [message.code for message in messages if isinstance(message, Warning)]
            done = messages[-1]
            assert isinstance(done, Done)
            assert 0 < done.audio_ms <= len(pcm) // 32
            results.append((pcm[: done.audio_ms * 32], stream.text))

    sent = asyncio.Barrier(len(VOICES) + 1)

    async def terminate() -> None:
        await sent.wait()
        stopping.signal(signal.SIGTERM)

    with run_daemon("--model", str(tiny_folder)) as stopping:
        await asyncio.gather(*(stream_voice(pcm, sent) for pcm in VOICES), terminate())
        assert await stopping.exit_status() == 0
    assert len(results) == len(VOICES)
    for pcm, text in results:
        assert text
        assert await daemon.transcribe(pcm) == text


async def nothing() -> None:
    return


async def refused_four_times(daemon: Daemon) -> None:
    for _ in range(4):
        async with connect(daemon.url, proxy=None) as client:
            await client.send(encode(Start()))
            error = parse_server_message(str(await client.recv()))
            assert isinstance(error, Error)
            assert (error.code, error.fault) == ("overloaded", "server")
            assert error.retry_after_ms is not None
            await client.wait_closed()
            assert client.close_code == 1013


async def test_audio_before_an_invalid_message_is_recognised(daemon: Daemon, expected: list[str]) -> None:
    """The finals come first, whatever the mistake was; then the error, then the close."""
    cases: list[tuple[str | bytes, str]] = [
        (bytes(2_000_000), "message_too_big"),
        ("not JSON", "bad_message"),
        ('{"type":"start"}', "out_of_order"),
        ('{"type":"configure","hotwords":3}', "bad_message"),
    ]
    for sent, code in cases:
        async with open_stream(daemon.url) as stream:
            await stream.send(VOICES[0])
            await stream.socket.send(sent)
            messages = await stream.all_messages()
        error = messages[-1]
        assert isinstance(error, Error)
        assert error.code == code
        assert stream.text == expected[0]
