"""Test that each record is formatted as one line."""

import logging
import sys

import pytest
from websockets.exceptions import InvalidStatus

from streamasr.service.journal import MAX_VALUE_CHARS
from streamasr.service.logs import LineFormatter, StrangersLog
from tests.service.conftest import Launch


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


def fields_of(caplog: pytest.LogCaptureFixture, name: str) -> list[dict[str, object]]:
    return [vars(record)["fields"] for record in caplog.records if record.getMessage() == name]


def test_what_anybody_can_cause_is_logged_so_often_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    now = 1_000.0
    log = StrangersLog(3, lambda: now)
    for number in range(10):
        log.event("origin_refused", number=number)
    log.event("another")
    now += 60
    log.event("origin_refused", number=10)
    log.event("origin_refused", number=11)
    assert fields_of(caplog, "origin_refused") == [
        {"number": 0},
        {"number": 1},
        {"number": 2},
        {"number": 10, "left_out": 7},
        {"number": 11},
    ]
    assert fields_of(caplog, "another") == [{}]
    assert {record.filename for record in caplog.records} == {"test_logs.py"}


async def test_strangers_cannot_fill_the_log(launch: Launch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    harness = await launch(token="a-secret-of-some-length", max_log_per_minute=2, max_failed_tokens=1)
    for number in range(5):
        with pytest.raises(InvalidStatus, match="403"):
            await harness.connect(origin=f"https://evil-{number}.example")
        with pytest.raises(InvalidStatus):
            await harness.connect("?token=wrong")
        client = await harness.connect()
        await client.send("{")
        await client.rest()
    await harness.server.drain()
    for event in ("origin_refused", "connection_closed"):
        assert len(fields_of(caplog, event)) == 2, event
    assert len(fields_of(caplog, "rate_limited")) == 1
