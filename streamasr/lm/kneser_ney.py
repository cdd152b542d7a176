"""Interpolated modified Kneser-Ney smoothing. Counts in, a back-off model out.

S. F. Chen and J. Goodman, "An empirical study of smoothing techniques for language modeling", Computer Speech
& Language 13 (1999), section 3 and equation 26, in the back-off form that ARPA files and KenLM use. Several
sources of text are smoothed each by itself and mixed with fixed weights, so that a small one may weigh much.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamasr.lm.corpus import BEGIN_ID, UNKNOWN_ID
from streamasr.lm.ngrams import NgramTable

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

FALLBACK_DISCOUNTS = (0.5, 1.0, 1.5)
"""Used for an order whose counts of counts do not determine the discounts (tiny or artificial text)."""

_SMALLEST_MASS = 1e-9


@dataclass(frozen=True, slots=True)
class BackoffOrder:
    """One order of a model: its n-grams, and for each the probability of the last word."""

    table: NgramTable
    prob: Floats
    """(N,) probability of the last word after those before it."""
    share: Floats
    """(N,) how much of the (weighted) text is this n-gram: occurrences for each token."""

    def __len__(self) -> int:
        return len(self.table)


@dataclass(frozen=True, slots=True)
class BackoffModel:
    """A whole model; ``orders[k - 1]`` holds order k. Every n-gram's prefix and suffix are in the model too.

    Words that are not listed after a history share what its listed words leave, in the proportions of the
    order below: the back-off weights follow from the probabilities (:meth:`backoff`).
    """

    words: tuple[str, ...]
    orders: tuple[BackoffOrder, ...]

    @property
    def order(self) -> int:
        return len(self.orders)

    @property
    def counts(self) -> list[int]:
        """Number of n-grams in each order."""
        return [len(order) for order in self.orders]

    def unlisted_mass(self, k: int) -> tuple[Floats, Floats]:
        """For each n-gram of order k < ``order``: the probability that the words listed after it leave.

        Returns:
            Two (N,) arrays: what they leave in order k + 1, and what the same words leave in order k.
        """
        above, here = self.orders[k], self.orders[k - 1]
        history, size = above.table.prefix, len(here)
        listed = np.bincount(history, weights=above.prob, minlength=size)
        listed_below = np.bincount(history, weights=here.prob[above.table.suffix], minlength=size)
        return np.maximum(1 - listed, _SMALLEST_MASS), np.maximum(1 - listed_below, _SMALLEST_MASS)

    def backoff(self, k: int) -> Floats:
        """(N,) factor for words not listed after an n-gram of order k < ``order``; 1 where none is."""
        unlisted, unlisted_below = self.unlisted_mass(k)
        return unlisted / unlisted_below

    def continued(self, k: int) -> NDArray[np.bool_]:
        """(N,) whether longer n-grams begin with each n-gram of order k < ``order``."""
        return np.bincount(self.orders[k].table.prefix, minlength=len(self.orders[k - 1])) > 0


def estimate(words: Sequence[str], tables: Sequence[NgramTable], weights: Sequence[float]) -> BackoffModel:
    """Smooth the counts of :func:`~streamasr.lm.ngrams.count_ngrams`.

    Args:
        words: the vocabulary.
        tables: orders 1 and up.
        weights: one for each source of text, summing to one.
    """
    mixed = [np.zeros(len(table)) for table in tables]
    shares = [np.zeros(len(table)) for table in tables]
    for source, weight in enumerate(weights):
        tokens = tables[0].count[source].sum()
        for k, prob in enumerate(_smooth(len(words), tables, source)):
            mixed[k] += weight * prob
            shares[k] += weight * tables[k].count[source] / tokens
    return BackoffModel(tuple(words), tuple(map(BackoffOrder, tables, mixed, shares)))


def _smooth(vocabulary: int, tables: Sequence[NgramTable], source: int) -> list[Floats]:
    """For each order the (N,) probabilities that one source alone gives to all listed n-grams.

    The unigrams are interpolated with the uniform distribution over all words but ``<s>``; ``<unk>`` has
    just its share of that. ``<s>`` is never predicted.
    """
    lower = np.full(1, 1.0 / (vocabulary - 1))
    """Probabilities of the order below; below order 1 every word is as probable as any other."""
    probs: list[Floats] = []
    for k, table in enumerate(tables, start=1):
        counts = _adjusted_counts(tables, k, source)
        total = np.bincount(table.prefix, weights=counts, minlength=len(lower))
        discount = np.concatenate(([0.0], discounts(counts)))[np.minimum(counts, 3)]
        freed = np.bincount(table.prefix, weights=discount, minlength=len(lower))
        seen = total > 0
        gamma = np.divide(freed, total, out=np.ones_like(lower), where=seen)
        scale = np.divide(1.0, total, out=np.zeros_like(lower), where=seen)
        prob = (counts - discount) * scale[table.prefix] + gamma[table.prefix] * lower[table.suffix]
        if k == 1:
            prob[BEGIN_ID] = 0.0
        probs.append(prob)
        lower = prob
    return probs


def _adjusted_counts(tables: Sequence[NgramTable], k: int, source: int) -> Counts:
    """Counts that smoothing works on: as seen in the highest order, below it how many words come before.

    An n-gram that begins a sentence has no word before it and keeps its count. One that was seen only after
    an unknown word has that one.
    """
    table = tables[k - 1]
    counts: Counts = table.count[source].copy()
    if k < len(tables):
        longer = tables[k].suffix[tables[k].count[source] > 0]
        contexts = np.maximum(np.bincount(longer, minlength=len(table)), counts > 0)
        counts = np.where(table.first == BEGIN_ID, counts, contexts)
    if k == 1:
        counts[[UNKNOWN_ID, BEGIN_ID]] = 0
    return counts


def discounts(counts: Counts) -> Floats:
    """What is taken from n-grams seen once, twice, three times or more (Chen and Goodman, equation 26)."""
    n1, n2, n3, n4 = (int(np.count_nonzero(counts == c)) for c in (1, 2, 3, 4))
    if 0 in (n1, n2, n3, n4):
        return np.array(FALLBACK_DISCOUNTS)
    y = n1 / (n1 + 2 * n2)
    values = np.array([1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3])
    usable = np.all((values > 0) & (values <= (1, 2, 3)))
    return values if usable else np.array(FALLBACK_DISCOUNTS)
