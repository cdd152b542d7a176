"""Test on which addresses the daemon can listen, and what it says about those on which it cannot."""

import asyncio
import errno
import os
import socket

import pytest
from websockets.asyncio.client import connect

from streamasr.cli.doctor import check_port
from streamasr.errors import ConfigError
from streamasr.protocol.messages import Start
from streamasr.protocol.serialisation import encode
from streamasr.service.config import ServerConfig
from streamasr.service.listeners import bind
from tests.service.conftest import Launch

TOKEN = "a-secret-of-some-length"


def needs_ipv6() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")


@pytest.mark.parametrize("client", ["127.0.0.1", "[::1]"])
async def test_all_addresses_are_those_of_ipv4_too(
    launch: Launch, client: str, caplog: pytest.LogCaptureFixture
) -> None:
    needs_ipv6()
    caplog.set_level("INFO")
    harness = await launch(host="::", token=TOKEN)
    assert harness.server.stream_url == f"ws://[::]:{harness.port}/v1/stream"
    async with connect(f"ws://{client}:{harness.port}/v1/stream?token={TOKEN}", proxy=None) as socket_:
        await socket_.send(encode(Start()))
        await socket_.recv()
    (opened,) = (record for record in caplog.records if record.getMessage() == "session_opened")
    assert str(vars(opened)["fields"]["peer"]).startswith(f"{client}:")


@pytest.mark.parametrize(("host", "page"), [("0.0.0.0", "127.0.0.1"), ("::", "[::1]"), ("::1", "[::1]")])
async def test_the_pages_url_works_in_a_browser_of_this_machine(launch: Launch, host: str, page: str) -> None:
    """Browsers give the microphone to pages from loopback addresses, and some cannot open 0.0.0.0."""
    needs_ipv6()
    harness = await launch(host=host, token=TOKEN)
    assert harness.server.page_url == f"http://{page}:{harness.port}/"
    assert harness.server.browser_url().startswith(f"http://{page}:{harness.port}/#token=")


@pytest.mark.parametrize("host", ["::1", "::", "0.0.0.0", "localhost"])
async def test_doctor_finds_a_daemon_on_any_address(
    launch: Launch, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs_ipv6()
    monkeypatch.setattr("shutil.which", lambda _: None)  # no systemd
    harness = await launch(host=host, token=TOKEN)
    taken = ServerConfig(host=host, port=harness.port, token=TOKEN)
    finding = await asyncio.to_thread(check_port, taken)
    assert finding.text == f"a streamasr daemon is running on {host} port {harness.port}"
    with bind(host, 0, "port") as free:
        port = free.getsockname()[1]
    free_again = ServerConfig(host=host, port=port, token=TOKEN)
    assert check_port(free_again).text == f"{host} port {port} is free"


def test_a_host_without_an_address_is_explained() -> None:
    for host in ("no-such-host.invalid", "a" * 64, "256.0.0.1"):
        with pytest.raises(ConfigError, match=f"^cannot listen on {host} port 8765: "):
            bind(host, 8765, "port")


def test_a_port_that_needs_root_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> socket.socket:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr("socket.create_server", refuse)
    with pytest.raises(ConfigError, match="port 443: Permission denied; ports below 1024 need root"):
        bind("127.0.0.1", 443, "port")


def test_a_port_is_free_again_at_once() -> None:
    """After a restart, connections of the last daemon may still be in TIME_WAIT."""
    with bind("127.0.0.1", 0, "port") as listener:
        address = listener.getsockname()
        with socket.create_connection(address) as client:
            accepted, _ = listener.accept()
            accepted.close()  # the server closes first, so its side waits
            assert client.recv(1) == b""
    bind(address[0], address[1], "port").close()
