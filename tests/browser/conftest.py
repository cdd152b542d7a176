"""Provide fixtures: a headless Chromium, a tab, and a scripted daemon that serves the page."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio
import soundfile
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from streamasr.service.assets import SECURITY_HEADERS, load_assets
from tests.browser.devtools import Browser, OpenPage, Page

Script = Callable[[ServerConnection], Awaitable[None]]


class FakeDaemon:
    """Serves the page like the daemon. Each connection runs the next of ``scripts``; the last one is repeated."""

    def __init__(self) -> None:
        self.scripts: list[Script] = []
        self.port = 0
        self._assets = load_assets()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    async def handle(self, socket: ServerConnection) -> None:
        script = self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]
        session = asyncio.ensure_future(script(socket))
        closed = asyncio.create_task(socket.wait_closed())
        await asyncio.wait({session, closed}, return_when=asyncio.FIRST_COMPLETED)
        session.cancel()
        with contextlib.suppress(ConnectionClosed, asyncio.CancelledError):
            await session

    def serve_page(self, connection: ServerConnection, request: Request) -> Response | None:
        if request.path == "/v1/stream":
            return None
        asset = self._assets.get(request.path)
        if asset is None:
            return connection.respond(404, "no such page\n")
        headers = Headers(
            {
                "Content-Type": asset.content_type,
                "Content-Length": str(len(asset.body)),
                **SECURITY_HEADERS,
            }
        )
        return Response(200, "OK", headers, asset.body)


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of the browser."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    pytest.skip("no Chromium on this machine (Debian: apt install chromium)")


@pytest.fixture(scope="session")
def tone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty seconds of a 440 Hz tone with a changing level."""
    path = tmp_path_factory.mktemp("sound") / "tone.wav"
    seconds = np.arange(30 * 48_000) / 48_000
    samples = 0.3 * np.sin(2 * np.pi * 440 * seconds) * np.abs(np.sin(2 * np.pi * 0.4 * seconds))
    soundfile.write(path, samples, 48_000, subtype="PCM_16")
    return path


@pytest.fixture(scope="session")
def browser(chromium: str, tone: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser whose microphone plays the tone."""
    running = Browser(chromium, tmp_path_factory.mktemp("profile"), tone)
    yield running
    running.close()


@pytest_asyncio.fixture
async def daemon() -> AsyncIterator[FakeDaemon]:
    """A fake daemon without scripts."""
    fake = FakeDaemon()
    async with serve(fake.handle, "127.0.0.1", 0, process_request=fake.serve_page) as server:
        fake.port = server.sockets[0].getsockname()[1]
        yield fake


@pytest_asyncio.fixture
async def page(browser: Browser, daemon: FakeDaemon) -> AsyncIterator[Page]:
    """An empty tab. After the test, the page must not have reported any error."""
    async with connect(browser.url, max_size=None, proxy=None) as socket:
        opened = await Page.open(socket)
        yield opened
        await opened.close()
    assert opened.problems == []


@pytest.fixture(scope="session")
def browser_on(
    chromium: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[Path], Browser]]:
    """Starts browsers whose microphone plays the given WAV file."""
    started: list[Browser] = []

    def start(wav: Path) -> Browser:
        started.append(Browser(chromium, tmp_path_factory.mktemp("profile"), wav))
        return started[-1]

    yield start
    for running in started:
        running.close()


@pytest.fixture(scope="session")
def open_page() -> OpenPage:
    """Opens a tab over a DevTools connection."""
    return Page.open
