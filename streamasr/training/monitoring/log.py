"""``events.jsonl``: every event of a run, one JSON object a line, and the same events read back.

A line is ``{"event": KIND, "time": UNIX SECONDS, …the event's fields…}``. What JSON has no number for is written
as ``"nan"``, ``"inf"`` or ``"-inf"``. Knows files and events; nothing of training.
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
    """Writes a run's events as they come; every line is on the disk before the next event.

    A :class:`RunStarted` takes away what an earlier start logged of later steps, and a half line that a crash has
    left, so that curves never fork.

    Args:
        path: the log; made, with its folder, where there is none.
        clock: seconds since 1970.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._clock = clock
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a", encoding="utf-8")

    def __call__(self, event: Event) -> None:
        """Write one event."""
        if isinstance(event, RunStarted):
            self._forget_after(event.step)
        line = {"event": _NAMES[type(event)], "time": round(self._clock(), 3), **dataclasses.asdict(event)}
        self._file.write(json.dumps(_writable(line), ensure_ascii=False, allow_nan=False) + "\n")
        self._file.flush()

    def __enter__(self) -> EventLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def _forget_after(self, step: int) -> None:
        self._file.close()
        partial = self._path.with_suffix(".partial")
        with partial.open("w", encoding="utf-8") as kept:
            for _, row in _rows(self._path):
                if row["step"] <= step:
                    kept.write(json.dumps(row, ensure_ascii=False) + "\n")
        partial.replace(self._path)
        self._file = self._path.open("a", encoding="utf-8")


def read_events(path: Path) -> list[Event]:
    """The events of a log, in order; a half line at its end is passed over, as are fields of a newer version.

    Raises:
        DataError: no such file, or a line that holds no event; the message names the line.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file; a run writes it while it trains")
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
    """Line number and object of every whole line."""
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
