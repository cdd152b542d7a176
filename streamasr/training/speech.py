"""A recipe's speech, opened: what is heard in training, in which order, and what is measured on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch

from streamasr.manifest import read_manifest
from streamasr.training.config import TrainConfig
from streamasr.training.data.corpus import Corpus, load_corpus
from streamasr.training.data.loader import Share, planned_batches, streamed_batches
from streamasr.training.data.prepare import Prepared, StreamPosition
from streamasr.training.data.rows import BucketPlan, Plan, RowBuilder, RowPlan
from streamasr.training.data.surroundings import load_surroundings
from streamasr.training.dev import DevSet
from streamasr.training.distributed import World
from streamasr.training.tokenizer import Tokenizer


class Speech:
    """Everything that a run hears.

    Args:
        config: the recipe.
        folder: the run's; decoded sound is kept in it unless the recipe names another place.
        tokenizer: of the model.
        world: the processes that share the speech. The first decodes it, the others wait and map what it decoded.

    Raises:
        DataError: something in the data cannot be used; the message names it.
    """

    def __init__(self, config: TrainConfig, folder: Path, tokenizer: Tokenizer, world: World) -> None:
        self.config = config
        self.tokenizer = tokenizer
        self.world = world
        self.cache = config.data.cache or folder / "cache"
        if not world.is_first:
            world.wait()
        self._open()
        if world.is_first:
            world.wait()

    def _open(self) -> None:
        config, data = self.config, self.config.data
        rate = config.frontend.sample_rate
        if data.manifests:
            untranscribed = sum(len(read_manifest(path)) for path in data.untranscribed_manifests)
            manifests = (*data.manifests, *data.untranscribed_manifests)
            corpus = load_corpus(manifests, self.cache, rate, clean=data.denoise)
            texts = corpus.texts[: len(corpus) - untranscribed]
            token_ids = [*map(self.tokenizer.encode, texts), *[None] * untranscribed]
            on = self.world.device if data.workers == 0 else torch.device("cpu")
            self.builder = RowBuilder(corpus, token_ids, self.tokenizer.separator, on)
            self.plan = _plan(config, corpus, untranscribed)
        self.dev = [
            DevSet(_name(path), load_corpus([path], self.cache, rate), config, self.tokenizer, self.world)
            for path in data.dev_manifests
        ]
        self.surroundings = load_surroundings(config, self.cache)

    def batches(self, done: int, positions: Mapping[int, StreamPosition]) -> Iterator[Prepared]:
        """This process's batches, without end.

        Args:
            done: batches that it was trained on before.
            positions: where the readers of shards were then.
        """
        share = Share(self.world.rank, self.world.size, done)
        if self.config.data.shards:
            return streamed_batches(
                self.config,
                self.tokenizer,
                surroundings=self.surroundings,
                share=share,
                positions=positions,
                device=self.world.device,
            )
        return planned_batches(
            self.config,
            self.plan,
            self.builder,
            surroundings=self.surroundings,
            share=share,
            device=self.world.device,
        )


def _plan(config: TrainConfig, corpus: Corpus, untranscribed: int) -> Plan:
    data, rate = config.data, config.frontend.sample_rate
    if data.batching == "buckets":
        return BucketPlan(corpus.lengths, round(data.batch_seconds * rate), config.seed)
    return RowPlan(
        corpus.lengths,
        row_samples=round(data.row_seconds * rate),
        max_gap_samples=round(data.max_gap_seconds * rate),
        rows_per_batch=data.rows_per_batch,
        seed=config.seed,
        untranscribed=untranscribed,
    )


def _name(manifest: Path) -> str:
    """What a dev manifest is called in reports: ``dev-l2`` of ``dev-l2/manifest.jsonl``."""
    return manifest.parent.name if manifest.stem == "manifest" else manifest.stem
