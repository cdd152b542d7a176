"""Train a neural language model on text.

The softmax over all words would take most of the time. A step compares each next word with a few thousand others that
are drawn for the whole step, and corrects for how often each is drawn (Bengio and Senécal 2008, "Adaptive Importance
Sampling"; Jean et al. 2015, equation 12). The moving average of the weights is the result.

Shape suffixes: B streams side by side, T words of a step, D size of an embedding, K drawn words.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from streamasr.decoding.neural_lm import (
    END,
    FIRST_WORD,
    UNKNOWN,
    NeuralLanguageModel,
    NeuralLmConfig,
    StoredNeuralLm,
    save_neural_lm,
)
from streamasr.errors import ConfigError, DataError
from streamasr.lm.neural_network import NeuralLmNetwork
from streamasr.lm.neural_perplexity import neural_perplexity
from streamasr.recurrent.average import moving_average
from streamasr.recurrent.weights_file import make_folder

Rows = NDArray[np.int64]

SENTENCES_TOGETHER = 100
"""So many sentences stay in the order of the text, so that the network learns to use the ones before."""
HELD_OUT_SHARE = 100
"""One block of sentences in so many is held out, to report its perplexity."""
HELD_OUT_BLOCKS = 20
"""Held-out blocks at most."""
_DRAWN_POWER = 0.75
_WARM_UP_STEPS = 200
_LAST_RATE = 0.01
SAVE_MINUTES = 5.0
"""The model is written so often, and at the end: a run that is stopped leaves its last state."""


@dataclass(frozen=True, kw_only=True)
class NeuralTrainConfig:
    """Settings of a training run."""

    minutes: float = 60.0
    """The run ends after this long. The learning rate falls to zero by then."""
    learning_rate: float = 3e-3
    streams: int = 96
    """Streams side by side."""
    words: int = 48
    """Words of each stream in a step; gradients go no further back."""
    drawn_words: int = 2_048
    """Words that each next word is compared with."""
    dropout: float = 0.1
    average_decay: float = 0.999
    """Of the moving average of the weights, a step."""
    seed: int = 0
    threads: int = 2

    def __post_init__(self) -> None:
        for name in ("minutes", "learning_rate", "streams", "words", "drawn_words", "threads"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name} must be positive, got {getattr(self, name)}")
        for name in ("dropout", "average_decay"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 0 and below 1, got {getattr(self, name)}")


class NeuralTrainingProgress(NamedTuple):
    """Where a run is."""

    share: float
    """Of the whole run, 0 to 1."""
    step: int
    words_per_second: float
    loss: float
    """Of the drawn words, nats a word: it falls below the loss over all words."""


class NeuralCorpus(NamedTuple):
    """Text as rows of the table, in blocks of sentences that each end with :data:`END`."""

    vocabulary: tuple[str, ...]
    blocks: tuple[Rows, ...]
    held_out: tuple[tuple[str, ...], ...]
    """The sentences of each held-out block."""
    unknown_words: int
    """Different words that are not in the vocabulary."""


def build_neural_corpus(
    sentences: Iterable[str], words: int, vocabulary: tuple[str, ...] | None = None
) -> NeuralCorpus:
    """Return the text as rows.

    Args:
        sentences: the text, normalised.
        words: rows of the table, at most.
        vocabulary: the words with rows of their own; the most frequent ones of the text if ``None``.

    Raises:
        DataError: the text is too short.
    """
    blocks = list(_blocks(sentences))
    if len(blocks) < 2:
        raise DataError(f"the text is too short: expected more than {SENTENCES_TOGETHER} sentences")
    held_out = tuple(blocks[HELD_OUT_SHARE // 2 :: HELD_OUT_SHARE][:HELD_OUT_BLOCKS]) or (blocks[-1],)
    kept = [block for block in blocks if block not in held_out]
    counts = Counter(word for block in kept for sentence in block for word in sentence.split())
    ordered = sorted(counts, key=lambda word: (-counts[word], word))
    if vocabulary is None:
        vocabulary = tuple(ordered[: words - FIRST_WORD])
    row_of = {word: row for row, word in enumerate(vocabulary, start=FIRST_WORD)}
    rows = tuple(
        np.array(
            [
                row
                for sentence in block
                for row in (*(row_of.get(word, UNKNOWN) for word in sentence.split()), END)
            ],
            dtype=np.int64,
        )
        for block in kept
    )
    unknown_words = sum(word not in row_of for word in ordered)
    return NeuralCorpus(vocabulary, rows, held_out, max(1, unknown_words))


def _blocks(sentences: Iterable[str]) -> Iterator[tuple[str, ...]]:
    block: list[str] = []
    for sentence in sentences:
        block.append(sentence)
        if len(block) == SENTENCES_TOGETHER:
            yield tuple(block)
            block = []
    if block:
        yield tuple(block)


def train_neural_lm(
    sentences: Iterable[str],
    out: Path,
    config: NeuralTrainConfig = NeuralTrainConfig(),
    network_config: NeuralLmConfig = NeuralLmConfig(),  # noqa: B008
    *,
    start: StoredNeuralLm | None = None,
    report: Callable[[NeuralTrainingProgress], None] = lambda _: None,
    clock: Callable[[], float] = time.monotonic,
) -> float:
    """Train on normalised sentences in their order, write the model to ``out``, and return its perplexity.

    The model is also written every :data:`SAVE_MINUTES`.
    The perplexity is that of the written model on held-out sentences, their ends included.

    Args:
        sentences: the text.
        out: the file to write.
        config: settings of the run.
        network_config: sizes of the network; those of ``start`` count if it is given.
        start: a model to begin with. Its vocabulary stays; words that are not in it stay unknown.
        report: called every few steps.
        clock: seconds.

    Raises:
        ConfigError: a setting is out of range, or the file cannot be written.
        DataError: the text is too short.
    """
    make_folder(out.parent)
    if start is None:
        corpus = build_neural_corpus(sentences, network_config.words)
        network_config = replace(
            network_config, words=FIRST_WORD + len(corpus.vocabulary), unknown_words=corpus.unknown_words
        )
    else:
        network_config = start.config
        corpus = build_neural_corpus(sentences, network_config.words, start.vocabulary)
    torch.manual_seed(config.seed)
    torch.set_num_threads(config.threads)
    network = NeuralLmNetwork(network_config, config.dropout)
    sampler = _WordSampler(corpus.blocks, network_config.words, config)
    if start is None:
        with torch.no_grad():
            network.table_bias.copy_(sampler.log_frequencies)
    else:
        network.load_state_dict({name: torch.from_numpy(value) for name, value in start.weights.items()})
    average = moving_average(network, config.average_decay)
    matrices = [each for each in network.parameters() if each.ndim == 2]
    vectors = [each for each in network.parameters() if each.ndim != 2]
    groups: list[dict[str, Any]] = [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(
        groups,
        lr=config.learning_rate,
        betas=(0.9, 0.98),
        fused=True,
    )
    averaged = average.module
    assert isinstance(averaged, NeuralLmNetwork)
    began, words, loss = clock(), 0, math.nan
    saved = began
    carries = network.initial_carries(config.streams)
    network.train()
    for step, rows_BW in enumerate(_batches(corpus.blocks, config)):
        share = (clock() - began) / (60 * config.minutes)
        if share >= 1:
            break
        for group in optimizer.param_groups:
            warm_up = min(1.0, (step + 1) / _WARM_UP_STEPS)
            group["lr"] = config.learning_rate * warm_up * max(_LAST_RATE, 1 - share)
        step_loss, carries = _loss(network, rows_BW, carries, sampler)
        optimizer.zero_grad(set_to_none=True)
        step_loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        average.update_parameters(network)
        if clock() - saved >= 60 * SAVE_MINUTES:
            save_neural_lm(out, stored_from(averaged, corpus.vocabulary))
            saved = clock()
        words += config.streams * config.words
        newest = float(step_loss.detach())
        loss = newest if math.isnan(loss) else 0.98 * loss + 0.02 * newest
        if step % 20 == 0:
            report(NeuralTrainingProgress(share, step, words / max(1e-9, clock() - began), loss))
    save_neural_lm(out, stored_from(averaged, corpus.vocabulary))
    return neural_perplexity(NeuralLanguageModel.load(out), corpus.held_out).perplexity


def stored_from(network: NeuralLmNetwork, vocabulary: tuple[str, ...]) -> StoredNeuralLm:
    """Return what :func:`streamasr.decoding.neural_lm.save_neural_lm` writes of a network."""
    weights = {name: value.detach().numpy() for name, value in network.state_dict().items()}
    return StoredNeuralLm(network.config, vocabulary, weights)


def _batches(blocks: Sequence[Rows], config: NeuralTrainConfig) -> Iterator[Tensor]:
    """Yield rows [B, 1 + T + 1] without end: a step's words with the one before and the one after them."""
    rng = np.random.default_rng(config.seed)
    while True:
        rows = np.concatenate([blocks[at] for at in rng.permutation(len(blocks))])
        length = len(rows) // config.streams
        if length < config.words + 2:
            raise DataError(
                f"the text is too short: expected at least {config.streams * (config.words + 2)} words, "
                f"got {len(rows)}"
            )
        side_by_side = torch.from_numpy(rows[: length * config.streams].reshape(config.streams, length))
        for start in range(0, length - config.words - 1, config.words):
            yield side_by_side[:, start : start + config.words + 2]


