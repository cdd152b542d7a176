"""Test systemd's notification and socket protocols with a local socket."""

import os
import socket
from pathlib import Path

import pytest

from streamasr.errors import ConfigError
from streamasr.service import sdnotify
from streamasr.service.sdnotify import Notifier, passed_socket


def test_state_reaches_the_manager(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(60)
        Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")}).send(READY=1, STATUS="accepting sessions")
        assert manager.recv(1_000) == b"READY=1\nSTATUS=accepting sessions"


def test_an_abstract_address_is_supported() -> None:
    name = f"streamasr-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name)
        manager.settimeout(60)
        Notifier({"NOTIFY_SOCKET": "@" + name}).send(WATCHDOG=1)
        assert manager.recv(1_000) == b"WATCHDOG=1"


def test_without_a_manager_nothing_happens(tmp_path: Path) -> None:
    Notifier({}).send(READY=1)
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}).send(READY=1)


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
    ],
)
def test_the_watchdog_interval_is_read(environment: dict[str, str], seconds: float | None) -> None:
    assert Notifier(environment).watchdog_s == seconds


def test_a_passed_socket_is_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        monkeypatch.setattr(sdnotify, "_FIRST_FD", os.dup(listener.fileno()))
        passed = passed_socket({"LISTEN_PID": "7", "LISTEN_FDS": "1"}, pid=7)
        assert passed is not None
        with passed:
            assert passed.getsockname() == listener.getsockname()
            assert not passed.getblocking()


@pytest.mark.parametrize(
    "environment",
    [{}, {"LISTEN_PID": "8", "LISTEN_FDS": "1"}, {"LISTEN_PID": "7"}, {"LISTEN_PID": "7", "LISTEN_FDS": "x"}],
)
def test_sockets_for_other_processes_are_ignored(environment: dict[str, str]) -> None:
    assert passed_socket(environment, pid=7) is None


def test_more_than_one_socket_is_refused() -> None:
    """Clients of the others would connect, and never be answered."""
    with pytest.raises(
        ConfigError, match=r"^the service manager passes 2 sockets, and the daemon serves one"
    ):
        passed_socket({"LISTEN_PID": "7", "LISTEN_FDS": "2"}, pid=7)


def test_what_is_no_listening_socket_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    environment = {"LISTEN_PID": "7", "LISTEN_FDS": "1"}
    with (tmp_path / "file").open("wb") as file:
        monkeypatch.setattr(sdnotify, "_FIRST_FD", os.dup(file.fileno()))
        with pytest.raises(ConfigError, match=r"^the service manager passes no socket: "):
            passed_socket(environment, pid=7)
        os.close(sdnotify._FIRST_FD)
    with socket.socket() as unused:
        monkeypatch.setattr(sdnotify, "_FIRST_FD", os.dup(unused.fileno()))
        with pytest.raises(ConfigError, match="passes a socket that does not listen"):
            passed_socket(environment, pid=7)
