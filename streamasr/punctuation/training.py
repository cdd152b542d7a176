"""Train a punctuation model on written text.

Shape suffixes: B streams side by side, T tokens of a step, W tokens of a step with its look-ahead and left context.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from streamasr.errors import ConfigError
from streamasr.punctuation.base import MARKS
from streamasr.punctuation.corpus import (
    Corpus,
    TokenStream,
    build_corpora,
    build_vocabulary,
    feature_table,
    read_lines,
    token_stream,
)
from streamasr.punctuation.features import UNKNOWN_ROW
from streamasr.punctuation.labels import OPEN, Casing
from streamasr.punctuation.model_file import StoredModel, save_model
from streamasr.punctuation.network import PunctuationNetwork
from streamasr.punctuation.sizes import NetworkConfig
from streamasr.recurrent.average import moving_average

Array = NDArray[Any]

ALWAYS_KNOWN = 1_000
"""The most frequent words, which keep their own rows in every step of the training."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Settings of a training run."""

    language: str = "en"
    epochs: int = 6
    minutes: float = 60.0
    """The run ends after this long, or after ``epochs``. The learning rate falls to zero by then."""
    learning_rate: float = 4e-3
    streams: int = 64
    """Streams side by side."""
    tokens: int = 64
    """Tokens of each stream in a step; gradients go no further back."""
    dropout: float = 0.15
    average_decay: float = 0.999
    """Of the moving average of the weights, a step; the average is the result."""
    unknown_share: float = 0.15
    """Share of the rarer words that a step treats as unknown, so that names in no training text are learnt."""
    seed: int = 0
    threads: int = 2

    def __post_init__(self) -> None:
        for name in ("epochs", "minutes", "learning_rate", "streams", "tokens", "threads"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name} must be positive, got {getattr(self, name)}")
        for name in ("unknown_share", "dropout", "average_decay"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 0 and below 1, got {getattr(self, name)}")


class TrainingProgress(NamedTuple):
    """Where a run is."""

    share: float
    """Of the whole run, 0 to 1."""
    step: int
    words_per_second: float
    loss: float
    validation: dict[str, float] | None
    """F1 of marks and capitals on the held-out lines, after a validation."""


@dataclass
class _Batch:
    embedded_ids: Tensor
    ids_BW: Tensor
    pauses_BW: Tensor
    marks_BT: Tensor
    casings_BT: Tensor


def train(
    texts: list[Path],
    out: Path,
    config: TrainConfig = TrainConfig(),
    network_config: NetworkConfig = NetworkConfig(),  # noqa: B008
    *,
    report: Callable[[TrainingProgress], None] = lambda _: None,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Train on written lines, and write the model to ``out``, at every validation and at the end.

    One line in fifty is held out; on these, the offsets of the scores are set at the end so that F1 is largest.

    Raises:
        ConfigError: a setting is out of range.
        DataError: a text cannot be read or used.
    """
    corpora = build_corpora(read_lines(texts), config.language)
    train_on(corpora, out, config, network_config, report=report, clock=clock)


def train_on(
    corpora: tuple[Corpus, Corpus, dict[str, str]],
    out: Path,
    config: TrainConfig,
    network_config: NetworkConfig,
    *,
    report: Callable[[TrainingProgress], None] = lambda _: None,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Train on labelled lines, from :func:`streamasr.punctuation.corpus.build_corpora`; see :func:`train`."""
    torch.manual_seed(config.seed)
    torch.set_num_threads(config.threads)
    rng = np.random.default_rng(config.seed)
    corpus, held_out, mixed = corpora
    vocabulary = build_vocabulary(corpus, network_config.word_rows)
    features = torch.from_numpy(
        feature_table(corpus.words, vocabulary, network_config.word_rows, network_config.ngram_rows)
    )
    network = PunctuationNetwork(network_config, config.dropout)
    average = moving_average(network, config.average_decay)
    averaged = average.module
    assert isinstance(averaged, PunctuationNetwork)
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=config.learning_rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True
    )
    began, step, epoch_steps, losses = clock(), 0, 1, 0.0
    share, words = 0.0, 0
    for _ in range(config.epochs):
        stream = token_stream(corpus, network_config.look_ahead, rng)
        carries = [torch.zeros(config.streams, network_config.hidden) for _ in range(network_config.layers)]
        network.train()
        epoch_steps = max(1, len(stream.ids) // config.streams // config.tokens)
        for batch in _batches(stream, config.streams, config.tokens, network_config, len(corpus.words)):
            share = max(
                step / (config.epochs * epoch_steps),
                (clock() - began) / (60 * config.minutes),
            )
            if share >= 1:
                break
            for group in optimizer.param_groups:
                group["lr"] = config.learning_rate * min(1.0, (step + 1) / 100) * max(0.01, 1 - share)
            batch_features = _forget_words(features[batch.embedded_ids], network_config, config.unknown_share)
            loss, carries = _loss(network, batch_features, batch, carries)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            average.update_parameters(network)
            step += 1
            words += batch.marks_BT.numel()
            losses = 0.98 * losses + 0.02 * float(loss.detach()) if step > 1 else float(loss.detach())
            if step % 20 == 0:
                report(TrainingProgress(share, step, words / (clock() - began), losses, None))
        offsets, scores = validate(averaged, features, held_out, network_config)
        weights = weights_of(averaged, offsets)
        save_model(out, StoredModel(network_config, config.language, mixed, vocabulary, weights))
        report(TrainingProgress(share, step, words / (clock() - began), losses, scores))
        if share >= 1:
            break


def weights_of(network: PunctuationNetwork, offsets: tuple[Array, Array]) -> dict[str, Array]:
    """Return the network's weights by name, with the offsets added to the outputs' biases."""
    weights = {name: value.detach().numpy().copy() for name, value in network.state_dict().items()}
    weights["marks.bias"] += offsets[0]
    weights["casings.bias"] += offsets[1]
    return weights


def _forget_words(features_UF: Tensor, config: NetworkConfig, share: float) -> Tensor:
    """Give a share of the rarer words the row of unknown words."""
    rows = features_UF[:, 0]
    rare = (rows > ALWAYS_KNOWN) & (rows < config.word_rows)
    forgotten = rare & (torch.rand(len(rows)) < share)
    return torch.cat((rows.masked_fill(forgotten, UNKNOWN_ROW)[:, None], features_UF[:, 1:]), dim=1)


def _loss(
    network: PunctuationNetwork, features_UF: Tensor, batch: _Batch, carries: list[Tensor]
) -> tuple[Tensor, list[Tensor]]:
    with torch.autocast("cpu", torch.bfloat16):
        embedded = network.embed(features_UF)
        marks, casings, carries = network(embedded, batch.ids_BW, batch.pauses_BW, carries)
    loss = functional.cross_entropy(
        marks.float().flatten(0, 1), batch.marks_BT.flatten(), ignore_index=OPEN
    ) + functional.cross_entropy(casings.float().flatten(0, 1), batch.casings_BT.flatten(), ignore_index=OPEN)
    return loss, [carry.detach() for carry in carries]


def _batches(
    stream: TokenStream, streams: int, tokens: int, config: NetworkConfig, end_token: int
) -> Iterator[_Batch]:
    length = len(stream.ids) // streams
    rows = slice(0, length * streams)

    def laid_out(values: Array, filler: int) -> Array:
        side_by_side = values[rows].reshape(streams, length)
        padding = ((0, 0), (config.left, config.look_ahead))
        return np.pad(side_by_side, padding, constant_values=filler)

    ids, pauses = laid_out(stream.ids, end_token), laid_out(stream.pauses, 0)
    marks, casings = (values[rows].reshape(streams, length) for values in (stream.marks, stream.casings))
    for start in range(0, length, tokens):
        end = min(start + tokens, length)
        window = slice(start, end + config.left + config.look_ahead)
        unique, inverse = np.unique(ids[:, window], return_inverse=True)
        yield _Batch(
            torch.from_numpy(unique.astype(np.int64)),
            torch.from_numpy(inverse.reshape(streams, -1).astype(np.int64)),
            torch.from_numpy(pauses[:, window].astype(np.int64)),
            torch.from_numpy(marks[:, start:end].astype(np.int64)),
            torch.from_numpy(casings[:, start:end].astype(np.int64)),
        )


@torch.no_grad()
def validate(
    network: PunctuationNetwork, features: Tensor, held_out: Corpus, config: NetworkConfig
) -> tuple[tuple[Array, Array], dict[str, float]]:
    """Return offsets for the mark and case scores that make F1 largest on held-out lines, and F1 with them."""
    network.eval()
    stream = token_stream(held_out, config.look_ahead, np.random.default_rng(1))
    streams = min(64, len(stream.ids))
    carries = [torch.zeros(streams, config.hidden) for _ in range(config.layers)]
    collected: list[list[Array]] = [[], [], [], []]
    for batch in _batches(stream, streams, 256, config, len(held_out.words)):
        marks, casings, carries = network(
            network.embed(features[batch.embedded_ids]), batch.ids_BW, batch.pauses_BW, carries
        )
        for values, kept in zip((marks, batch.marks_BT, casings, batch.casings_BT), collected, strict=True):
            kept.append(values.reshape(-1, *values.shape[2:]).numpy())
    marks_N4, mark_labels, casings_N4, casing_labels = (np.concatenate(values) for values in collected)
    mark_offsets, mark_f1 = _best_offsets(marks_N4, mark_labels)
    casing_offsets, casing_f1 = _best_offsets(casings_N4, casing_labels)
    scores = {MARKS[index]: mark_f1[index] for index in range(1, len(MARKS))}
    scores["capitals"] = casing_f1[Casing.CAPITAL]
    return (mark_offsets, casing_offsets), scores


def _best_offsets(scores_NC: Array, labels: Array) -> tuple[Array, list[float]]:
    """Return an offset for each class, by coordinate search over the sum of the F1 of classes 1 to C - 1."""
    used = labels != OPEN
    scores_NC, labels = scores_NC[used], labels[used]
    offsets = np.zeros(scores_NC.shape[1], dtype=np.float32)
    for _ in range(2):
        for index in range(1, len(offsets)):
            grid = [(offset, offsets.copy()) for offset in np.arange(-1.0, 1.01, 0.1)]
            for offset, tried in grid:
                tried[index] = offset
            offsets = max(
                (tried for _, tried in grid), key=lambda tried: sum(_f1(scores_NC + tried, labels)[1:])
            )
    return offsets, _f1(scores_NC + offsets, labels)


def _f1(scores_NC: Array, labels: Array) -> list[float]:
    classes = scores_NC.shape[1]
    best = scores_NC.argmax(1)
    table = np.bincount(labels * classes + best, minlength=classes**2).reshape(classes, classes)
    return [float(2 * table[c, c] / max(1, table[c].sum() + table[:, c].sum())) for c in range(classes)]