class _WordSampler:
    """Draws the words of a step, by their frequency to the power of 0.75 (Mikolov et al. 2013)."""

    def __init__(self, blocks: Sequence[Rows], words: int, config: NeuralTrainConfig) -> None:
        counts = np.zeros(words)
        for block in blocks:
            counts += np.bincount(block, minlength=words)
        self.log_frequencies = torch.from_numpy(np.log((counts + 1) / (counts + 1).sum())).float()
        drawn = (counts + 1) ** _DRAWN_POWER
        self._cumulative = np.cumsum(drawn / drawn.sum())
        self._count = config.drawn_words
        self._rng = np.random.default_rng(config.seed)
        self.log_expected = torch.from_numpy(np.log(drawn / drawn.sum() * config.drawn_words)).float()
        """Log of how often each word is expected among those drawn."""

    def draw(self) -> Tensor:
        """Return the rows [K] of a step's words."""
        rows = np.searchsorted(self._cumulative, self._rng.random(self._count))
        return torch.from_numpy(rows).clamp(max=len(self._cumulative) - 1)


def _loss(
    network: NeuralLmNetwork, rows_BW: Tensor, carries: list[Tensor], sampler: _WordSampler
) -> tuple[Tensor, list[Tensor]]:
    """Return the mean negative log-prob of the next words among those drawn, and the new carries."""
    next_N, drawn_K = rows_BW[:, 2:].flatten(), sampler.draw()
    with torch.autocast("cpu", torch.bfloat16):
        expected, carries = network(rows_BW[:, :-1], carries)
        expected_ND = expected.flatten(0, 1)
        drawn_NK = expected_ND @ network.table[drawn_K].T
    correction = network.table_bias - sampler.log_expected
    right_N = (expected_ND.float() * network.table[next_N]).sum(-1) + correction[next_N]
    drawn_NK = (drawn_NK.float() + correction[drawn_K]).masked_fill(drawn_K == next_N[:, None], -torch.inf)
    losses_N = torch.logsumexp(torch.cat((right_N[:, None], drawn_NK), dim=1), dim=1) - right_N
    return losses_N.mean(), [carry.detach() for carry in carries]
