"""Load a recipe's speech: training batches, in order, and the dev sets to measure the model on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import torch

from streamasr.manifest import Utterance, manifest_names, read_manifest
from streamasr.training.config import TrainConfig
from streamasr.training.data.audio.corpus import AudioCorpus, load_corpus
from streamasr.training.data.augmentation.sources import load_augmentation_sources
from streamasr.training.data.batches.loader import RankShare, planned_batches, streamed_batches
from streamasr.training.data.batches.prepare import FeatureBatch, StreamPosition
from streamasr.training.data.batches.rows import BatchPlan, BucketPlan, RowBuilder, RowPlan
from streamasr.training.dev_set import DevSet
from streamasr.training.distributed import ProcessGroup
from streamasr.training.monitoring.events import Observer, PreparationProgress
from streamasr.training.tokenizer import Tokenizer
from streamasr.training.transcripts import Transcripts, dev_transcripts, training_transcripts


class SpeechData:
    """The training and dev speech of a run.

    Args:
        config: the recipe.
        folder: the run's folder; it holds the decoded audio unless the recipe names another cache.
        tokenizer: the model's tokenizer.
        group: the processes that share the speech. The first one decodes it; the others wait, then map its files.
        observer: called with the progress of decoding and of simulating rooms.
        workers: processes that decode; by default one for each CPU that this process may use.

    Raises:
        DataError: a manifest, transcript or audio file cannot be used; the message names it.
    """

    def __init__(
        self,
        config: TrainConfig,
        folder: Path,
        tokenizer: Tokenizer,
        group: ProcessGroup,
        *,
        observer: Observer | None = None,
        workers: int | None = None,
    ) -> None:
        self.config = config
        self.tokenizer = tokenizer
        self.group = group
        self.cache = config.data.cache or folder / "cache"
        self.transcripts: list[tuple[str, Transcripts]] = []
        """The transcripts with the name of their set: ``training``, or a dev manifest's name."""
        self._observer = observer
        self._workers = workers
        if not group.is_first:
            group.barrier()
        self._load_all()
        if group.is_first:
            group.barrier()

    def _load_all(self) -> None:
        config, data = self.config, self.config.data
        if data.manifests:
            # Transcripts are checked first, so that errors in them are reported before minutes of decoding.
            transcribed = training_transcripts(data.manifests, self.tokenizer, data.unusable_share)
            self.transcripts.append(("training", transcribed))
        # Reports are kept by name, so two manifests must not share one.
        dev_manifests = list(dict.fromkeys(data.dev_manifests))
        dev = [
            (name, dev_transcripts(path, self.tokenizer))
            for name, path in zip(manifest_names(dev_manifests), dev_manifests, strict=True)
        ]
        self.transcripts += dev
        if data.manifests:
            untranscribed = [each for path in data.untranscribed_manifests for each in read_manifest(path)]
            corpus = self._load("speech", [*transcribed.utterances, *untranscribed], clean=data.denoise)
            device = self.group.device if data.workers == 0 else torch.device("cpu")
            token_ids = [*transcribed.token_ids, *[None] * len(untranscribed)]
            self.builder = RowBuilder(corpus, token_ids, self.tokenizer.separator, device)
            self.plan = _plan(config, corpus, len(untranscribed))
        self.dev = [
            DevSet(
                name,
                self._load(name, transcripts.utterances),
                config,
                self.tokenizer,
                token_ids=transcripts.token_ids,
                group=self.group,
            )
            for name, transcripts in dev
        ]
        self.sources = load_augmentation_sources(
            config, self.cache, self._progress("noises and rooms"), workers=self._workers
        )

    def _load(self, what: str, utterances: Sequence[Utterance], *, clean: bool = False) -> AudioCorpus:
        return load_corpus(
            utterances,
            self.cache,
            self.config.frontend.sample_rate,
            clean=clean,
            workers=self._workers,
            progress=self._progress(what),
        )

    def _progress(self, what: str) -> Callable[..., None]:
        def progress(done: int, total: int, hours: float = 0.0) -> None:
            if self._observer is not None:
                self._observer(PreparationProgress(what=what, done=done, total=total, hours=hours))

        return progress

    def batches(self, done: int, positions: Mapping[int, StreamPosition]) -> Iterator[FeatureBatch]:
        """Yield the batches of this process, without end.

        Args:
            done: number of batches that this process was trained on before.
            positions: positions of the shard readers at that point; empty for a new run.
        """
        share = RankShare(self.group.rank, self.group.size, done)
        if self.config.data.shards:
            return streamed_batches(
                self.config,
                self.tokenizer,
                sources=self.sources,
                share=share,
                positions=positions,
                device=self.group.device,
            )
        return planned_batches(
            self.config,
            self.plan,
            self.builder,
            sources=self.sources,
            share=share,
            device=self.group.device,
        )


def _plan(config: TrainConfig, corpus: AudioCorpus, untranscribed: int) -> BatchPlan:
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
