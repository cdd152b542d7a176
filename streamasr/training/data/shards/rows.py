"""Concatenate streamed utterances, with pauses, into rows of similar length, using a bounded buffer.

:mod:`streamasr.training.data.batches.rows` does the same for speech in memory. Rows are planned with the lengths
that the shards state and decoded only when they are yielded, so that resuming decodes nothing.
Shape suffix: S samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from streamasr.errors import ConfigError
from streamasr.training.data.shards.reading import PackedUtterance, Samples, ShardedSpeech


@dataclass(frozen=True, slots=True)
class StreamedRow:
    """Utterances with a pause before each; the one with transcript ``texts[i]`` starts at sample ``starts[i]``."""

    samples_S: Samples
    texts: tuple[str, ...]
    starts: tuple[int, ...]
    epoch: int
    number: int
    """Number of the row in the reader's epoch. To resume after it, call :func:`stream_rows` with
    ``skip = number + 1``."""


@dataclass(slots=True)
class _PlannedRow:
    placed: list[tuple[PackedUtterance, int]] = field(default_factory=list)
    end: int = 0


def stream_rows(
    speech: ShardedSpeech,
    *,
    row_samples: int,
    max_gap_samples: int,
    open_rows: int = 4,
    epoch: int = 0,
    skip: int = 0,
) -> Iterator[StreamedRow]:
    """Yield rows without end, epoch after epoch; each epoch's rows hold all its utterances.

    Args:
        speech: source of the utterances.
        row_samples: length up to which a row is filled; a longer utterance gets its own row.
        max_gap_samples: longest pause before an utterance; the pause is drawn for each.
        open_rows: number of rows being filled at a time, which bounds the buffer. An utterance goes into the row
            where it leaves the least room; if it fits into none, the fullest row is yielded.
        epoch: epoch to start with.
        skip: number of rows of the first epoch to pass over; they are not decoded.

    Raises:
        ConfigError: a number is out of range.
        DataError: nothing in the shards can be used.
    """
    for name, value, least in (
        ("row_samples", row_samples, 1),
        ("max_gap_samples", max_gap_samples, 0),
        ("open_rows", open_rows, 1),
    ):
        if value < least:
            raise ConfigError(f"{name} must be at least {least}, got {value}")
    while True:
        usable = skip > 0
        planned = _planned_rows(speech, epoch, row_samples, max_gap_samples, open_rows)
        for number, plan in enumerate(planned):
            if number < skip:
                continue
            row = _decode_row(speech, plan, epoch, number)
            if row is not None:
                usable = True
                yield row
        if not usable:
            raise speech.nothing_usable()
        epoch, skip = epoch + 1, 0


def _planned_rows(
    speech: ShardedSpeech, epoch: int, row_samples: int, max_gap_samples: int, open_rows: int
) -> Iterator[_PlannedRow]:
    rng = np.random.default_rng((speech.seed, epoch, speech.reader))
    plans: list[_PlannedRow] = []
    for utterance in speech.packed_utterances(epoch):
        gap = int(rng.integers(0, max_gap_samples + 1))
        fitting = [plan for plan in plans if plan.end + gap + utterance.samples <= row_samples]
        if fitting:
            plan = max(fitting, key=lambda plan: plan.end)
        else:
            if len(plans) == open_rows:
                fullest = max(range(open_rows), key=lambda place: plans[place].end)
                yield plans.pop(fullest)
            plan = _PlannedRow()
            plans.append(plan)
        plan.placed.append((utterance, plan.end + gap))
        plan.end += gap + utterance.samples
    yield from plans


def _decode_row(speech: ShardedSpeech, plan: _PlannedRow, epoch: int, number: int) -> StreamedRow | None:
    """Decode a planned row; broken utterances are replaced by silence. ``None`` if all of them are broken."""
    samples_S = np.zeros(plan.end, dtype=np.int16)
    texts, starts = [], []
    for utterance, start in plan.placed:
        decoded_S = speech.decode(utterance)
        if decoded_S is not None:
            samples_S[start : start + len(decoded_S)] = decoded_S
            texts.append(utterance.text)
            starts.append(start)
    return StreamedRow(samples_S, tuple(texts), tuple(starts), epoch, number) if texts else None
