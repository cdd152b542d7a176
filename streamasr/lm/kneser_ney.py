"""Estimate a back-off model from n-gram counts with interpolated modified Kneser-Ney smoothing.

S. F. Chen and J. Goodman, "An empirical study of smoothing techniques for language modeling", Computer Speech
& Language 13 (1999), section 3 and equation 26, in the back-off form of ARPA files and KenLM. Several sources of text
are smoothed separately and interpolated with fixed weights, so a small source can have a large weight.
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
"""Discounts of an order whose counts of counts do not determine them, as with tiny or artificial text."""

_SMALLEST_MASS = 1e-9


@dataclass(frozen=True, slots=True)
class BackoffOrder:
    """One order of a model: its n-grams with the probabilities of their last words."""

    table: NgramTable
    prob: Floats
    """(N,) probability of the last word given the words before it."""
    frequency: Floats
    """(N,) relative frequency in the weighted text: occurrences per token."""

    def __len__(self) -> int:
        return len(self.table)


@dataclass(frozen=True, slots=True)
class BackoffModel:
    """A back-off model; ``orders[k - 1]`` has order k. The prefix and suffix of each n-gram are also in the model.

    After a history, the words that form an n-gram of the model with it have explicit probabilities. The other words
    share the left-over probability in the proportions of the order below, so the back-off weights follow from the
    probabilities (:meth:`backoff`).
    """

    words: tuple[str, ...]
    orders: tuple[BackoffOrder, ...]

    @property
    def order(self) -> int:
        """The highest order."""
        return len(self.orders)

    @property
    def counts(self) -> list[int]:
        """Number of n-grams in each order."""
        return [len(order) for order in self.orders]

    def leftover_mass(self, k: int) -> tuple[Floats, Floats]:
        """Return the probability that the explicit words after each n-gram of order k < ``order`` leave over.

        Returns:
            Two (N,) arrays: the left-over probability in order k + 1, and that of the same words in order k.
        """
        above, here = self.orders[k], self.orders[k - 1]
        history, size = above.table.prefix, len(here)
        explicit = np.bincount(history, weights=above.prob, minlength=size)
        explicit_below = np.bincount(history, weights=here.prob[above.table.suffix], minlength=size)
        return np.maximum(1 - explicit, _SMALLEST_MASS), np.maximum(1 - explicit_below, _SMALLEST_MASS)

    def backoff(self, k: int) -> Floats:
        """Return (N,): the back-off weight after each n-gram of order k < ``order``; 1 without explicit words."""
        leftover, leftover_below = self.leftover_mass(k)
        return leftover / leftover_below

    def has_extensions(self, k: int) -> NDArray[np.bool_]:
        """Return (N,): whether longer n-grams start with each n-gram of order k < ``order``."""
        return np.bincount(self.orders[k].table.prefix, minlength=len(self.orders[k - 1])) > 0


def estimate(words: Sequence[str], tables: Sequence[NgramTable], weights: Sequence[float]) -> BackoffModel:
    """Smooth the counts of :func:`~streamasr.lm.ngrams.count_ngrams`.

    Args:
        words: the vocabulary.
        tables: orders 1 and up.
        weights: one weight for each source of text, with a sum of 1.
    """
    mixed = [np.zeros(len(table)) for table in tables]
    frequencies = [np.zeros(len(table)) for table in tables]
    for source, weight in enumerate(weights):
        tokens = tables[0].count[source].sum()
        for k, prob in enumerate(_smooth(len(words), tables, source)):
            mixed[k] += weight * prob
            frequencies[k] += weight * tables[k].count[source] / tokens
    return BackoffModel(tuple(words), tuple(map(BackoffOrder, tables, mixed, frequencies)))


def _smooth(vocabulary: int, tables: Sequence[NgramTable], source: int) -> list[Floats]:
    """Return for each order the (N,) probabilities of all n-grams of the model, estimated from one source.

    The unigrams are interpolated with the uniform distribution over all words except ``<s>``, which is the only
    probability of ``<unk>``. ``<s>`` is never predicted.
    """
    lower = np.full(1, 1.0 / (vocabulary - 1))
    """Probabilities of the order below; below order 1, all words have the same probability."""
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
    """Return the counts for smoothing: plain counts in the highest order, below it the number of preceding words.

    An n-gram at the start of a sentence has no preceding word and keeps its count. An n-gram that occurs only after
    out-of-vocabulary words has the count 1.
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
    """Return the discounts of n-grams with a count of 1, 2, and 3 or more (Chen and Goodman 1999, equation 26)."""
    n1, n2, n3, n4 = (int(np.count_nonzero(counts == c)) for c in (1, 2, 3, 4))
    if 0 in (n1, n2, n3, n4):
        return np.array(FALLBACK_DISCOUNTS)
    y = n1 / (n1 + 2 * n2)
    values = np.array([1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3])
    usable = np.all((values > 0) & (values <= (1, 2, 3)))
    return values if usable else np.array(FALLBACK_DISCOUNTS)
