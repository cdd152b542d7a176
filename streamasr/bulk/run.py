"""Transcribe a manifest into a file of results, and report the progress."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from streamasr.bulk.recogniser import Outcome
from streamasr.bulk.results import SETTINGS, ResultsFile
from streamasr.bulk.rows import Row, Rows
from streamasr.text import join_words

RESULT_FIELDS = (
    *("line", "audio_filepath", "duration", "text", "reference", "utterances", "error", "attempts"),
    *("warnings", "incomplete_at_s", *SETTINGS),
)
"""Fields of results. Other fields of a manifest are copied, and its ``text`` as ``reference``."""


@dataclass(slots=True)
class Progress:
    """The state of a run."""

    rows: int
    """Rows of the manifest."""
    skipped: int
    """Rows that had a result when the run began."""
    wanted_s: float
    """Stated seconds of audio of the other rows."""
    transcribed: int = 0
    failed: int = 0
    incomplete: int = 0
    """Transcribed rows whose audio was cut off."""
    audio_s: float = 0.0
    """Seconds of audio recognised in this run, unfinished rows included."""
    began: float = field(default_factory=time.monotonic)

    def begin(self) -> None:
        """Start to measure time."""
        self.began = time.monotonic()

    @property
    def done(self) -> int:
        """Rows that have a result."""
        return self.skipped + self.transcribed + self.failed

    @property
    def elapsed_s(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self.began

    @property
    def times_real_time(self) -> float:
        """Seconds of audio recognised in a second."""
        return self.audio_s / max(self.elapsed_s, 1e-9)

    @property
    def remaining_s(self) -> float | None:
        """Estimate of the seconds until the end; ``None`` without stated durations, and at the start."""
        if self.wanted_s <= 0 or self.audio_s <= 0:
            return None
        return max(0.0, self.wanted_s - self.audio_s) / self.times_real_time


def progress_of(rows: Rows, results: ResultsFile) -> Progress:
    """Return the progress before a run."""
    open_rows = (
        duration for duration, done in zip(rows.durations_s, results.finished, strict=True) if not done
    )
    return Progress(rows=len(rows), skipped=sum(results.finished), wanted_s=sum(open_rows))


def unfinished(results: ResultsFile) -> Iterator[int]:
    """Return the indices of the rows without a result."""
    return (index for index, done in enumerate(results.finished) if not done)


def collect(
    rows: Rows,
    results: ResultsFile,
    outcomes: Iterable[Outcome | None],
    *,
    progress: Progress,
    audio_s: Callable[[], float] | None,
    on_progress: Callable[[Progress], None],
) -> None:
    """Write each outcome's result, then sort the file.

    A second outcome of a row is left out, so that each row has one result.

    Args:
        rows: the manifest.
        results: where to write.
        outcomes: the outcomes; ``None`` only reports progress.
        progress: is kept up to date.
        audio_s: returns the seconds of audio recognised so far; by default, those of finished rows are added up.
        on_progress: called after each outcome.

    Raises:
        ConfigError: a result cannot be written.
        DataError: the manifest has been changed.
    """
    for outcome in outcomes:
        if outcome is not None and not results.finished[outcome.index]:
            results.write(outcome.index, result_of(rows[outcome.index], outcome))
            progress.failed += outcome.error is not None
            progress.transcribed += outcome.error is None
            progress.incomplete += outcome.incomplete_at_s is not None
            progress.audio_s += outcome.audio_s
        if audio_s is not None:
            progress.audio_s = audio_s()
        on_progress(progress)
    results.sort()


def result_of(row: Row, outcome: Outcome) -> dict[str, Any]:
    """Return the result of a row: what was found, then the row's own fields."""
    result: dict[str, Any] = {"line": row.line, "audio_filepath": row.audio}
    if outcome.error is None:
        result["duration"] = round(outcome.audio_s, 3)
        result["text"] = join_words(final.text for final in outcome.finals)
        result["utterances"] = [dataclasses.asdict(final) for final in outcome.finals]
    else:
        result["error"] = outcome.error
    if outcome.attempts > 1:
        result["attempts"] = outcome.attempts
    if outcome.warnings:
        result["warnings"] = list(outcome.warnings)
    if outcome.incomplete_at_s is not None:
        result["incomplete_at_s"] = round(outcome.incomplete_at_s, 3)
    if row.fields.get("text"):
        result["reference"] = row.fields["text"]
    return result | {name: value for name, value in row.fields.items() if name not in RESULT_FIELDS}
