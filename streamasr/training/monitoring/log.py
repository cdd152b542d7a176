"""Write and read the log of a run, ``events.jsonl``: one JSON object per event and line.

A line is ``{"event": KIND, "time": UNIX SECONDS, …the event's fields…}``. Numbers that JSON does not have are written
as ``"nan"``, ``"inf"`` or ``"-inf"``.
"""

from __future__ import annotations

import dataclasses
import json
import math
import time
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from streamasr.errors import ConfigError, DataError
from streamasr.toml import from_mapping
from streamasr.training.monitoring.events import DevReport, Diagnosis, Event, RunStarted, StepReport

EVENTS_FILE = "events.jsonl"
"""Name of the log in a run's folder."""

KINDS: dict[str, type[Event]] = {
    "run": RunStarted,
    "step": StepReport,
    "dev": DevReport,
    "diagnosis": Diagnosis,
}
_NAMES = {cls: name for name, cls in KINDS.items()}


class EventLog:
    """Appends a run's events to its log; each line is flushed before the next event.

    A :class:`RunStarted` removes the later steps of an earlier start, and a partial last line that a crash has left,
    so that the log holds one sequence of steps.

    Args:
        path: the log; it is created, with its folder, if it does not exist.
        clock: returns seconds since 1970.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._clock = clock
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a", encoding="utf-8")

    def __call__(self, event: Event) -> None:
        """Write one event."""
        if isinstance(event, RunStarted):
            self._remove_after(event.step)
        line = {"event": _NAMES[type(event)], "time": round(self._clock(), 3), **dataclasses.asdict(event)}
        self._file.write(json.dumps(_writable(line), ensure_ascii=False, allow_nan=False) + "\n")
        self._file.flush()

    def __enter__(self) -> EventLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def _remove_after(self, step: int) -> None:
        self._file.close()
        partial = self._path.with_suffix(".partial")
        with partial.open("w", encoding="utf-8") as kept:
            for _, row in _rows(self._path):
                if row["step"] <= step:
                    kept.write(json.dumps(row, ensure_ascii=False) + "\n")
        partial.replace(self._path)
        self._file = self._path.open("a", encoding="utf-8")


def read_events(path: Path) -> list[Event]:
    """Read the events of a log, in order; a partial last line and unknown fields are ignored.

    Raises:
        DataError: the file does not exist, or a line is not an event; the message names the line.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file; `streamasr train` writes it")
    events: list[Event] = []
    for number, row in _rows(path):
        where = f"{path}:{number}"
        kind = KINDS.get(row["event"])
        if kind is None:
            raise DataError(f"{where}: expected an event of {', '.join(KINDS)}, got {row['event']!r}")
        hints = typing.get_type_hints(kind)
        known = {name: _readable(hints[name], value) for name, value in row.items() if name in hints}
        try:
            events.append(from_mapping(kind, known))
        except ConfigError as error:
            raise DataError(f"{where}: {error.message}") from None
    return events


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield line number and object of each complete line."""
    lines = path.read_text(encoding="utf-8").split("\n")
    for number, line in enumerate(lines[:-1], start=1):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{path}:{number}: not valid JSON: {error}") from None
        if not isinstance(row, dict) or "event" not in row or not isinstance(row.get("step"), int):
            raise DataError(f"{path}:{number}: expected an object with event and step, got {line[:60]!r}")
        yield number, row


def _writable(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {name: _writable(part) for name, part in value.items()}
    return value


def _readable(hint: Any, value: Any) -> Any:
    return float(value) if hint is float and isinstance(value, str) else value
