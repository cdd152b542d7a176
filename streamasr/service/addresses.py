"""Write network addresses as URLs and log lines need them."""

from __future__ import annotations

import ipaddress


def plain(host: str) -> str:
    """Return an address as people write it: that of an IPv4 client of an IPv6 socket without ``::ffff:``."""
    try:
        mapped = ipaddress.IPv6Address(host).ipv4_mapped
    except ValueError:
        return host
    return host if mapped is None else str(mapped)


def with_port(host: str, port: int) -> str:
    """Return a host and its port, an IPv6 address in brackets, as in a URL."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def from_here(host: str) -> str:
    """Return the address at which this machine reaches a socket that is bound to ``host``.

    For ``0.0.0.0`` and ``::`` it is a loopback address: browsers give the microphone to its pages.
    """
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
