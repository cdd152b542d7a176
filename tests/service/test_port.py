"""Test that websockets and HTTP share a port, whatever pieces the first request comes in."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

import pytest
from websockets.asyncio.client import connect

from streamasr.protocol.messages import Start
from tests.service.conftest import Launch

HANDSHAKE = (
    "GET /v1/stream HTTP/1.1\r\nHost: 127.0.0.1\r\n{upgrade}\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


async def exchange(port: int, *pieces: bytes) -> bytes:
    """Send the pieces one by one and return the first bytes of the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(0)
    answer = await asyncio.wait_for(reader.read(4_096), 60)
    writer.close()
    return answer


async def ended(reader: asyncio.StreamReader) -> None:
    """Check that the server ends the connection without an answer."""
    with suppress(ConnectionResetError):
        assert await asyncio.wait_for(reader.read(), 60) == b""


@pytest.mark.parametrize(
    "upgrade", ["Upgrade: websocket", "upgrade: WebSocket", "UPGRADE:websocket", "Upgrade: x, websocket"]
)
async def test_a_handshake_is_recognised_in_every_spelling(launch: Launch, upgrade: str) -> None:
    harness = await launch()
    answer = await exchange(harness.port, HANDSHAKE.format(upgrade=upgrade).encode())
    expected = b"HTTP/1.1 426" if "," in upgrade else b"HTTP/1.1 101"
    assert answer.startswith(expected)


async def test_a_head_may_come_in_single_bytes(launch: Launch) -> None:
    harness = await launch()
    head = HANDSHAKE.format(upgrade="Upgrade: websocket").encode()
    assert (await exchange(harness.port, *(head[i : i + 1] for i in range(len(head))))).startswith(
        b"HTTP/1.1 101"
    )
    plain = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
    assert (await exchange(harness.port, *(plain[i : i + 1] for i in range(len(plain))))).startswith(
        b"HTTP/1.1 200"
    )


async def test_a_word_in_a_body_or_path_is_no_upgrade(launch: Launch) -> None:
    harness = await launch()
    body = b"\nUpgrade: websocket\n"
    head = b"POST /health?upgrade:websocket HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
    assert (await exchange(harness.port, head + body)).startswith(b"HTTP/1.1 405")


async def test_frames_behind_the_handshake_are_not_lost(launch: Launch) -> None:
    harness = await launch()
    head = HANDSHAKE.format(upgrade="Upgrade: websocket").encode()
    text = b'{"type":"start"}'
    frame = bytes([0x81, 0x80 | len(text), 0, 0, 0, 0]) + text
    reader, writer = await asyncio.open_connection("127.0.0.1", harness.port)
    writer.write(head + frame)
    await reader.readuntil(b"\r\n\r\n")
    assert b'"type":"ready"' in await asyncio.wait_for(reader.read(4_096), 60)
    writer.close()


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost:"])
async def test_a_head_that_does_not_come_ends_the_connection(launch: Launch, sent: bytes) -> None:
    harness = await launch(start_timeout_s=0.2)
    started = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", harness.port)
    writer.write(sent)
    await ended(reader)
    assert time.monotonic() - started >= 0.2
    writer.close()


@pytest.mark.parametrize(
    "sent", [b"{", b"1", b"\xff\xff", b'{"type":"start"}\n', b"\x16\x03\x01", b"\r\n\r\n"]
)
async def test_what_is_not_http_is_refused_and_holds_no_connection(launch: Launch, sent: bytes) -> None:
    """A parser that waits for the rest of the line would keep a descriptor of each such client for ever."""
    harness = await launch(start_timeout_s=0.2)
    reader, writer = await asyncio.open_connection("127.0.0.1", harness.port)
    writer.write(sent)
    answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
    assert answer.startswith(b"HTTP/1.1 400")
    async with asyncio.timeout(60):
        await reader.read()
        while harness.server._waiting:  # noqa: ASYNC110 - the server's side has no event
            await asyncio.sleep(0.01)
    writer.close()


async def test_an_endless_head_is_refused(launch: Launch) -> None:
    harness = await launch()
    answer = await exchange(harness.port, b"GET / HTTP/1.1\r\nX: " + b"x" * 100_000)
    assert answer.startswith(b"HTTP/1.1 431")
    assert b"longer than 65536 bytes" in answer


@pytest.mark.parametrize("upgrade", ["Upgrade: websocket", "X-Other: websocket"])
async def test_the_limits_of_a_head_are_exact(launch: Launch, upgrade: str) -> None:
    harness = await launch(max_header_bytes=1_000, max_headers=20)
    head = HANDSHAKE.format(upgrade=upgrade).encode()[:-2]
    good = b"HTTP/1.1 101" if upgrade.startswith("Upgrade") else b"HTTP/1.1 426"

    def padded(size: int) -> bytes:
        return head + b"X: " + b"x" * (size - len(head) - 7) + b"\r\n\r\n"

    assert len(padded(1_000)) == 1_000
    assert (await exchange(harness.port, padded(1_000))).startswith(good)
    answer = await exchange(harness.port, padded(1_001))
    assert answer.startswith(b"HTTP/1.1 431")
    assert b"longer than 1000 bytes" in answer

    def counted(number: int) -> bytes:
        return head + b"".join(b"X-%d: 1\r\n" % n for n in range(number - 5)) + b"\r\n"

    assert (await exchange(harness.port, counted(20))).startswith(good)
    answer = await exchange(harness.port, counted(21))
    assert answer.startswith(b"HTTP/1.1 431")
    assert b"more than 20 headers" in answer


async def test_a_long_body_behind_a_short_head_is_no_long_head(launch: Launch) -> None:
    harness = await launch(max_header_bytes=200)
    body = b"x\n" * 5_000
    head = b"POST /health HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
    assert (await exchange(harness.port, head + body)).startswith(b"HTTP/1.1 405")


async def test_closing_ends_connections_that_wait_for_nothing(launch: Launch) -> None:
    harness = await launch()
    reader, writer = await asyncio.open_connection("127.0.0.1", harness.port)
    half, half_writer = await asyncio.open_connection("127.0.0.1", harness.port)
    half_writer.write(b"POST /v1/token HTTP/1.1\r\nContent-Le")
    await harness.session(Start())
    async with connect(harness.server.stream_url, proxy=None), asyncio.timeout(60):
        await harness.server.close()
    for stream in (reader, half):
        await ended(stream)
    writer.close()
    half_writer.close()
