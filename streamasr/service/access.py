"""Decide who may connect: check the tokens of clients, and slow down those who guess.

The functions do no I/O but logging. Clocks are arguments.
"""

from __future__ import annotations

import ipaddress
import logging
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from streamasr.errors import ConfigError, OverloadedError, ProtocolError, StreamasrError
from streamasr.service.addresses import plain, with_port
from streamasr.service.auth import TokenAuth
from streamasr.service.logs import StrangersLog
from streamasr.units import MS_PER_SECOND

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_WINDOW_S = 60.0
_MAX_ADDRESSES = 10_000
"""Addresses remembered; beyond, the one whose first wrong token is the longest ago is forgotten."""
_IPV6_SITE_BITS = 64
"""One customer usually has a whole network of IPv6 addresses, so they count as one."""


@dataclass(frozen=True, slots=True)
class Client:
    """Where a request came from.

    Attributes:
        address: the client's IP address; ``None`` for a Unix socket.
        origin: the ``Origin`` header, which browsers send for the page that connects.
        peer: the address for the log.
    """

    address: str | None
    origin: str | None = None
    peer: str = "local"


class FailureLimiter:
    """Counts failures by address: up to a limit at once, then again as they were allowed, evenly over time.

    This is the generic cell rate algorithm (ITU-T I.371): per address, one time is stored.

    Args:
        per_minute: failures of an address in a minute before it has to wait; 0 for no limit.
    """

    def __init__(self, per_minute: int) -> None:
        self._interval_s = _WINDOW_S / per_minute if per_minute else 0.0
        self._paid_until: OrderedDict[str, float] = OrderedDict()
        """Address to the time when all of its failures are forgotten."""

    def wait_s(self, address: str | None, now_s: float) -> float:
        """Return how long an address has to wait; 0 if it need not."""
        if address is None or not self._interval_s:
            return 0.0
        until = self._paid_until.get(_site(address), now_s)
        return max(0.0, until - now_s - (_WINDOW_S - self._interval_s))

    def fail(self, address: str | None, now_s: float) -> None:
        """Count a failure."""
        if address is None or not self._interval_s:
            return
        site = _site(address)
        self._paid_until[site] = max(self._paid_until.get(site, now_s), now_s) + self._interval_s
        while len(self._paid_until) > _MAX_ADDRESSES or self._is_over(now_s):
            self._paid_until.popitem(last=False)

    def _is_over(self, now_s: float) -> bool:
        """Whether the failures of the first address are forgotten."""
        return next(iter(self._paid_until.values())) <= now_s


