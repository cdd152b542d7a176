"""Prune a back-off model by relative entropy: remove the n-grams whose removal changes the model least.

A. Stolcke, "Entropy-based pruning of backoff language models", DARPA Broadcast News Transcription and
Understanding Workshop (1998), equations 1–7. The probability of a history is its relative frequency in the text, not
the model's probability, because Kneser-Ney's lower orders estimate it badly (C. Chelba, T. Brants, W. Neveitt, P. Xu,
"Study on interaction between entropy pruning and Kneser-Ney smoothing", Interspeech 2010).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from streamasr.errors import DataError
from streamasr.lm.kneser_ney import BackoffModel, BackoffOrder, Floats
from streamasr.lm.ngrams import NgramTable

Mask = NDArray[np.bool_]

_SEARCH_STEPS = 30
_SMALLEST_THRESHOLD, _LARGEST_THRESHOLD = 1e-14, 1e-2


def entropy_scores(model: BackoffModel) -> list[Floats]:
    """Return for each n-gram the relative entropy, in nats per word, between the model and the model without it.

    Unigrams are never removed; their scores are infinite.
    """
    scores = [np.full(len(model.orders[0]), np.inf)]
    for k, (below, order) in enumerate(pairwise(model.orders), start=1):
        history = order.table.prefix
        p, q = order.prob, below.prob[order.table.suffix]
        leftover, leftover_below = model.leftover_mass(k)
        alpha = leftover / leftover_below
        new_alpha = (leftover[history] + p) / (leftover_below[history] + q)
        loss = p * (np.log(p) - np.log(q) - np.log(new_alpha))
        loss -= leftover[history] * (np.log(new_alpha) - np.log(alpha[history]))
        scores.append(loss * below.frequency[history])
    return scores


def select_ngrams(model: BackoffModel, scores: Sequence[Floats], threshold: float) -> list[Mask]:
    """Select the n-grams with a score of at least ``threshold``, and the prefixes and suffixes of these.

    Returns:
        One boolean mask per order, true for n-grams to keep.
    """
    kept = [score >= threshold for score in scores]
    for order, mask, below in zip(model.orders[:0:-1], kept[:0:-1], kept[-2::-1], strict=True):
        below[order.table.prefix[mask]] = True
        below[order.table.suffix[mask]] = True
    return kept


def threshold_for_size(
    model: BackoffModel, scores: Sequence[Floats], file_size: Callable[[Sequence[int]], int], max_bytes: int
) -> float:
    """Find the smallest threshold for which the pruned model fits into ``max_bytes``.

    Args:
        model: the model to prune.
        scores: the scores of its n-grams.
        file_size: returns the size of a model in bytes, given its number of n-grams in each order.
        max_bytes: the largest size.

    Raises:
        DataError: the unigrams alone do not fit.
    """

    def fits(threshold: float) -> bool:
        return file_size([int(mask.sum()) for mask in select_ngrams(model, scores, threshold)]) <= max_bytes

    if fits(0.0):
        return 0.0
    low, high = np.log(_SMALLEST_THRESHOLD), np.log(_LARGEST_THRESHOLD)
    if not fits(float(np.exp(high))):
        raise DataError(
            f"a vocabulary of {len(model.words)} words does not fit into {max_bytes / 1e6:g} MB; "
            "allow more megabytes or fewer words"
        )
    for _ in range(_SEARCH_STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if fits(float(np.exp(middle))) else (middle, high)
    return float(np.exp(high))


def prune(model: BackoffModel, kept: Sequence[Mask]) -> BackoffModel:
    """Return the model with only the ``kept`` n-grams, whose probabilities do not change."""
    orders: list[BackoffOrder] = []
    new_row = np.zeros(1, dtype=np.int64)
    for order, mask in zip(model.orders, kept, strict=True):
        table = order.table
        pruned = NgramTable(
            prefix=new_row[table.prefix[mask]],
            suffix=new_row[table.suffix[mask]],
            word=table.word[mask],
            first=table.first[mask],
            count=table.count[:, mask],
        )
        new_row = np.cumsum(mask) - 1
        orders.append(BackoffOrder(pruned, order.prob[mask], order.frequency[mask]))
    return BackoffModel(model.words, tuple(orders))
