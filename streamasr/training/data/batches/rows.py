"""Group utterances into training batches, in a seeded order that can resume, and build the batches' tensors.

There are two plans. :class:`RowPlan` concatenates utterances, with pauses, into rows of similar length. It wastes
little padding, and a model that was trained on single sentences recognises the later sentences of a long session
badly. :class:`BucketPlan` puts utterances of similar length into a batch, one per row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from streamasr.training.data.audio.corpus import INT16_SCALE, AudioCorpus

_OPEN_ROWS = 4
"""Number of rows being filled at a time; an utterance goes into the row where it leaves the least room."""
_POOL_BATCHES = 50
"""Utterances are drawn for this number of batches, then sorted by length: a batch has similar lengths, but other
utterances in each epoch."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Utterance ``index``, placed at sample ``start`` of its row."""

    index: int
    start: int


Row = tuple[Segment, ...]


class AudioBatch(NamedTuple):
    """Float32 samples, row lengths in samples, and the concatenated token ids of all rows."""

    pcm_BS: Tensor
    lengths_B: Tensor
    targets: Tensor
    target_lengths_B: Tensor
    transcribed_B: Tensor
    """Whether the row has a transcript; rows without one have no tokens."""
    needed_frames: tuple[int, ...]
    """Fewest encoder frames with which CTC can align each row: one per token, and one per repeated token for the
    blank between the two."""
    names: tuple[str, ...]
    """The sources of each row, for messages."""

    def without_texts(self, rows_B: Tensor) -> AudioBatch:
        """Return the batch with empty transcripts in the rows where ``rows_B`` is true."""
        lengths_B = self.target_lengths_B
        needed = zip(self.needed_frames, rows_B.tolist(), strict=True)
        return self._replace(
            targets=self.targets[~rows_B.repeat_interleave(lengths_B)],
            target_lengths_B=lengths_B.masked_fill(rows_B, 0),
            transcribed_B=self.transcribed_B | rows_B,
            needed_frames=tuple(0 if empty else frames for frames, empty in needed),
        )


class BatchPlan(Protocol):
    """An endless, seeded sequence of batches."""

    def batches(self, skip: int = 0) -> Iterator[list[Row]]:
        """Yield the batches from number ``skip`` on."""


@dataclass(frozen=True, slots=True)
class RowPlan:
    """Concatenates utterances, with pauses, into rows; any position of the sequence can be reached again.

    Args:
        lengths: samples of each utterance.
        row_samples: length up to which a row is filled; a longer utterance gets its own row.
        max_gap_samples: longest pause before an utterance.
        rows_per_batch: number of rows B.
        seed: seed of the order.
        untranscribed: number of utterances, at the end of ``lengths``, that have no transcript; they do not share
            rows with the others.
    """

    lengths: npt.NDArray[np.int64]
    row_samples: int
    max_gap_samples: int
    rows_per_batch: int
    seed: int
    untranscribed: int = 0

    def batches(self, skip: int = 0) -> Iterator[list[Row]]:
        """Yield the batches from number ``skip`` on."""
        number = epoch = 0
        while True:
            batches = self._batched(epoch)
            yield from batches[max(0, skip - number) :]
            number += len(batches)
            epoch += 1

    def _batched(self, epoch: int) -> list[list[Row]]:
        """Return full batches of rows of similar length; the few rows left over are not used in this epoch."""
        rows, size = self._epoch(epoch), self.rows_per_batch
        if len(rows) < size:
            rows = [rows[i % len(rows)] for i in range(size)]
        rng = np.random.default_rng((self.seed, epoch, 1))
        pool = _POOL_BATCHES * size
        ordered = [
            row
            for first in range(0, len(rows), pool)
            for row in sorted(rows[first : first + pool], key=self._end)
        ]
        batches = [ordered[first : first + size] for first in range(0, len(ordered) - size + 1, size)]
        return [batches[number] for number in rng.permutation(len(batches))]

    def _epoch(self, epoch: int) -> list[Row]:
        rng = np.random.default_rng((self.seed, epoch))
        done: list[Row] = []
        rows: list[Row] = []
        for index in rng.permutation(len(self.lengths)):
            gap = int(rng.integers(0, self.max_gap_samples + 1))
            needed = gap + int(self.lengths[index])
            fitting = [
                row
                for row in rows
                if self._end(row) + needed <= self.row_samples
                and self._transcribed(row[0].index) == self._transcribed(index)
            ]
            row = max(fitting, key=self._end, default=())
            if row:
                rows.remove(row)
            elif len(rows) == _OPEN_ROWS:
                fullest = max(rows, key=self._end)
                rows.remove(fullest)
                done.append(fullest)
            rows.append((*row, Segment(int(index), (self._end(row) if row else 0) + gap)))
        return done + rows

    def _end(self, row: Row) -> int:
        return row[-1].start + int(self.lengths[row[-1].index])

    def _transcribed(self, index: int) -> bool:
        return index < len(self.lengths) - self.untranscribed