class AccessControl:
    """Checks tokens, and refuses addresses from which too many wrong ones came.

    From such an address no token is compared, not even the right one, until the waiting time is over. A token that
    this daemon has made, but that has expired or belongs to another page, is refused without being counted: nobody
    guessed it.

    Args:
        auth: the daemon's token.
        failures_per_minute: wrong tokens of an address in a minute; 0 for no limit.
        trusted_proxies: networks of the reverse proxies whose ``X-Forwarded-For`` names the client.
        log: logs which addresses have to wait.
        clock: a monotonic clock, in seconds.
        wall_clock: seconds since 1970.
    """

    def __init__(
        self,
        auth: TokenAuth,
        failures_per_minute: int,
        trusted_proxies: Sequence[Network] = (),
        *,
        log: StrangersLog,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._auth = auth
        self._limiter = FailureLimiter(failures_per_minute)
        self._log = log
        self._trusted_proxies = tuple(trusted_proxies)
        self._clock = clock
        self._wall_clock = wall_clock

    def client(self, peer: object, origin: str | None = None, forwarded_for: Iterable[str] = ()) -> Client:
        """Return the client of a connection.

        Args:
            peer: the socket's remote address: host and port, or something else for a Unix socket.
            origin: the ``Origin`` header.
            forwarded_for: the ``X-Forwarded-For`` headers, of which the last entries come from the nearest proxy.
        """
        if not isinstance(peer, tuple) or len(peer) < 2:
            return Client(None, origin)
        host, port = plain(str(peer[0])), peer[1]
        address = forwarded_address(host, forwarded_for, self._trusted_proxies)
        shown = with_port(address, port) if address == host else address
        return Client(address, origin, shown)

    def refuse(self, client: Client, token: str | None) -> StreamasrError | None:
        """Return why a client may not open sessions with ``token``; ``None`` if it may.

        The error is ``unauthorized``, or ``rate_limited`` with ``retry_after_ms``.
        """
        return self._refuse(client, token, master_only=False)

    def refuse_master(self, client: Client, token: str | None) -> StreamasrError | None:
        """Return why a client may not use what needs the daemon's own token; ``None`` if it may."""
        return self._refuse(client, token, master_only=True)

    def _refuse(self, client: Client, token: str | None, *, master_only: bool) -> StreamasrError | None:
        if not self._auth.required:
            return None
        if (limited := self._limited(client)) is not None:
            return limited
        verdict = self._auth.verdict(token, self._wall_clock(), client.origin)
        if verdict == "wrong" and token is not None:
            self._count(client)
        if master_only and not self._auth.is_master(token):
            verdict = "wrong"
        return None if verdict == "accepted" else ProtocolError(_MESSAGES[verdict], code="unauthorized")

    def _count(self, client: Client) -> None:
        """Count a wrong token, and log when its address has to wait from now on."""
        self._limiter.fail(client.address, self._clock())
        if self._limiter.wait_s(client.address, self._clock()):
            self._log.event("rate_limited", level=logging.WARNING, address=client.address)

    def _limited(self, client: Client) -> StreamasrError | None:
        wait_s = self._limiter.wait_s(client.address, self._clock())
        if not wait_s:
            return None
        return OverloadedError(
            f"too many wrong tokens came from this address; try again in {math.ceil(wait_s)} s",
            code="rate_limited",
            retry_after_ms=math.ceil(wait_s * MS_PER_SECOND),
        )


_MESSAGES = {
    "wrong": (
        "missing or invalid token; send it as `Authorization: Bearer TOKEN`, as `?token=TOKEN` "
        "or as `token` in the start message"
    ),
    "expired": "the browser token has expired; request another one with POST /v1/token",
    "foreign": "the browser token belongs to another origin; request one for this page with POST /v1/token",
}
"""Verdict to error message."""


def parse_networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Return addresses and networks, such as ``127.0.0.1`` and ``10.0.0.0/8``.

    Raises:
        ConfigError: a text is neither.
    """
    networks = []
    for text in texts:
        try:
            networks.append(ipaddress.ip_network(text))
        except ValueError as error:
            raise ConfigError(
                f"trusted_proxies: {error}; give addresses such as 127.0.0.1 or 10.0.0.0/8"
            ) from None
    return tuple(networks)


def forwarded_address(peer: str, forwarded_for: Iterable[str], trusted: Sequence[Network]) -> str:
    """Return the address of the client: the nearest one that is not a trusted proxy.

    Proxies append the address that they were connected from to ``X-Forwarded-For``. What stands before the address
    that a trusted proxy wrote comes from the client, and could be anything.

    Args:
        peer: the address that the daemon was connected from.
        forwarded_for: the headers, in their order.
        trusted: the networks of trusted proxies.
    """
    hops = [hop.strip() for header in forwarded_for for hop in header.split(",")]
    address = peer
    while hops and _is_trusted(address, trusted):
        hop = _parse(hops.pop())
        if hop is None:
            break
        address = str(hop)
    return address


def _is_trusted(address: str, trusted: Sequence[Network]) -> bool:
    parsed = _parse(address)
    return parsed is not None and any(parsed in network for network in trusted)


def _parse(text: str) -> _Address | None:
    """Read an address, which may have a port, brackets or a zone."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _site(address: str) -> str:
    parsed = _parse(address)
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((parsed, _IPV6_SITE_BITS), strict=False))
    return address if parsed is None else str(parsed)
