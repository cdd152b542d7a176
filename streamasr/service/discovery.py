"""Announce the Wyoming port by Zeroconf (RFC 6762, RFC 6763), so that Home Assistant finds the daemon by itself."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
from contextlib import suppress
from typing import TYPE_CHECKING

from streamasr.errors import ConfigError
from streamasr.service.logs import log_event

if TYPE_CHECKING:
    from zeroconf import ServiceInfo
    from zeroconf.asyncio import AsyncZeroconf

SERVICE_TYPE = "_wyoming._tcp.local."
"""The type that Home Assistant's Wyoming integration looks for."""
CHECK_S = 30.0
"""Time between checks whether the addresses have changed: a network may come late, or give another one."""


def check_available() -> None:
    """Check that the package zeroconf is installed.

    Raises:
        ConfigError: it is not.
    """
    try:
        import zeroconf  # noqa: F401  only installed with its extra
    except ImportError:
        raise ConfigError(
            "wyoming_name needs the package zeroconf, which is not installed: "
            'pip install "streamasr[zeroconf]", or leave wyoming_name out'
        ) from None


class Announcement:
    """Announces a listening socket on the local network until it is closed, anew if the addresses change.

    Args:
        name: what Home Assistant shows. If another machine has it, ``-2``, ``-3`` … is added.
        listener: the Wyoming port's socket.
    """

    def __init__(self, name: str, listener: socket.socket) -> None:
        host, self._port = listener.getsockname()[:2]
        self._name = name
        self._host = ipaddress.ip_address(host.partition("%")[0])
        self._zeroconf: AsyncZeroconf | None = None
        self._announced: list[str] = []
        """The addresses that are announced; empty if none are."""
        self._failure = ""
        """The reason of the last failure, which is logged once."""
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> asyncio.Task[None]:
        """Announce in the returned task. A failure is logged, because the port works without it."""
        announcing = asyncio.create_task(self._announce())
        self._tasks = [announcing, asyncio.create_task(self._watch(announcing))]
        return announcing

    async def close(self) -> None:
        """Take the announcement back."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._withdraw()

    async def _watch(self, announcing: asyncio.Task[None]) -> None:
        await asyncio.wait([announcing])
        while True:
            await asyncio.sleep(CHECK_S)
            if self._addresses() != self._announced:
                await self._withdraw()
                await self._announce()

    async def _withdraw(self) -> None:
        self._announced = []
        if self._zeroconf is not None:
            with suppress(OSError):
                await self._zeroconf.async_unregister_all_services()
            await self._zeroconf.async_close()
            self._zeroconf = None

    async def _announce(self) -> None:
        from zeroconf import Error
        from zeroconf.asyncio import AsyncZeroconf

        try:
            addresses = self._addresses()
            if not addresses:
                self._fail("no network address")
                return
            info = self._service(addresses)
            if self._host.is_unspecified:
                self._zeroconf = AsyncZeroconf()
            else:
                self._zeroconf = AsyncZeroconf(interfaces=[str(self._host)])
            await self._zeroconf.async_register_service(info, allow_name_change=True)
        except (Error, OSError) as error:
            self._fail(str(error) or type(error).__name__)
        else:
            self._announced, self._failure = addresses, ""
            log_event("announced", service=info.name.removesuffix(f".{SERVICE_TYPE}"), port=self._port)

    def _fail(self, reason: str) -> None:
        if reason != self._failure:
            self._failure = reason
            log_event("announcement_failed", level=logging.WARNING, reason=reason)

    def _addresses(self) -> list[str]:
        return _own_addresses() if self._host.is_unspecified else [str(self._host)]

    def _service(self, addresses: list[str]) -> ServiceInfo:
        from zeroconf import ServiceInfo

        return ServiceInfo(
            SERVICE_TYPE,
            f"{self._name}.{SERVICE_TYPE}",
            port=self._port,
            parsed_addresses=addresses,
            server=f"streamasr-{socket.gethostname().partition('.')[0]}.local.",
        )


def _own_addresses() -> list[str]:
    """The IPv4 addresses of this machine that others can reach."""
    from ifaddr import get_adapters

    found = [ip.ip for adapter in get_adapters() for ip in adapter.ips if isinstance(ip.ip, str)]
    return sorted(address for address in found if not ipaddress.ip_address(address).is_loopback)
