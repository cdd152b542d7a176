"""The batches of a run, in order and from any place on; prepared here, or ahead of time in worker processes.

Batches are numbered through the whole run. Each rank takes one of every ``world_size`` batches, so the ranks together
train on the same batches as one process that takes ``world_size`` batches per step.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler, get_worker_info

from streamasr.training.config import TrainConfig
from streamasr.training.data.audio.corpus import INT16_SCALE
from streamasr.training.data.augmentation.sources import AugmentationSources
from streamasr.training.data.batches.prepare import Prepared, Preparer, StreamPosition
from streamasr.training.data.batches.rows import Batch, Plan, Row, RowBuilder, batch_of, joined
from streamasr.training.data.shards.reading import ShardedSpeech
from streamasr.training.data.shards.rows import StreamedRow, stream_rows
from streamasr.training.tokenizer import Tokenizer

_PREFETCH_BATCHES = 4
Numbered = tuple[int, list[Row]]


@dataclass(frozen=True, slots=True)
class Share:
    """The batches of one rank: every ``world_size``-th batch from ``rank`` on, without the first ``done``."""

    rank: int = 0
    world_size: int = 1
    done: int = 0


class _Planned(Dataset[Prepared]):
    """Prepares the batch that it is asked for; runs in the worker processes."""

    def __init__(self, builder: RowBuilder, preparer: Preparer) -> None:
        self.builder = builder
        self.preparer = preparer

    def __getitem__(self, numbered: Numbered) -> Prepared:
        number, rows = numbered
        return self.preparer.prepare(self.builder.build(rows), number)


class _Numbers(Sampler[Numbered]):
    """The numbers and rows of a share's batches."""

    def __init__(self, plan: Plan, share: Share) -> None:
        self.plan = plan
        self.share = share

    def __iter__(self) -> Iterator[Numbered]:
        share = self.share
        first = share.done * share.world_size + share.rank
        for step, rows in enumerate(islice(self.plan.batches(first), None, None, share.world_size)):
            yield first + step * share.world_size, rows


def planned_batches(
    config: TrainConfig,
    plan: Plan,
    builder: RowBuilder,
    *,
    sources: AugmentationSources,
    share: Share,
    device: torch.device,
) -> Iterator[Prepared]:
    """Batches of speech that is all at hand, without end, on ``device``.

    With ``config.data.workers`` they are made on the CPU; otherwise on the builder's device.
    """
    workers = config.data.workers
    preparer = Preparer(config, sources, builder.device)
    dataset, numbers = _Planned(builder, preparer), _Numbers(plan, share)
    if not workers:
        return (dataset[numbered].to(device) for numbered in numbers)
    loader: DataLoader[Prepared] = DataLoader(
        dataset,
        batch_size=None,
        sampler=numbers,
        num_workers=workers,
        prefetch_factor=_PREFETCH_BATCHES,
        pin_memory=device.type == "cuda",
    )
    return (prepared.to(device) for prepared in loader)


class _Streamed(IterableDataset[Prepared]):
    """Reads shards, strings rows together and prepares them; runs in the worker processes."""

    def __init__(
        self,
        config: TrainConfig,
        tokenizer: Tokenizer,
        sources: AugmentationSources,
        share: Share,
        positions: Mapping[int, StreamPosition],
    ) -> None:
        self.config = config
        self.tokenizer = tokenizer
        self.share = share
        self.positions = positions
        self.preparer = Preparer(config, sources, torch.device("cpu"))

    def __iter__(self) -> Iterator[Prepared]:
        info = get_worker_info()
        workers = info.num_workers if info else 1
        # Workers give batches in turn; the one whose turn it was when the run stopped goes first.
        worker = ((info.id if info else 0) + self.share.done) % workers
        data, rate = self.config.data, self.config.frontend.sample_rate
        speech = ShardedSpeech(
            data.shards,
            sample_rate=rate,
            seed=self.config.seed,
            shuffle_utterances=data.shuffle_utterances,
            rank=self.share.rank,
            world_size=self.share.world_size,
            worker=worker,
            workers=workers,
            fault=self.tokenizer.fault,
        )
        after = self.positions.get(speech.reader)
        rows = stream_rows(
            speech,
            row_samples=round(data.row_seconds * rate),
            max_gap_samples=round(data.max_gap_seconds * rate),
            epoch=after.epoch if after else 0,
            skip=after.number + 1 if after else 0,
        )
        while True:
            some = list(islice(rows, data.rows_per_batch))
            last = some[-1]
            number = hash((speech.reader, last.epoch, last.number)) & 0x7FFFFFFF
            position = StreamPosition(speech.reader, last.epoch, last.number)
            yield self.preparer.prepare(self._batch(some), number)._replace(position=position)

    def _batch(self, rows: list[StreamedRow]) -> Batch:
        pieces = [torch.from_numpy(row.samples_S).float() / INT16_SCALE for row in rows]
        targets = [
            joined([self.tokenizer.encode(text) for text in row.texts], self.tokenizer.separator)
            for row in rows
        ]
        names = [" + ".join(repr(text) for text in row.texts) for row in rows]
        pcm_BS = torch.nn.utils.rnn.pad_sequence(pieces, batch_first=True)
        return batch_of(pcm_BS, [len(piece) for piece in pieces], targets, names)


def streamed_batches(
    config: TrainConfig,
    tokenizer: Tokenizer,
    *,
    sources: AugmentationSources,
    share: Share,
    positions: Mapping[int, StreamPosition],
    device: torch.device,
) -> Iterator[Prepared]:
    """Batches of speech read from tar shards, without end, on ``device``.

    Args:
        positions: of every reader, the position of its last batch that was trained on; empty begins anew.
    """
    dataset = _Streamed(config, tokenizer, sources, share, positions)
    options: dict[str, Any] = {}
    if config.data.workers:
        options = {"num_workers": config.data.workers, "prefetch_factor": _PREFETCH_BATCHES}
    loader: DataLoader[Prepared] = DataLoader(
        dataset, batch_size=None, pin_memory=device.type == "cuda", **options
    )
    return (prepared.to(device) for prepared in loader)
