"""Streamed utterances strung together, with pauses, into rows of like length, in a bounded buffer.

What ``rows`` does for speech that is all in memory, for speech that is not. Rows are planned by the utterances'
headers and decoded only when they are given out, so that resuming decodes nothing. Shape suffix: S samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from streamasr.errors import ConfigError
from streamasr.training.data.shards.reading import Member, Samples, ShardedSpeech


@dataclass(frozen=True, slots=True)
class StreamedRow:
    """Utterances with silence before each; ``texts[i]`` is said from sample ``starts[i]`` on."""

    samples_S: Samples
    texts: tuple[str, ...]
    starts: tuple[int, ...]
    epoch: int
    number: int
    """Place in the reader's epoch; :func:`stream_rows` goes on behind it with ``skip = number + 1``."""


@dataclass(slots=True)
class _Plan:
    placed: list[tuple[Member, int]] = field(default_factory=list)
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
    """Rows without end, epoch after epoch; no utterance is lost between them.

    Args:
        speech: where the utterances come from.
        row_samples: rows are filled up to this; a longer utterance has a row of its own.
        max_gap_samples: longest pause before an utterance; drawn for each.
        open_rows: rows being filled at a time. An utterance goes where it leaves the least room; where it fits into
            none, the fullest row is given out. The buffer never holds more than these rows.
        epoch: where to begin, with ``skip``: rows of this epoch to pass over, undecoded.
        skip: see ``epoch``.

    Raises:
        ConfigError: a number that makes no sense.
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
        for number, plan in enumerate(_plans(speech, epoch, row_samples, max_gap_samples, open_rows)):
            if number < skip:
                continue
            row = _decoded(speech, plan, epoch, number)
            if row is not None:
                usable = True
                yield row
        if not usable:
            raise speech.nothing_usable()
        epoch, skip = epoch + 1, 0


def _plans(
    speech: ShardedSpeech, epoch: int, row_samples: int, max_gap_samples: int, open_rows: int
) -> Iterator[_Plan]:
    draw = np.random.default_rng((speech.seed, epoch, speech.reader))
    plans: list[_Plan] = []
    for member in speech.members(epoch):
        gap = int(draw.integers(0, max_gap_samples + 1))
        fitting = [plan for plan in plans if plan.end + gap + member.samples <= row_samples]
        if fitting:
            plan = max(fitting, key=lambda plan: plan.end)
        else:
            if len(plans) == open_rows:
                fullest = max(range(open_rows), key=lambda place: plans[place].end)
                yield plans.pop(fullest)
            plan = _Plan()
            plans.append(plan)
        plan.placed.append((member, plan.end + gap))
        plan.end += gap + member.samples
    yield from plans


def _decoded(speech: ShardedSpeech, plan: _Plan, epoch: int, number: int) -> StreamedRow | None:
    """The row, silent where an utterance turned out to be broken; ``None`` if all of them did."""
    samples_S = np.zeros(plan.end, dtype=np.int16)
    texts, starts = [], []
    for member, start in plan.placed:
        decoded_S = speech.decode(member)
        if decoded_S is not None:
            samples_S[start : start + len(decoded_S)] = decoded_S
            texts.append(member.text)
            starts.append(start)
    return StreamedRow(samples_S, tuple(texts), tuple(starts), epoch, number) if texts else None
