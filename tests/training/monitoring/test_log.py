"""Test the log of a run: writing, reading, and removing later steps when a run resumes."""

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


def test_events_are_read_back_as_they_were_written(tmp_path: Path, events: list[Event]) -> None:
    path = tmp_path / "run" / "events.jsonl"
    write(path, events)
    assert read_events(path) == events
    first = json.loads(path.read_text(encoding="utf-8").splitlines()[0])
    assert (first["event"], first["time"], first["steps"]) == ("run", 1_700_000_000.123, 400)


def test_a_resumed_run_removes_the_later_steps(tmp_path: Path, events: list[Event]) -> None:
    path = tmp_path / "events.jsonl"
    write(path, events)
    with path.open("a") as file:
        file.write('{"event": "step", "st')
    again = [RunStarted(step=150, steps=400, name="tiny", frame_ms=20.0), *events[4:7]]
    write(path, again)
    assert read_events(path) == [*events[:4], *again]


def test_a_partial_last_line_is_ignored(tmp_path: Path, events: list[Event]) -> None:
    path = tmp_path / "events.jsonl"
    write(path, events)
    path.write_bytes(path.read_bytes()[:-9])
    assert read_events(path) == events[:-1]


def test_losses_that_are_not_finite_are_valid_json(tmp_path: Path, events: list[Event]) -> None:
    step = next(event for event in events if isinstance(event, StepReport))
    path = tmp_path / "events.jsonl"
    write(path, [replace(step, loss=math.nan, gradient_norm=math.inf)])
    row = json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert (row["loss"], row["gradient_norm"]) == ("nan", "inf")
    (read,) = read_events(path)
    assert isinstance(read, StepReport)
    assert math.isnan(read.loss)
    assert read.gradient_norm == math.inf


def test_unknown_fields_are_ignored(tmp_path: Path) -> None:
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
def test_lines_that_are_not_events_are_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(DataError, match=message):
        read_events(path)


def test_a_missing_log_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"events\.jsonl: no such file; `streamasr train` writes it"):
        read_events(tmp_path / "events.jsonl")