@dataclass(frozen=True, slots=True)
class BucketPlan:
    """Puts utterances of similar length into a batch, one per row; any position can be reached again.

    Args:
        lengths: samples of each utterance.
        batch_samples: size up to which a batch is filled, padding included; a longer utterance gets its own batch.
        seed: seed of the order.
    """

    lengths: npt.NDArray[np.int64]
    batch_samples: int
    seed: int

    def batches(self, skip: int = 0) -> Iterator[list[Row]]:
        """Yield the batches from number ``skip`` on."""
        number = epoch = 0
        while True:
            planned = self._epoch(epoch)
            for indexes in planned[max(0, skip - number) :]:
                yield [(Segment(index, 0),) for index in indexes]
            number += len(planned)
            epoch += 1

    def _epoch(self, epoch: int) -> list[list[int]]:
        rng = np.random.default_rng((self.seed, epoch))
        order = rng.permutation(len(self.lengths))
        mean = max(1, int(self.lengths.mean()))
        pool = max(1, _POOL_BATCHES * self.batch_samples // mean)
        planned: list[list[int]] = []
        for first in range(0, len(order), pool):
            pooled = order[first : first + pool]
            batch: list[int] = []
            for index in pooled[np.argsort(self.lengths[pooled], kind="stable")]:
                if batch and (len(batch) + 1) * int(self.lengths[index]) > self.batch_samples:
                    planned.append(batch)
                    batch = []
                batch.append(int(index))
            planned.append(batch)
        return [planned[number] for number in rng.permutation(len(planned))]


class RowBuilder:
    """Turns planned rows into tensors.

    Args:
        corpus: the speech. On the CPU it stays a memory-mapped file; otherwise it is copied to ``device``.
        token_ids: token ids of each utterance; ``None`` for an utterance without a transcript.
        separator: id to put between two utterances of a row; ``None`` if the tokens themselves mark word starts.
        device: device of the batches.
    """

    def __init__(
        self,
        corpus: AudioCorpus,
        token_ids: Sequence[list[int] | None],
        separator: int | None,
        device: torch.device,
    ) -> None:
        self.corpus = corpus
        self.token_ids = token_ids
        self.separator = separator
        self.device = device
        self.on_device = None
        if device.type != "cpu":
            self.on_device = torch.from_numpy(np.array(corpus.samples)).to(device)

    def build(self, rows: list[Row]) -> AudioBatch:
        """Return the batch of the rows, padded with digital silence to the longest row."""
        ends = [segment.start + self._length(segment.index) for segment in (row[-1] for row in rows)]
        pcm_BS = torch.zeros(len(rows), max(ends), device=self.device)
        targets = []
        for b, row in enumerate(rows):
            for segment in row:
                samples = self._samples(segment.index)
                pcm_BS[b, segment.start : segment.start + len(samples)] = samples
            targets.append(join_token_ids([self.token_ids[segment.index] for segment in row], self.separator))
        names = [" + ".join(self.corpus.names[segment.index] for segment in row) for row in rows]
        return make_batch(pcm_BS.div_(INT16_SCALE), ends, targets, names)

    def _samples(self, index: int) -> Tensor:
        first, last = int(self.corpus.offsets[index]), int(self.corpus.offsets[index + 1])
        if self.on_device is not None:
            return self.on_device[first:last]
        return torch.from_numpy(np.array(self.corpus.samples[first:last]))

    def _length(self, index: int) -> int:
        return int(self.corpus.offsets[index + 1] - self.corpus.offsets[index])


def join_token_ids(parts: Sequence[list[int] | None], separator: int | None) -> list[int] | None:
    """Join the token ids of a row's utterances; ``None`` if an utterance has no transcript."""
    row: list[int] = []
    for position, ids in enumerate(parts):
        if ids is None:
            return None
        if position and separator is not None:
            row.append(separator)
        row.extend(ids)
    return row


def make_batch(
    pcm_BS: Tensor, lengths: list[int], targets: Sequence[list[int] | None], names: Sequence[str]
) -> AudioBatch:
    """Make a batch from padded samples, their lengths, and each row's token ids (``None`` if unknown) and name."""
    device = pcm_BS.device
    transcribed_B = torch.tensor([row is not None for row in targets], device=device)
    known = [row or [] for row in targets]
    return AudioBatch(
        pcm_BS=pcm_BS,
        lengths_B=torch.tensor(lengths, device=device),
        targets=torch.tensor([token for row in known for token in row], dtype=torch.long, device=device),
        target_lengths_B=torch.tensor([len(row) for row in known], device=device),
        transcribed_B=transcribed_B,
        needed_frames=tuple(len(row) + sum(a == b for a, b in pairwise(row)) for row in known),
        names=tuple(names),
    )
