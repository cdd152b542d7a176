"""Test the announcement of the Wyoming port, with a browser of the package zeroconf on the same machine."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import AsyncIterator

import pytest
from zeroconf import ServiceInfo, ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from streamasr.errors import ConfigError
from streamasr.service import discovery
from streamasr.service.config import ServerConfig
from streamasr.service.discovery import SERVICE_TYPE, Announcement, check_available

pytestmark = pytest.mark.asyncio


class Browser:
    """Follows the services of Wyoming's type, as Home Assistant does."""

    def __init__(self, zeroconf: AsyncZeroconf) -> None:
        self._zeroconf = zeroconf
        self.names: set[str] = set()
        self.changed = asyncio.Event()

    def update(
        self, zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange
    ) -> None:
        if state_change is ServiceStateChange.Removed:
            self.names.discard(name)
        else:
            self.names.add(name)
        self.changed.set()

    async def until(self, *names: str) -> None:
        async with asyncio.timeout(20):
            while self.names != {f"{name}.{SERVICE_TYPE}" for name in names}:
                self.changed.clear()
                await self.changed.wait()

    async def find(self, name: str) -> AsyncServiceInfo:
        info = AsyncServiceInfo(SERVICE_TYPE, f"{name}.{SERVICE_TYPE}")
        assert await info.async_request(self._zeroconf.zeroconf, 5_000)
        return info


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    zeroconf = AsyncZeroconf(interfaces=["127.0.0.1"])
    found = Browser(zeroconf)
    browsing = AsyncServiceBrowser(zeroconf.zeroconf, SERVICE_TYPE, handlers=[found.update])
    try:
        yield found
    finally:
        await browsing.async_cancel()
        await zeroconf.async_close()


@contextlib.asynccontextmanager
async def announced(name: str) -> AsyncIterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        announcement = Announcement(name, listener)
        announcement.start()
        try:
            yield listener
        finally:
            await announcement.close()


async def test_the_port_is_found_and_taken_back(browser: Browser) -> None:
    async with announced("Küche") as listener:
        await browser.until("Küche")
        info = await browser.find("Küche")
        assert info.port == listener.getsockname()[1]
        assert info.parsed_addresses() == ["127.0.0.1"]
    await browser.until()


async def test_a_success_is_logged_and_every_network_is_used(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    with socket.create_server(("0.0.0.0", 0)) as listener:
        announcement = Announcement("Hall", listener)
        await announcement.start()
        await announcement.close()
    assert "announced" in caplog.text or "no network address" in caplog.text


async def test_a_second_daemon_of_the_same_name_gets_a_number(browser: Browser) -> None:
    async with announced("Study"):
        await browser.until("Study")
        async with announced("Study"):
            await browser.until("Study", "Study-2")


async def test_a_daemon_that_stops_at_once_leaves_nothing(browser: Browser) -> None:
    async with announced("Attic"):
        pass
    await browser.until()


async def test_a_network_that_refuses_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_args: object, **_settings: object) -> None:
        raise OSError("Network is unreachable")

    monkeypatch.setattr("zeroconf.asyncio.AsyncZeroconf.__init__", refuse)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        announcement = Announcement("Cellar", listener)
        await announcement.start()
        await announcement.close()
    assert "announcement_failed" in caplog.text
    assert "Traceback" not in caplog.text


async def test_a_network_that_comes_later_or_changes_is_noticed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A daemon may start before the network, and get another address after months."""
    addresses: list[str] = []
    registered: asyncio.Queue[list[str]] = asyncio.Queue()
    open_now = 0

    class Network:
        def __init__(self) -> None:
            nonlocal open_now
            open_now += 1

        async def async_register_service(self, info: ServiceInfo, allow_name_change: bool) -> None:
            assert allow_name_change
            registered.put_nowait(info.parsed_addresses())

        async def async_unregister_all_services(self) -> None:
            pass

        async def async_close(self) -> None:
            nonlocal open_now
            open_now -= 1

    monkeypatch.setattr("zeroconf.asyncio.AsyncZeroconf", Network)
    monkeypatch.setattr(discovery, "CHECK_S", 0.01)
    monkeypatch.setattr(discovery, "_own_addresses", lambda: list(addresses))
    with socket.create_server(("0.0.0.0", 0)) as listener:
        announcement = Announcement("Hall", listener)
        await announcement.start()
        await asyncio.sleep(0.1)  # several checks without a network
        async with asyncio.timeout(60):
            for now in (["192.0.2.1"], ["192.0.2.2", "198.51.100.7"]):
                addresses[:] = now
                assert await registered.get() == now
        assert open_now == 1
        await announcement.close()
    assert open_now == 0
    assert caplog.text.count("announcement_failed") == 1


async def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zeroconf", None)
    with pytest.raises(ConfigError, match=r"needs the package zeroconf.*streamasr\[zeroconf\]"):
        check_available()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"wyoming_name": "Study"}, "set wyoming_port"),
        ({"wyoming_name": "Study", "wyoming_port": 0}, "reachable from this one only"),
        ({"wyoming_name": "", "wyoming_port": 0, "wyoming_host": "0.0.0.0"}, "1 to 63 bytes"),
        ({"wyoming_name": "ü" * 32, "wyoming_port": 0, "wyoming_host": "0.0.0.0"}, "1 to 63 bytes"),
        ({"wyoming_name": "a\nb", "wyoming_port": 0, "wyoming_host": "0.0.0.0"}, "printable"),
    ],
)
async def test_settings_that_cannot_be_announced_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ServerConfig(**values)  # type: ignore[arg-type]
