"""Test listening addresses and TLS."""

import asyncio
import ssl
import urllib.request
from pathlib import Path

import pytest
from websockets.asyncio.client import connect

from streamasr.errors import ConfigError
from streamasr.protocol.messages import Start
from streamasr.protocol.serialisation import encode
from streamasr.service.config import ServerConfig
from streamasr.service.listeners import open_listener
from streamasr.service.server import CaptionServer
from tests.service.conftest import Launch
from tests.service.fake import FakeEngine


async def test_urls_contain_the_port(launch: Launch) -> None:
    harness = await launch()
    assert harness.server.stream_url == f"ws://127.0.0.1:{harness.port}/v1/stream"
    assert harness.server.page_url == f"http://127.0.0.1:{harness.port}/"


async def test_ipv6_addresses_have_brackets(launch: Launch) -> None:
    harness = await launch(host="::1")
    assert harness.server.stream_url.startswith("ws://[::1]:")
    await harness.session()


def test_an_unusable_host_is_reported() -> None:
    with pytest.raises(ConfigError, match=r"cannot listen on 203\.0\.113\.7 port 0"):
        open_listener(ServerConfig(host="203.0.113.7", port=0, token="0123456789abcdef"))


async def test_tls(launch: Launch, certificate: Path) -> None:
    harness = await launch(tls_cert=certificate, tls_key=certificate)
    assert harness.server.stream_url.startswith("wss://")
    assert harness.server.page_url.startswith("https://")
    trust = ssl.create_default_context(cafile=str(certificate))
    async with connect(harness.server.stream_url, proxy=None, ssl=trust) as client:
        await client.send(encode(Start()))
        assert "ready" in str(await client.recv())
    url = f"{harness.server.page_url}health"
    response = await asyncio.to_thread(urllib.request.urlopen, url, context=trust)
    assert response.status == 200


async def test_a_bad_certificate_is_reported(tmp_path: Path) -> None:
    (tmp_path / "x.pem").write_text("not a certificate")
    config = ServerConfig(port=0, tls_cert=tmp_path / "x.pem", tls_key=tmp_path / "x.pem")
    with open_listener(config) as listener, pytest.raises(ConfigError, match=r"tls_cert .*x\.pem"):
        await CaptionServer(config, FakeEngine()).start(listener)
