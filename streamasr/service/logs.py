"""Write structured log lines to standard error: ``time level event key=value …``.

Callers must never log audio or recognised text.
"""

from __future__ import annotations

import json
import logging
import sys
import time

logger = logging.getLogger("streamasr.service")


class LineFormatter(logging.Formatter):
    """Formats a record and its fields as one line. A traceback becomes one quoted field."""

    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line."""
        fields = dict(getattr(record, "fields", {}))
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        line = f"{self.formatTime(record)} {record.levelname.lower()} {_text(record.getMessage())}"
        return line + "".join(f" {key}={_value(value)}" for key, value in fields.items())


def configure_logging(level: str) -> None:
    """Send the log records of the whole process to standard error, from ``level`` up."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # The library logs every connection and handshake; the service logs its own, with session ids.
    logging.getLogger("websockets").setLevel(max(logging.WARNING, logging.getLogger().level))
    # It warns of every request that is not HTTP.
    logging.getLogger("uvicorn").setLevel(max(logging.ERROR, logging.getLogger().level))


def log_event(name: str, *, level: int = logging.INFO, exc_info: bool = False, **fields: object) -> None:
    """Log the event ``name`` with ``fields`` as ``key=value`` pairs."""
    logger.log(level, name, exc_info=exc_info, extra={"fields": fields})


def _text(text: str) -> str:
    return text.replace("\n", "\\n").replace("\r", "\\r")


def _value(value: object) -> str:
    text = str(value)
    plain = text.isascii() and text.isprintable() and not any(char in text for char in ' "=')
    return text if text and plain else json.dumps(text)
