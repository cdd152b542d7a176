"""Write structured log lines to standard error, ``time level event key=value …``, or to systemd's journal.

Callers must never log audio or recognised text.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from streamasr.service.journal import JournalHandler, field_value, writes_to_journal

logger = logging.getLogger("streamasr.service")

_MINUTE_S = 60.0


class LineFormatter(logging.Formatter):
    """Formats a record and its fields as one line. A traceback becomes one quoted field."""

    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line."""
        return f"{self.formatTime(record)} {record.levelname.lower()} {self._event(record)}"

    def _event(self, record: logging.LogRecord) -> str:
        fields = {name: field_value(value) for name, value in getattr(record, "fields", {}).items()}
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return _text(record.getMessage()) + "".join(
            f" {key}={_value(value)}" for key, value in fields.items()
        )


class JournalFormatter(LineFormatter):
    """Formats a record for the journal, which stores time and level itself."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the event and its fields as one line."""
        return self._event(record)


def configure_logging(level: str, environment: Mapping[str, str] = os.environ) -> None:
    """Send the log records of the whole process from ``level`` up to standard error.

    If standard error is connected to systemd's journal, they go there with their fields.
    """
    handler: logging.Handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter())
    if writes_to_journal(sys.stderr.fileno(), environment):
        handler = JournalHandler(handler)
        handler.setFormatter(JournalFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # The library logs every connection and handshake; the service logs its own, with session ids.
    logging.getLogger("websockets").setLevel(max(logging.WARNING, logging.getLogger().level))
    # It warns of every request that is not HTTP.
    logging.getLogger("uvicorn").setLevel(max(logging.ERROR, logging.getLogger().level))


def log_event(name: str, *, level: int = logging.INFO, exc_info: bool = False, **fields: object) -> None:
    """Log the event ``name`` with ``fields`` as ``key=value`` pairs."""
    logger.log(level, name, exc_info=exc_info, extra={"fields": fields}, stacklevel=2)


class StrangersLog:
    """Logs events that anybody can cause who reaches the port, up to a number of each in a minute: they must not fill
    the disk.

    The first record after others were left out has their number as the field ``left_out``.

    Args:
        per_minute: records of one event in a minute; 0 for no limit.
        clock: a monotonic clock, in seconds.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_minute = per_minute
        self._clock = clock
        self._minutes: dict[str, _Minute] = {}
        """By the name of the event; these are few."""

    def event(self, name: str, *, level: int = logging.INFO, **fields: object) -> None:
        """Log an event, or count it if there were too many."""
        now = self._clock()
        minute = self._minutes.setdefault(name, _Minute(now))
        if now - minute.began_s >= _MINUTE_S:
            minute.began_s, minute.records = now, 0
        if self._per_minute and minute.records >= self._per_minute:
            minute.left_out += 1
            return
        minute.records += 1
        if minute.left_out:
            fields["left_out"], minute.left_out = minute.left_out, 0
        logger.log(level, name, extra={"fields": fields}, stacklevel=2)


@dataclass(slots=True)
class _Minute:
    """How often an event was logged."""

    began_s: float
    records: int = 0
    left_out: int = 0


def _text(text: str) -> str:
    return text.replace("\n", "\\n").replace("\r", "\\r")


def _value(text: str) -> str:
    plain = text.isascii() and text.isprintable() and not any(char in text for char in ' "=')
    return text if text and plain else json.dumps(text)
