"""Test that a resumed session presents the cookies by which a load balancer finds its daemon."""

from __future__ import annotations

import contextlib

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from streamasr.protocol.messages import Done, Resumed, Start
from streamasr_client.connection import Backoff
from streamasr_client.live import LiveStream
from tests.client.scripted import ListSource, ScriptedConnection
from tests.client.test_live import SECOND, resume, resume_open


async def test_cookies_lead_a_resumed_session_back_to_its_daemon() -> None:
    """A load balancer sets them in the answer to the first handshake."""
    presented: list[str | None] = []
    source = ListSource(SECOND)

    async def handle(socket: ServerConnection) -> None:
        assert socket.request is not None
        presented.append(socket.request.headers.get("Cookie"))
        connection = ScriptedConnection(socket)
        if len(presented) == 1:
            await resume_open(connection)
            socket.transport.abort()
            return
        await resume(connection, {"sample_rate": 16_000, "encoding": "pcm_s16le", "channels": 1})
        await connection.send(Resumed(session="s", audio_samples=0, requests=0))
        source.stop()
        with contextlib.suppress(ConnectionClosed):
            await connection.finish()

    def set_cookies(_: ServerConnection, __: Request, response: Response) -> None:
        response.headers["Set-Cookie"] = "node=b; path=/; HttpOnly; Secure"
        response.headers["Set-Cookie"] = 'other="x y"; Max-Age=9'

    async with serve(handle, "127.0.0.1", 0, process_response=set_cookies) as server:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/stream"
        live = LiveStream(url, Start(), source, backoff=Backoff(first_ms=1))
        events = [event async for event in live.events()]
    assert presented == [None, 'node=b; other="x y"']
    assert isinstance(events[-1], Done)
