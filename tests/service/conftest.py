"""Run a server with a fake engine on a free port, and connect clients to it."""

import shutil
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from streamasr.dialects.base import Dialect
from streamasr.protocol.messages import ClientMessage, ServerMessage, Start
from streamasr.protocol.serialisation import encode, parse_server_message
from streamasr.service.config import ServerConfig
from streamasr.service.listeners import open_dialect_listeners, open_listener
from streamasr.service.server import CaptionServer
from tests.service.fake import FakeEngine


class Client:
    """A websocket that sends and receives protocol messages."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    async def send(self, message: ClientMessage | bytes | str) -> None:
        await self.socket.send(message if isinstance(message, (bytes, str)) else encode(message))

    async def receive(self) -> ServerMessage:
        return parse_server_message(str(await self.socket.recv()))

    async def rest(self) -> list[ServerMessage]:
        """Receive messages until the server closes the connection."""
        messages = []
        with suppress(ConnectionClosed):
            while True:
                messages.append(await self.receive())
        return messages

    async def close_code(self) -> int | None:
        await self.socket.wait_closed()
        return self.socket.close_code


class Harness:
    """A running server, its fake engine and its clients."""

    def __init__(self, server: CaptionServer, engine: FakeEngine, stack: AsyncExitStack) -> None:
        self.server = server
        self.engine = engine
        self._stack = stack

    @property
    def port(self) -> int:
        return int(self.server.page_url.rsplit(":", 1)[1].rstrip("/"))

    async def connect(self, query: str = "", **options: Any) -> Client:
        url = self.server.stream_url + query
        return Client(await self._stack.enter_async_context(connect(url, proxy=None, **options)))

    async def session(self, start: Start | None = None, **options: Any) -> Client:
        """Connect a client and open a session."""
        client = await self.connect(**options)
        await client.send(start or Start())
        assert (await client.receive()).type == "ready"
        return client


Launch = Callable[..., Awaitable[Harness]]


@pytest.fixture
async def launch() -> AsyncIterator[Launch]:
    """Start servers: ``await launch(token=…)``, with any field of :class:`ServerConfig`."""
    async with AsyncExitStack() as clients:
        servers = []

        async def start(
            engine: FakeEngine | None = None, dialects: Iterable[Dialect] | None = None, **settings: Any
        ) -> Harness:
            engine = engine or FakeEngine()
            server_config = ServerConfig(**{"port": 0, **settings})
            server = CaptionServer(server_config, engine, dialects)
            await server.start(open_listener(server_config), open_dialect_listeners(server_config))
            servers.append(server)
            return Harness(server, engine, clients)

        yield start
        for server in servers:
            await server.close()


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A self-signed certificate for localhost, with its key in the same file."""
    return make_certificate(tmp_path)


def make_certificate(folder: Path, days: int = 30) -> Path:
    """Make a self-signed certificate for localhost, valid from now on, and return the file with it and its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    key, chain = folder / "key.pem", folder / "cert.pem"
    request = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    words: list[str | Path] = [*request, *names, "-days", str(days), "-keyout", key, "-out", chain]
    subprocess.run(words, check=True, capture_output=True)
    both = folder / "both.pem"
    both.write_text(key.read_text() + chain.read_text())
    return both
