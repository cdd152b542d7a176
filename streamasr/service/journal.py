"""Send log records to systemd's journal with their fields, in the journal's native protocol.

The protocol is described at https://systemd.io/JOURNAL_NATIVE_PROTOCOL/: one datagram per record, of lines
``FIELD=value``. A record that is larger than a datagram is passed as a sealed memory file.
"""

from __future__ import annotations

import array
import fcntl
import logging
import os
import re
import socket
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path

SOCKET = Path("/run/systemd/journal/socket")
"""Where the journal receives records."""

IDENTIFIER = "streamasr"
"""``SYSLOG_IDENTIFIER`` of every record: ``journalctl -t streamasr``."""

FIELD_PREFIX = "STREAMASR_"
"""Begins the name of every field of an event: ``session`` becomes ``STREAMASR_SESSION``."""

MAX_VALUE_CHARS = 1_000
"""A longer value of a field is cut: clients choose some of them, such as the origin of a page."""

_PRIORITIES = (
    (logging.CRITICAL, 2),
    (logging.ERROR, 3),
    (logging.WARNING, 4),
    (logging.INFO, 6),
)
"""The lowest level of each of syslog's priorities; lower levels are 7, debug."""
_MAX_NAME_CHARS = 64
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL


def writes_to_journal(fd: int, environment: Mapping[str, str]) -> bool:
    """Whether the file descriptor ``fd`` is the connection to the journal that ``JOURNAL_STREAM`` names."""
    try:
        status = os.fstat(fd)
    except OSError:
        return False
    return environment.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


class JournalHandler(logging.Handler):
    """Sends each record as one entry. If the journal cannot be reached, the record goes to standard error.

    An entry has ``MESSAGE`` (the formatted record), ``PRIORITY``, ``SYSLOG_IDENTIFIER``, ``LOGGER``, the place in the
    code, ``STREAMASR_EVENT``, and ``STREAMASR_…`` for each of the event's fields.

    Args:
        fallback: handles the records that cannot be sent.
        path: the journal's socket.
    """

    def __init__(self, fallback: logging.Handler, path: Path = SOCKET) -> None:
        super().__init__()
        self._fallback = fallback
        self._path = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)

    def emit(self, record: logging.LogRecord) -> None:
        """Send the record."""
        try:
            entry = encode_entry(self._fields(record))
            try:
                self._socket.sendto(entry, self._path)
            except OSError:
                # Larger than a datagram may be, or the journal is gone; the second attempt shows which.
                self._send_as_file(entry)
        except OSError:
            self._fallback.emit(record)
        except Exception:  # noqa: BLE001 - as in every handler: logging must not end the daemon
            self.handleError(record)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
        super().close()

    def _fields(self, record: logging.LogRecord) -> Iterable[tuple[str, str]]:
        yield "MESSAGE", self.format(record)
        yield "PRIORITY", str(priority(record.levelno))
        yield "SYSLOG_IDENTIFIER", IDENTIFIER
        yield "LOGGER", record.name
        yield "CODE_FILE", record.pathname
        yield "CODE_LINE", str(record.lineno)
        yield "CODE_FUNC", record.funcName or ""
        yield FIELD_PREFIX + "EVENT", record.getMessage()
        for name, value in getattr(record, "fields", {}).items():
            yield field_name(name), field_value(value)

    def _send_as_file(self, entry: bytes) -> None:
        fd = os.memfd_create("streamasr-log", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            with os.fdopen(os.dup(fd), "wb") as file:
                file.write(entry)
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))
            self._socket.sendmsg([b""], [rights], 0, self._path)
        finally:
            os.close(fd)


def encode_entry(fields: Iterable[tuple[str, str]]) -> bytes:
    """Return an entry in the native protocol. A value with a line break is preceded by its length."""
    parts = []
    for name, value in fields:
        data = value.encode("utf-8", "backslashreplace")
        if b"\n" in data:
            parts.append(name.encode() + b"\n" + struct.pack("<Q", len(data)) + data + b"\n")
        else:
            parts.append(name.encode() + b"=" + data + b"\n")
    return b"".join(parts)


def field_name(name: str) -> str:
    """Return the journal's name for an event's field: capital letters, digits and underscores, at most 64."""
    return (FIELD_PREFIX + re.sub(r"[^A-Z0-9]", "_", name.upper()))[:_MAX_NAME_CHARS]


def field_value(value: object) -> str:
    """Return the text of a field's value, of at most :data:`MAX_VALUE_CHARS` and a mark."""
    text = str(value)
    return text if len(text) <= MAX_VALUE_CHARS else f"{text[:MAX_VALUE_CHARS]}…"


def priority(level: int) -> int:
    """Return syslog's priority for a level of :mod:`logging`."""
    return next((number for lowest, number in _PRIORITIES if level >= lowest), 7)
