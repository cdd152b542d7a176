"""Test that log records reach the journal with their fields, through a socket in its place."""

import array
import logging
import os
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from streamasr.service.journal import (
    FIELD_PREFIX,
    MAX_VALUE_CHARS,
    JournalHandler,
    encode_entry,
    field_name,
    field_value,
    priority,
    writes_to_journal,
)
from streamasr.service.logs import JournalFormatter, LineFormatter, configure_logging

Entry = dict[str, str]
Emit = Callable[..., None]


def parse(data: bytes) -> Entry:
    """Read an entry as the journal does."""
    entry = {}
    while data:
        line, _, data = data.partition(b"\n")
        name, mark, value = line.partition(b"=")
        if not mark:
            (size,) = struct.unpack("<Q", data[:8])
            value, data = data[8 : 8 + size], data[8 + size + 1 :]
        entry[name.decode()] = value.decode()
    return entry


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(str(tmp_path / "journal"))
        end.settimeout(10)
        yield end


def receive(journal: socket.socket) -> Entry:
    data, rights, *_ = journal.recvmsg(1 << 20, socket.CMSG_SPACE(4))
    if rights:
        fds = array.array("i")
        fds.frombytes(rights[0][2][:4])
        with os.fdopen(fds[0], "rb") as file:
            file.seek(0)
            data = file.read()
    return parse(data)


def handler_of(journal: socket.socket) -> JournalHandler:
    fallback = logging.StreamHandler(sys.stderr)
    fallback.setFormatter(LineFormatter())
    handler = JournalHandler(fallback, Path(journal.getsockname()))
    handler.setFormatter(JournalFormatter())
    return handler


def record(event: str, level: int = logging.INFO, error: bool = False, **fields: object) -> logging.LogRecord:
    made = logging.LogRecord(
        "streamasr.service", level, "server.py", 7, event, (), sys.exc_info() if error else None, "run"
    )
    made.fields = fields
    return made


def test_an_event_arrives_with_its_fields(journal: socket.socket) -> None:
    handler = handler_of(journal)
    handler.emit(record("session_closed", session="ab12", outcome="done", audio_ms=640))
    assert receive(journal) == {
        "MESSAGE": "session_closed session=ab12 outcome=done audio_ms=640",
        "PRIORITY": "6",
        "SYSLOG_IDENTIFIER": "streamasr",
        "LOGGER": "streamasr.service",
        "CODE_FILE": "server.py",
        "CODE_LINE": "7",
        "CODE_FUNC": "run",
        "STREAMASR_EVENT": "session_closed",
        "STREAMASR_SESSION": "ab12",
        "STREAMASR_OUTCOME": "done",
        "STREAMASR_AUDIO_MS": "640",
    }


def test_a_value_cannot_forge_a_field(journal: socket.socket) -> None:
    handler = handler_of(journal)
    handler.emit(record("origin_refused", logging.WARNING, origin="x\nPRIORITY=0\n_UID=0"))
    entry = receive(journal)
    assert entry["STREAMASR_ORIGIN"] == "x\nPRIORITY=0\n_UID=0"
    assert entry["PRIORITY"] == "4"
    assert "_UID" not in entry


def test_a_record_larger_than_a_datagram_arrives(journal: socket.socket) -> None:
    handler = handler_of(journal)
    long = "x" * 4_000_000
    handler.emit(record(long, logging.ERROR))
    entry = receive(journal)
    assert entry["MESSAGE"] == entry["STREAMASR_EVENT"] == long
    assert entry["PRIORITY"] == "3"


def test_a_traceback_is_part_of_the_message(journal: socket.socket) -> None:
    handler = handler_of(journal)
    try:
        raise ValueError("what happened")
    except ValueError:
        handler.emit(record("failed", logging.ERROR, error=True))
    assert "ValueError: what happened" in receive(journal)["MESSAGE"]


def test_without_a_journal_the_record_goes_to_standard_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fallback = logging.StreamHandler(sys.stderr)
    fallback.setFormatter(LineFormatter())
    handler = JournalHandler(fallback, tmp_path / "gone")
    handler.setFormatter(JournalFormatter())
    handler.emit(record("ready", url="ws://x"))
    assert capsys.readouterr().err.endswith("info ready url=ws://x\n")


def test_the_journal_is_recognised_by_its_stream(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as file:
        status = os.fstat(file.fileno())
        stream = f"{status.st_dev}:{status.st_ino}"
        assert writes_to_journal(file.fileno(), {"JOURNAL_STREAM": stream})
        assert not writes_to_journal(file.fileno(), {"JOURNAL_STREAM": "1:2"})
        assert not writes_to_journal(file.fileno(), {})
    assert not writes_to_journal(file.fileno() if not file.closed else 9_999, {"JOURNAL_STREAM": stream})


def test_logging_goes_where_standard_error_goes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    root = logging.getLogger()
    former, level = root.handlers[:], root.level
    with (tmp_path / "log").open("w") as file:
        monkeypatch.setattr(sys, "stderr", file)
        status = os.fstat(file.fileno())
        try:
            configure_logging("info", {})
            assert type(root.handlers[0]) is logging.StreamHandler
            configure_logging("info", {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"})
            assert isinstance(root.handlers[0], JournalHandler)
        finally:
            root.handlers[:] = former
            root.setLevel(level)


@pytest.mark.parametrize(("level", "number"), [(50, 2), (40, 3), (30, 4), (25, 6), (20, 6), (10, 7), (0, 7)])
def test_priorities(level: int, number: int) -> None:
    assert priority(level) == number


def test_field_names_are_those_that_the_journal_accepts() -> None:
    assert field_name("audio_ms") == "STREAMASR_AUDIO_MS"
    assert field_name("a-é.b") == "STREAMASR_A___B"
    assert len(field_name("x" * 200)) == 64
    assert field_name("x").startswith(FIELD_PREFIX)


def test_an_entry_is_encoded_as_the_protocol_says() -> None:
    assert encode_entry([("A", "1"), ("B", "2\n3")]) == b"A=1\nB\n\x03\x00\x00\x00\x00\x00\x00\x002\n3\n"
    assert encode_entry([("A", "\ud800")]) == b"A=\\ud800\n"


def test_a_long_value_is_cut() -> None:
    assert field_value("x" * MAX_VALUE_CHARS) == "x" * MAX_VALUE_CHARS
    assert field_value("x" * 60_000) == "x" * MAX_VALUE_CHARS + "…"
