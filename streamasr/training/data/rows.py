"""Training rows: utterances strung together with pauses to like lengths, in an order that resumes.

Rows of like length waste no padding, and a model that has only ever heard one sentence at a time does badly on the
hundredth sentence of a session.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from streamasr.training.data.corpus import Corpus

_INT16_SCALE = 32768.0


@dataclass(frozen=True, slots=True)
class Segment:
    """Utterance ``index`` placed at sample ``start`` of its row."""

    index: int
    start: int


Row = tuple[Segment, ...]


class Batch(NamedTuple):
    """``pcm_BS`` float32 samples, their ``lengths_B``, and the rows' token ids one after another."""

    pcm_BS: Tensor
    lengths_B: Tensor
    targets: Tensor
    target_lengths_B: Tensor


@dataclass(frozen=True, slots=True)
class RowPlan:
    """Plans an endless, seeded sequence of batches; any position can be reached again.

    Args:
        lengths: samples of each utterance.
        row_samples: rows are filled up to this; a longer utterance has a row of its own.
        max_gap_samples: longest pause before an utterance.
        rows_per_batch: rows B.
        seed: the order's seed.
    """

    lengths: npt.NDArray[np.int64]
    row_samples: int
    max_gap_samples: int
    rows_per_batch: int
    seed: int

    def batches(self, skip: int = 0) -> Iterator[list[Row]]:
        """Batches from number ``skip`` on."""
        number = epoch = 0
        while True:
            rows = self._epoch(epoch)
            whole = len(rows) // self.rows_per_batch
            if whole == 0:
                rows = [rows[i % len(rows)] for i in range(self.rows_per_batch)]
                whole = 1
            for start in range(max(0, skip - number), whole):
                first = start * self.rows_per_batch
                yield rows[first : first + self.rows_per_batch]
            number += whole
            epoch += 1

    def _epoch(self, epoch: int) -> list[Row]:
        draw = np.random.default_rng((self.seed, epoch))
        rows: list[Row] = []
        row: list[Segment] = []
        end = 0
        for index in draw.permutation(len(self.lengths)):
            gap = int(draw.integers(0, self.max_gap_samples + 1))
            length = int(self.lengths[index])
            if row and end + gap + length > self.row_samples:
                rows.append(tuple(row))
                row, end = [], 0
            row.append(Segment(int(index), end + gap))
            end += gap + length
        if row:
            rows.append(tuple(row))
        return rows


class RowBuilder:
    """Turns planned rows into tensors on the device that holds the corpus.

    Args:
        corpus: the speech; copied whole to ``device``.
        token_ids: every utterance's token ids.
        separator: the id put between two utterances of a row; ``None`` where words begin by themselves.
        device: where batches are wanted.
    """

    def __init__(
        self, corpus: Corpus, token_ids: list[list[int]], separator: int | None, device: torch.device
    ) -> None:
        self.offsets = corpus.offsets
        self.token_ids = token_ids
        self.separator = separator
        self.samples = torch.from_numpy(np.array(corpus.samples)).to(device)

    def build(self, rows: list[Row]) -> Batch:
        """The batch of the rows, padded with digital silence to the longest."""
        device = self.samples.device
        ends = [segment.start + self._length(segment.index) for segment in (row[-1] for row in rows)]
        pcm_BS = torch.zeros(len(rows), max(ends), device=device)
        targets: list[int] = []
        target_lengths = []
        for b, row in enumerate(rows):
            before = len(targets)
            for position, segment in enumerate(row):
                first, length = int(self.offsets[segment.index]), self._length(segment.index)
                pcm_BS[b, segment.start : segment.start + length] = self.samples[first : first + length]
                if position and self.separator is not None:
                    targets.append(self.separator)
                targets.extend(self.token_ids[segment.index])
            target_lengths.append(len(targets) - before)
        return Batch(
            pcm_BS.div_(_INT16_SCALE),
            torch.tensor(ends, device=device),
            torch.tensor(targets, device=device),
            torch.tensor(target_lengths, device=device),
        )

    def _length(self, index: int) -> int:
        return int(self.offsets[index + 1] - self.offsets[index])
