"""Relative-entropy pruning: leave out the n-grams whose loss changes the model least.

A. Stolcke, "Entropy-based pruning of backoff language models", DARPA Broadcast News Transcription and
Understanding Workshop (1998), equations 1–7. The probability of a history is its relative frequency in the
text and not the model's own: Kneser-Ney's lower orders are poor estimates of it (C. Chelba, T. Brants,
W. Neveitt, P. Xu, "Study on interaction between entropy pruning and Kneser-Ney smoothing", Interspeech 2010).
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
    """For every n-gram, the relative entropy (nats a word) between the model and the model without it.

    Unigrams are never left out; their scores are infinite.
    """
    scores = [np.full(len(model.orders[0]), np.inf)]
    for k, (below, order) in enumerate(pairwise(model.orders), start=1):
        history = order.table.prefix
        p, q = order.prob, below.prob[order.table.suffix]
        unlisted, unlisted_below = model.unlisted_mass(k)
        alpha = unlisted / unlisted_below
        new_alpha = (unlisted[history] + p) / (unlisted_below[history] + q)
        loss = p * (np.log(p) - np.log(q) - np.log(new_alpha))
        loss -= unlisted[history] * (np.log(new_alpha) - np.log(alpha[history]))
        scores.append(loss * below.share[history])
    return scores


def choose(model: BackoffModel, scores: Sequence[Floats], threshold: float) -> list[Mask]:
    """Which n-grams to keep: those scoring ``threshold`` or more, and the prefixes and suffixes of those."""
    kept = [score >= threshold for score in scores]
    for order, mask, below in zip(model.orders[:0:-1], kept[:0:-1], kept[-2::-1], strict=True):
        below[order.table.prefix[mask]] = True
        below[order.table.suffix[mask]] = True
    return kept


def threshold_for_size(
    model: BackoffModel, scores: Sequence[Floats], size_of: Callable[[Sequence[int]], int], max_bytes: int
) -> float:
    """The smallest threshold whose model fits ``max_bytes``, by ``size_of`` its n-grams in each order.

    Raises:
        DataError: the unigrams alone do not fit.
    """

    def fits(threshold: float) -> bool:
        return size_of([int(mask.sum()) for mask in choose(model, scores, threshold)]) <= max_bytes

    if fits(0.0):
        return 0.0
    low, high = np.log(_SMALLEST_THRESHOLD), np.log(_LARGEST_THRESHOLD)
    if not fits(float(np.exp(high))):
        raise DataError(
            f"a vocabulary of {len(model.words)} words does not fit {max_bytes / 1e6:g} MB; "
            "allow more megabytes or fewer words"
        )
    for _ in range(_SEARCH_STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if fits(float(np.exp(middle))) else (middle, high)
    return float(np.exp(high))


def prune(model: BackoffModel, kept: Sequence[Mask]) -> BackoffModel:
    """The model of the ``kept`` n-grams; probabilities stay as they are."""
    orders: list[BackoffOrder] = []
    new_row = np.zeros(1, dtype=np.int64)
    for order, mask in zip(model.orders, kept, strict=True):
        table = order.table
        slim = NgramTable(
            prefix=new_row[table.prefix[mask]],
            suffix=new_row[table.suffix[mask]],
            word=table.word[mask],
            first=table.first[mask],
            count=table.count[:, mask],
        )
        new_row = np.cumsum(mask) - 1
        orders.append(BackoffOrder(slim, order.prob[mask], order.share[mask]))
    return BackoffModel(model.words, tuple(orders))
