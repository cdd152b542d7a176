"""Open the daemon's listening sockets, and state their addresses."""

from __future__ import annotations

import errno
import logging
import socket
from contextlib import ExitStack

from streamasr.errors import ConfigError
from streamasr.service.addresses import with_port
from streamasr.service.config import ServerConfig, is_loopback
from streamasr.service.logs import log_event

VOSK, WYOMING = "vosk", "wyoming"
"""The dialects that may have ports of their own."""


def open_listener(config: ServerConfig, passed: socket.socket | None = None) -> socket.socket:
    """Return the listening socket: the one ``passed`` by the service manager, or a new one.

    Raises:
        ConfigError: the address cannot be bound, or needs a token and none is set.
    """
    listener = passed or bind(config.host, config.port, "port")
    try:
        config.check_exposure(_host_of(listener))
    except ConfigError:
        listener.close()
        raise
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, config.send_buffer_bytes)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, config.receive_buffer_bytes)
    return listener


def open_dialect_listeners(config: ServerConfig) -> dict[str, socket.socket]:
    """Return a listening socket for each dialect that has a port of its own, by the dialect's name.

    Raises:
        ConfigError: an address cannot be bound, or needs a token and none is set.
    """
    wanted = {VOSK: (config.host, config.vosk_port), WYOMING: (config.wyoming_host, config.wyoming_port)}
    with ExitStack() as opened:
        listeners = {
            name: opened.enter_context(bind(host, port, f"{name}_port"))
            for name, (host, port) in wanted.items()
            if port is not None
        }
        if VOSK in listeners:
            config.check_exposure(_host_of(listeners[VOSK]))
        if WYOMING in listeners and not is_loopback(host := _host_of(listeners[WYOMING])):
            log_event("open_without_token", level=logging.WARNING, dialect=WYOMING, host=host)
        for listener in listeners.values():
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, config.send_buffer_bytes)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, config.receive_buffer_bytes)
        opened.pop_all()
    return listeners


def address(scheme: str, listener: socket.socket, *, secure: bool = False) -> str:
    """Return the URL of a listening socket, without a path."""
    scheme += "s" if secure else ""
    if listener.family == socket.AF_UNIX:
        return f"{scheme}+unix://{listener.getsockname()}"
    return f"{scheme}://{with_port(*listener.getsockname()[:2])}"


def bind(host: str, port: int, setting: str) -> socket.socket:
    """Return a listening socket. One that is bound to ``::`` serves IPv4, too, as users of that address expect.

    Args:
        host: an address or a name, of which the first address counts.
        port: the port; 0 for a free one.
        setting: the name of the port's setting, for the error message.

    Raises:
        ConfigError: the address cannot be bound.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, where = found[0]
        both = where[0] == "::" and socket.has_dualstack_ipv6()
        return socket.create_server(where[:2], family=family, backlog=128, dualstack_ipv6=both)
    except UnicodeError:
        raise ConfigError(f"cannot listen on {host} port {port}: not the name of a host") from None
    except OSError as error:
        flag = "--" + setting.replace("_", "-")
        hint = {
            errno.EADDRINUSE: f"; is a daemon running already? {flag} 0 chooses a free port",
            errno.EACCES: "; ports below 1024 need root, or a systemd socket (docs/systemd.md)",
        }.get(error.errno or 0, "")
        raise ConfigError(f"cannot listen on {host} port {port}: {error.strerror}{hint}") from None


def _host_of(listener: socket.socket) -> str:
    """The address that a socket is bound to. A Unix socket counts as loopback: its file's mode protects it."""
    if listener.family == socket.AF_UNIX:
        return "127.0.0.1"
    return str(listener.getsockname()[0])
