"""Yield the batches of a run, from any position on, prepared in this process or ahead of time in workers.

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
from streamasr.training.data.batches.prepare import BatchPreparer, FeatureBatch, StreamPosition
from streamasr.training.data.batches.rows import (
    AudioBatch,
    BatchPlan,
    Row,
    RowBuilder,
    join_token_ids,
    make_batch,
)
from streamasr.training.data.shards.reading import ShardedSpeech
from streamasr.training.data.shards.rows import StreamedRow, stream_rows
from streamasr.training.tokenizer import Tokenizer

_PREFETCH_BATCHES = 4
Numbered = tuple[int, list[Row]]


@dataclass(frozen=True, slots=True)
class RankShare:
    """The batches of one rank: every ``world_size``-th batch from ``rank`` on, without the first ``done``."""

    rank: int = 0
    world_size: int = 1
    done: int = 0


class _PlannedBatches(Dataset[FeatureBatch]):
    """A dataset that prepares the requested batch; it runs in the worker processes."""

    def __init__(self, builder: RowBuilder, preparer: BatchPreparer) -> None:
        self.builder = builder
        self.preparer = preparer

    def __getitem__(self, numbered: Numbered) -> FeatureBatch:
        number, rows = numbered
        return self.preparer.prepare(self.builder.build(rows), number)


class _BatchSampler(Sampler[Numbered]):
    """A sampler of the numbers and rows of the batches of one rank."""

    def __init__(self, plan: BatchPlan, share: RankShare) -> None:
        self.plan = plan
        self.share = share

    def __iter__(self) -> Iterator[Numbered]:
        share = self.share
        first = share.done * share.world_size + share.rank
        for step, rows in enumerate(islice(self.plan.batches(first), None, None, share.world_size)):
            yield first + step * share.world_size, rows


def planned_batches(
    config: TrainConfig,
    plan: BatchPlan,
    builder: RowBuilder,
    *,
    sources: AugmentationSources,
    share: RankShare,
    device: torch.device,
) -> Iterator[FeatureBatch]:
    """Yield batches of a corpus in memory, without end, on ``device``.

    They are prepared on the builder's device, which must be the CPU if ``config.data.workers`` is not 0.
    """
    workers = config.data.workers
    preparer = BatchPreparer(config, sources, builder.device)
    dataset, sampler = _PlannedBatches(builder, preparer), _BatchSampler(plan, share)
    if not workers:
        return (dataset[numbered].to(device) for numbered in sampler)
    loader: DataLoader[FeatureBatch] = DataLoader(
        dataset,
        batch_size=None,
        sampler=sampler,
        num_workers=workers,
        prefetch_factor=_PREFETCH_BATCHES,
        pin_memory=device.type == "cuda",
    )
    return (batch.to(device) for batch in loader)


class _StreamedBatches(IterableDataset[FeatureBatch]):
    """A dataset that reads shards, concatenates rows and prepares batches; it runs in the worker processes."""

    def __init__(
        self,
        config: TrainConfig,
        tokenizer: Tokenizer,
        sources: AugmentationSources,
        share: RankShare,
        positions: Mapping[int, StreamPosition],
    ) -> None:
        self.config = config
        self.tokenizer = tokenizer
        self.share = share
        self.positions = positions
        self.preparer = BatchPreparer(config, sources, torch.device("cpu"))

    def __iter__(self) -> Iterator[FeatureBatch]:
        info = get_worker_info()
        workers = info.num_workers if info else 1
        # Workers yield batches in turn. After a resume, the worker whose turn it was goes first.
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
            why_unusable=self.tokenizer.why_unusable,
        )
        resume_after = self.positions.get(speech.reader)
        rows = stream_rows(
            speech,
            row_samples=round(data.row_seconds * rate),
            max_gap_samples=round(data.max_gap_seconds * rate),
            epoch=resume_after.epoch if resume_after else 0,
            skip=resume_after.number + 1 if resume_after else 0,
        )
        while True:
            rows_of_batch = list(islice(rows, data.rows_per_batch))
            last = rows_of_batch[-1]
            number = hash((speech.reader, last.epoch, last.number)) & 0x7FFFFFFF
            position = StreamPosition(speech.reader, last.epoch, last.number)
            yield self.preparer.prepare(self._batch(rows_of_batch), number)._replace(position=position)

    def _batch(self, rows: list[StreamedRow]) -> AudioBatch:
        pieces = [torch.from_numpy(row.samples_S).float() / INT16_SCALE for row in rows]
        targets = [
            join_token_ids([self.tokenizer.encode(text) for text in row.texts], self.tokenizer.separator)
            for row in rows
        ]
        names = [" + ".join(repr(text) for text in row.texts) for row in rows]
        pcm_BS = torch.nn.utils.rnn.pad_sequence(pieces, batch_first=True)
        return make_batch(pcm_BS, [len(piece) for piece in pieces], targets, names)


def streamed_batches(
    config: TrainConfig,
    tokenizer: Tokenizer,
    *,
    sources: AugmentationSources,
    share: RankShare,
    positions: Mapping[int, StreamPosition],
    device: torch.device,
) -> Iterator[FeatureBatch]:
    """Yield batches of speech read from tar shards, without end, on ``device``.

    Args:
        config: the recipe.
        tokenizer: the model's tokenizer.
        sources: the noises and rooms to augment with.
        share: the rank whose batches are yielded.
        positions: for each reader, the position of the last batch that was trained on; empty for a new run.
        device: device of the yielded batches. They are prepared on the CPU.
    """
    dataset = _StreamedBatches(config, tokenizer, sources, share, positions)
    options: dict[str, Any] = {}
    if config.data.workers:
        options = {"num_workers": config.data.workers, "prefetch_factor": _PREFETCH_BATCHES}
    loader: DataLoader[FeatureBatch] = DataLoader(
        dataset, batch_size=None, pin_memory=device.type == "cuda", **options
    )
    return (batch.to(device) for batch in loader)
