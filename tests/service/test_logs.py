"""Test that each record is formatted as one line."""

import logging
import sys

from streamasr.service.journal import MAX_VALUE_CHARS
from streamasr.service.logs import LineFormatter


def line(message: str, exc_info: bool = False, **fields: object) -> str:
    record = logging.LogRecord("x", logging.INFO, "f", 1, message, (), sys.exc_info() if exc_info else None)
    record.fields = fields
    return LineFormatter().format(record)


def test_fields_are_quoted_if_necessary() -> None:
    text = line("session_closed", session="ab", outcome="done", reason='a "b"', empty="", forged="x\ny=1")
    assert text.endswith(
        'Z info session_closed session=ab outcome=done reason="a \\"b\\"" empty="" forged="x\\ny=1"'
    )


def test_a_long_value_is_cut() -> None:
    """Clients choose some values, and must not fill the disk with them."""
    assert len(line("origin_refused", origin="x" * 60_000, host="y" * 60_000)) < 2 * MAX_VALUE_CHARS + 100
    assert line("origin_refused", origin="x" * MAX_VALUE_CHARS).endswith("=" + "x" * MAX_VALUE_CHARS)


def test_a_traceback_stays_on_its_line() -> None:
    try:
        raise ValueError("what\nhappened")
    except ValueError:
        text = line("failed\nbadly", exc_info=True)
    assert "\n" not in text
    assert "failed\\nbadly traceback=" in text
    assert "ValueError: what" in text
