"""Talk to systemd: report readiness, feed the watchdog and receive sockets (sd_notify(3), sd_listen_fds(3)).

Without systemd, every call does nothing.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import suppress

from streamasr.errors import ConfigError

_FIRST_FD = 3
_MICROSECONDS = 1_000_000


class Notifier:
    """Sends the daemon's state to the service manager, if there is one."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.watchdog_s = _watchdog_s(environment)
        """Longest time between two ``WATCHDOG=1``, in seconds; ``None`` if the watchdog is off."""

    @property
    def active(self) -> bool:
        """Whether there is a service manager."""
        return bool(self._address)

    def send(self, **state: str | int) -> None:
        """Send ``KEY=value`` lines, such as ``READY=1``. A missing manager is ignored."""
        if not self._address:
            return
        text = "\n".join(f"{key}={value}" for key, value in state.items())
        with (
            suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as manager,
        ):
            manager.connect(self._address)
            manager.sendall(text.encode())


def passed_socket(environment: Mapping[str, str], pid: int) -> socket.socket | None:
    """Return the listening socket that a socket unit passed to this process, if any.

    Raises:
        ConfigError: there is more than one, of which clients of the others would wait for ever; or it is no listening
            socket.
    """
    count = environment.get("LISTEN_FDS", "")
    if environment.get("LISTEN_PID") != str(pid) or not count.isdigit() or int(count) == 0:
        return None
    if int(count) > 1:
        raise ConfigError(
            f"the service manager passes {count} sockets, and the daemon serves one: leave one ListenStream= in the "
            "socket unit; an empty ListenStream= before it removes the others"
        )
    try:
        os.set_inheritable(_FIRST_FD, False)
        passed = socket.socket(fileno=_FIRST_FD)
        listens = passed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise ConfigError(f"the service manager passes no socket: {error.strerror}") from None
    if not listens:
        passed.close()
        raise ConfigError(
            "the service manager passes a socket that does not listen; use ListenStream= and Accept=no"
        )
    passed.setblocking(False)
    return passed


def _watchdog_s(environment: Mapping[str, str]) -> float | None:
    microseconds, pid = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID")
    if not microseconds.isdigit() or int(microseconds) == 0 or pid not in (None, str(os.getpid())):
        return None
    return int(microseconds) / _MICROSECONDS
