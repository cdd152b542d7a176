"""Compute the CTC-CRF loss (Xiang and Ou 2019): CTC whose texts are weighted by a language model.

CTC gives each text a probability as if its tokens were independent of each other. The beam search multiplies that by
a language model's. This loss is the negative log-probability of the transcript under that product, normalised over
all texts, so the encoder learns what the language model cannot know.
Shape suffixes: B rows, T encoder frames, V tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from streamasr.errors import DataError
from streamasr.lm.corpus import read_sentences
from streamasr.training import _native, losses
from streamasr.training.config import TrainConfig
from streamasr.training.token_ngram import TokenNgram, estimate_ngram
from streamasr.training.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Denominator:
    """The weights of texts in the sum over all texts."""

    order: int
    """Length of the n-grams."""
    blank: int
    weights: NDArray[np.float32]
    """The weight of each n-gram, in the order of ``TokenNgram.probs``; 0 if the last token is the blank."""
    prune: float
    """Histories less probable than this share of the best one of a frame are dropped."""

    @classmethod
    def of(cls, ngram: TokenNgram, *, lm_weight: float, prune: float) -> Denominator:
        """Return the denominator whose weights are the n-gram probabilities to the power of ``lm_weight``."""
        weights = np.where(ngram.probs > 0, ngram.probs**lm_weight, 0).astype(np.float32)
        return cls(ngram.order, ngram.blank, weights, prune)


class CrfLoss:
    """The loss with one n-gram model.

    Args:
        ngram: the language model of the denominator.
        lm_weight: exponent of the language model's probabilities.
        temperature: divisor of the log-probs, which are then normalised again.
        prune: see :class:`streamasr.training.config.CrfConfig`.
    """

    def __init__(self, ngram: TokenNgram, *, lm_weight: float, temperature: float, prune: float) -> None:
        self.ngram = ngram
        self.lm_weight = lm_weight
        self.temperature = temperature
        self._denominator = Denominator.of(ngram, lm_weight=lm_weight, prune=prune)

    def __call__(
        self,
        log_probs_BTV: Tensor,
        frames_B: Tensor,
        targets: Tensor,
        target_lengths_B: Tensor,
        *,
        transcribed_B: Tensor,
    ) -> Tensor:
        """Return the loss summed over the rows. Rows that cannot be aligned or have no transcript count as 0.

        Args:
            log_probs_BTV: natural-log token probabilities.
            frames_B: number of encoder frames in each row.
            targets: token ids of all rows, concatenated.
            target_lengths_B: number of tokens in each row.
            transcribed_B: false for rows without a transcript.

        Raises:
            ValueError: the lengths are inconsistent.
        """
        soft_BTV = (log_probs_BTV.float() / self.temperature).log_softmax(dim=-1)
        ctc_B = losses.ctc_rows(
            soft_BTV, frames_B, targets, target_lengths_B, self.ngram.blank, transcribed_B=transcribed_B
        )
        lm_B = ctc_B.new_tensor(
            [self.ngram.log_prob(ids.tolist()) for ids in targets.cpu().split(target_lengths_B.tolist())]
        )
        log_partition_B = log_partitions(soft_BTV, frames_B, self._denominator)
        # The losses of rows without a transcript or an alignment are 0, which no other row's can be.
        used_B = ctc_B.detach() > 0
        return torch.where(used_B, ctc_B - self.lm_weight * lm_B + log_partition_B, 0).sum()


def log_partitions(log_probs_BTV: Tensor, frames_B: Tensor, denominator: Denominator) -> Tensor:
    """Return, for each row, the natural log of the sum over all texts of ``P_CTC(text) * weight(text)``.

    Args:
        log_probs_BTV: natural-log token probabilities, float32.
        frames_B: number of encoder frames in each row; the frames after them are ignored.
        denominator: the weights of the texts.

    Returns:
        [B]; NaN for a row in which no text is possible.
    """
    sums_B: Tensor = _LogPartition.apply(log_probs_BTV, frames_B, denominator)  # type: ignore[no-untyped-call]
    return sums_B


class _LogPartition(torch.autograd.Function):
    """The forward pass computes the occupancies, too: they are the derivatives by the log-probs."""

    @staticmethod
    def forward(ctx: Any, log_probs_BTV: Tensor, frames_B: Tensor, denominator: Denominator) -> Tensor:
        """Compute the sums on the CPU."""
        values_BTV = log_probs_BTV.detach().cpu().contiguous().numpy()
        occupancies_BTV = np.zeros_like(values_BTV)
        sums = _native.log_partitions(
            values_BTV,
            frames_B.tolist(),
            denominator.weights,
            denominator.order,
            denominator.blank,
            denominator.prune,
            occupancies_BTV,
            torch.get_num_threads(),
        )
        ctx.save_for_backward(torch.from_numpy(occupancies_BTV).to(log_probs_BTV.device))
        return log_probs_BTV.new_tensor(sums)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Scale the occupancies."""
        (occupancies_BTV,) = ctx.saved_tensors
        return occupancies_BTV * gradients[0][:, None, None], None, None


def build_crf(config: TrainConfig, tokenizer: Tokenizer) -> CrfLoss:
    """Estimate the language model of a recipe's ``[crf]`` and return its loss.

    Raises:
        ConfigError: the order is too long for the number of tokens, or there are neither manifests nor texts.
        DataError: a text cannot be read, or the tokens can spell none of it.
    """
    tokens = tokenizer.tokens
    ngram = estimate_ngram(
        _token_ids(config, tokenizer), order=config.crf.order, tokens=len(tokens), blank=tokens.blank
    )
    return CrfLoss(
        ngram,
        lm_weight=config.crf.lm_weight,
        temperature=config.crf.temperature,
        prune=config.crf.prune,
    )


def _token_ids(config: TrainConfig, tokenizer: Tokenizer) -> Iterator[list[int]]:
    """Yield the token ids of each sentence; those that the tokens cannot spell are left out."""
    # In rows, a separator stands between two utterances, too.
    separator = [] if tokenizer.separator is None else [tokenizer.separator]
    spellings: dict[str, list[int] | None] = {}
    for path in config.crf.text or config.data.manifests:
        for sentence in read_sentences(path, config.language):
            ids: list[int] = []
            for word in sentence.split():
                if word not in spellings:
                    spellings[word] = _spell(tokenizer, word)
                spelling = spellings[word]
                if spelling is None:
                    break
                ids += spelling + separator
            else:
                yield ids


def _spell(tokenizer: Tokenizer, word: str) -> list[int] | None:
    try:
        return tokenizer.encode(word)
    except DataError:
        return None
