"""Test that hundreds of clients that vanish in every way leave no session, no open socket and no traceback behind."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import struct
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from streamasr.protocol.messages import Done, Start, Stop
from streamasr.protocol.serialisation import encode
from tests.integration.conftest import Daemon, run_daemon
from tests.integration.streams import Stream, voice

pytestmark = pytest.mark.timeout(300)

SESSIONS = 10
CLIENTS = 500
HANDSHAKE = (
    b"GET /v1/stream HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
PCM = voice(5, seconds=1.0)[:30_000]
HOLDER = """
import socket, sys
host, port = "127.0.0.1", int(sys.argv[1])
data = bytes.fromhex(sys.stdin.readline())
sockets = []
for _ in range(int(sys.argv[2])):
    client = socket.create_connection((host, port))
    client.sendall(data)
    client.recv(1000)
    sockets.append(client)
print("open", flush=True)
sys.stdin.read()
"""
"""Opens sessions and holds them until it is killed."""


def frame(opcode: int, payload: bytes) -> bytes:
    """Return a client's websocket frame with a mask of zeros."""
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else b"\xfe" + struct.pack(">H", size)
    return bytes([0x80 | opcode]) + length + bytes(4) + payload


def opening(audio: bytes = PCM) -> bytes:
    return HANDSHAKE + frame(1, encode(Start(latency_ms=160)).encode()) + frame(2, audio)


async def open_client(port: int) -> socket.socket:
    loop = asyncio.get_running_loop()
    client = socket.socket()
    client.setblocking(False)
    await loop.sock_connect(client, ("127.0.0.1", port))
    await loop.sock_sendall(client, opening())
    assert b" 101 " in await loop.sock_recv(client, 1_000)
    return client


async def reset(port: int) -> None:
    client = await open_client(port)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


async def half_close(port: int) -> None:
    """Send no more, but stay until the daemon has closed."""
    client = await open_client(port)
    client.shutdown(socket.SHUT_WR)
    async with asyncio.timeout(60):
        while await asyncio.get_running_loop().sock_recv(client, 65_536):
            pass
    client.close()


async def cut_in_a_frame(port: int) -> None:
    client = await open_client(port)
    await asyncio.get_running_loop().sock_sendall(client, frame(2, PCM)[:1_000])
    client.close()


async def in_turn(vanish: Callable[[int], Awaitable[None]], port: int, count: int) -> None:
    """Run ``count`` clients, at most as many at a time as there are sessions."""
    places = asyncio.Semaphore(SESSIONS)

    async def one() -> None:
        async with places:
            await vanish(port)

    await asyncio.gather(*(one() for _ in range(count)))


async def kill_holders(port: int, count: int) -> None:
    for _ in range(count // SESSIONS):
        holder = await asyncio.create_subprocess_exec(
            sys.executable, "-c", HOLDER, str(port), str(SESSIONS),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert holder.stdin is not None
        assert holder.stdout is not None
        holder.stdin.write(opening().hex().encode() + b"\n")
        assert await holder.stdout.readline() == b"open\n"
        os.kill(holder.pid, signal.SIGKILL)
        await holder.wait()


async def gauge(daemon: Daemon, name: str) -> float:
    found = re.search(rf"^{name} (\S+)$", await daemon.metrics(), re.MULTILINE)
    assert found is not None
    return float(found[1])


async def until_gone(daemon: Daemon) -> None:
    async with asyncio.timeout(60):
        while (  # noqa: ASYNC110 - the daemon is another process
            await gauge(daemon, "streamasr_connections") or await gauge(daemon, "streamasr_sessions")
        ):
            await asyncio.sleep(0.1)


async def test_vanishing_clients_leave_nothing_behind(tiny_folder: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    flags = ["--model", str(tiny_folder), "--max-sessions", str(SESSIONS), "--resume-for-ms", "0"]
    with log.open("w") as stream, run_daemon(*flags, log=stream) as daemon:
        text = await daemon.transcribe(PCM)
        for vanish in (reset, half_close, cut_in_a_frame):
            await in_turn(vanish, daemon.port, CLIENTS // 4)
            await until_gone(daemon)
        await kill_holders(daemon.port, CLIENTS // 4)
        await until_gone(daemon)
        texts = await asyncio.gather(*(daemon.transcribe(PCM) for _ in range(SESSIONS)))
        assert texts == [text] * SESSIONS
        assert await gauge(daemon, re.escape('streamasr_session_errors_total{code="engine_failed"}')) == 0
    lines = log.read_text()
    assert lines.count("session_closed") >= CLIENTS * 3 // 4
    for word in ("Traceback", "Error", "never retrieved", "destroyed but it is pending"):
        assert word not in lines, lines[-3_000:]


async def test_a_client_that_reads_nothing_while_it_sends_ten_minutes(daemon: Daemon) -> None:
    """Either the buffers hold its messages, or it is cut as a slow reader; the daemon fails in no other way."""
    before = await slow_readers(daemon)
    ten_minutes = [voice(seed) for seed in range(4)] * 25
    async with connect(daemon.url, proxy=None, ping_interval=None, close_timeout=1) as client:
        await client.send(encode(Start(latency_ms=160, alternatives=10)))
        with suppress(ConnectionClosed):
            for pcm in ten_minutes:
                await client.send(pcm)
            await client.send(encode(Stop()))
        messages = await Stream(client).all_messages()
    if client.close_code == 1000:
        assert messages[-1] == Done(audio_ms=600_000)
        return
    assert client.close_code in (1006, 1008)
    async with asyncio.timeout(60):
        while await slow_readers(daemon) == before:  # noqa: ASYNC110 - the daemon is another process
            await asyncio.sleep(0.1)
    assert await daemon.transcribe(PCM)


async def slow_readers(daemon: Daemon) -> float:
    text = await daemon.metrics()
    found = re.search(r'^streamasr_session_errors_total\{code="slow_reader"\} (\S+)$', text, re.MULTILINE)
    return float(found[1]) if found else 0.0
