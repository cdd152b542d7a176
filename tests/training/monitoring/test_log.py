"""The log of a run: written, read back, and mended when a run goes on."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from streamasr.errors import DataError
from streamasr.training.monitoring.events import Event, RunStarted, StepReport
from streamasr.training.monitoring.log import EventLog, read_events


def write(path: Path, events: list[Event]) -> None:
    with EventLog(path, clock=lambda: 1_700_000_000.1234) as log:
        for event in events:
            log(event)


def test_what_is_written_is_read_back(tmp_path: Path, events: list[Event]) -> None:
    path = tmp_path / "run" / "events.jsonl"
    write(path, events)
    assert read_events(path) == events
    first = json.loads(path.read_text(encoding="utf-8").splitlines()[0])
    assert (first["event"], first["time"], first["steps"]) == ("run", 1_700_000_000.123, 400)


def test_a_resumed_run_does_not_fork(tmp_path: Path, events: list[Event]) -> None:
    path = tmp_path / "events.jsonl"
    write(path, events)
    with path.open("a") as file:
        file.write('{"event": "step", "st')
    again = [RunStarted(step=150, steps=400, name="tiny", frame_ms=20.0), *events[4:7]]
    write(path, again)
    assert read_events(path) == [*events[:4], *again]


def test_a_half_line_at_the_end_is_passed_over(tmp_path: Path, events: list[Event]) -> None:
    path = tmp_path / "events.jsonl"
    write(path, events)
    path.write_bytes(path.read_bytes()[:-9])
    assert read_events(path) == events[:-1]


def test_losses_that_are_no_numbers_stay_valid_json(tmp_path: Path, events: list[Event]) -> None:
    step = next(event for event in events if isinstance(event, StepReport))
    path = tmp_path / "events.jsonl"
    write(path, [replace(step, loss=math.nan, gradient_norm=math.inf)])
    row = json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert (row["loss"], row["gradient_norm"]) == ("nan", "inf")
    (read,) = read_events(path)
    assert isinstance(read, StepReport)
    assert math.isnan(read.loss)
    assert read.gradient_norm == math.inf


def test_fields_of_a_newer_version_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text(
        '{"event": "run", "step": 0, "steps": 9, "name": "a", "frame_ms": 20, "later": 1, "recipe": ""}\n'
    )
    assert read_events(path) == [RunStarted(step=0, steps=9, name="a", frame_ms=20.0)]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"events\.jsonl:1: not valid JSON"),
        ("[1]", r"events\.jsonl:1: expected an object with event and step, got '\[1\]'"),
        ('{"event": "step"}', "expected an object with event and step"),
        (
            '{"event": "snow", "step": 1}',
            "expected an event of run, step, dev, diagnosis, got 'snow'",
        ),
        ('{"event": "run", "step": 1}', r"events\.jsonl:1: steps: missing"),
    ],
)
def test_lines_that_hold_no_event_are_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(DataError, match=message):
        read_events(path)


def test_a_folder_without_a_log_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"events\.jsonl: no such file; a run writes it"):
        read_events(tmp_path / "events.jsonl")
