"""Test that the captions page shows why its websocket was refused, with the daemon's own server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from websockets.asyncio.client import connect
from websockets.http11 import Request, Response

from streamasr.service.config import ServerConfig
from streamasr.service.http import text_response
from streamasr.service.listeners import open_listener
from streamasr.service.server import CaptionServer
from tests.browser.devtools import Browser, Page
from tests.service.fake import FakeEngine

ALERT = "document.getElementById('alert').textContent"
STATUS = "document.getElementById('status-text').textContent"


@pytest_asyncio.fixture
async def tab(browser: Browser) -> AsyncIterator[Page]:
    """An empty tab; failed requests may be logged in it."""
    async with connect(browser.url, max_size=None, proxy=None) as socket:
        opened = await Page.open(socket)
        yield opened
        await opened.close()


async def serve(**settings: Any) -> CaptionServer:
    config = ServerConfig(port=0, **settings)
    server = CaptionServer(config, FakeEngine())
    await server.start(open_listener(config))
    return server


async def test_a_foreign_origin_is_told_what_to_set(tab: Page) -> None:
    server = await serve()
    url = server.page_url.replace("127.0.0.1", "captions.localhost")
    await tab.goto(url)
    await tab.press(" ")
    await tab.wait_for(f"{STATUS} === 'Stopped by an error'")
    alert = await tab.evaluate(ALERT)
    origin = url.rstrip("/")
    assert alert.startswith(f"The server refused the connection: origin {origin} may not connect to host")
    assert "add it to allowed_origins, or set a token" in alert
    await server.close()


async def test_a_full_server_is_tried_again(tab: Page) -> None:
    server = await serve(max_connections=1)
    async with connect(server.stream_url, proxy=None):
        await tab.goto(server.page_url)
        await tab.press(" ")
        await tab.wait_for(f"{STATUS}.startsWith('Server full, retrying in')")
    await tab.wait_for(f"{STATUS}.startsWith('Listening')")
    await server.close()


async def test_a_proxy_without_websockets_is_named(tab: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    server = await serve()

    def refuse(path: str, request: Request) -> Response:
        return text_response(426, f"{path}: {request.method} without an upgrade\n")

    monkeypatch.setattr(server.http, "_check_upgrade", refuse)
    await tab.goto(server.page_url)
    await tab.press(" ")
    await tab.wait_for(f"{ALERT}.includes('Let the proxy in front of it pass websockets on.')")
    await tab.wait_for(f"{STATUS}.startsWith('Disconnected, retrying in')")
    await server.close()


async def test_an_error_of_a_proxy_is_shown_with_its_status(
    tab: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await serve()
    for name in ("_check_upgrade", "_explain"):
        monkeypatch.setattr(server.http, name, lambda *_: text_response(502, "bad gateway\n"))
    await tab.goto(server.page_url)
    await tab.press(" ")
    await tab.wait_for(f"{ALERT} === 'The server cannot be reached (HTTP 502).'")
    await server.close()


async def test_a_wrong_token_is_asked_for_again(tab: Page) -> None:
    server = await serve(token="a-secret-of-some-length")
    await tab.goto(f"{server.page_url}#token=wrong")
    await tab.press(" ")
    await tab.wait_for(f"{STATUS} === 'Token required'")
    assert "missing or invalid token" in await tab.evaluate(ALERT)
    await server.close()
