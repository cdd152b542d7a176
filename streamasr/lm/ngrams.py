"""Count n-grams of word ids in linked tables.

The n-grams of order k are the rows of one table, sorted by (prefix, word). The n-gram ``w1 … wk`` is row ``prefix``
of the table of order k-1 (``w1 … wk-1``), followed by the word ``wk``; ``suffix`` is the row of ``w2 … wk`` in that
table. With these links, smoothing, pruning and writing are operations on whole arrays.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from streamasr.lm.corpus import BEGIN_ID, UNKNOWN_ID, TextCorpus

Rows = NDArray[np.int64]
Words = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class NgramTable:
    """All N n-grams of one order. In the table of order 1, the row number is the word id."""

    prefix: Rows
    """(N,) row of ``w1 … wk-1`` in the table of the order below; all 0 in order 1."""
    suffix: Rows
    """(N,) row of ``w2 … wk`` in the table of the order below; all 0 in order 1."""
    word: Words
    """(N,) the last word."""
    first: Words
    """(N,) the first word."""
    count: NDArray[np.int64]
    """(S, N) count in each of the S sources of text."""

    def __len__(self) -> int:
        return len(self.word)


def count_ngrams(corpus: TextCorpus, order: int) -> list[NgramTable]:
    """Count the n-grams of orders 1 to ``order`` and return one table per order.

    N-grams do not cross the ends of sentences. From order 2 on, n-grams with an out-of-vocabulary word are left out.
    """
    ids = corpus.ids.astype(np.int64)
    vocabulary = len(corpus.words)
    zeros = np.zeros(vocabulary, dtype=np.int64)
    words = np.arange(vocabulary, dtype=np.int32)
    count = _count_by_source(ids, np.arange(len(ids)), corpus.source_ends, vocabulary)
    tables = [NgramTable(zeros, zeros, words, words, count)]
    longest = _longest_ngram_ending_at(ids)
    row_at = ids
    """Row of the n-gram that ends at each position of the text, in the table of the last order."""
    for k in range(2, order + 1):
        ends = np.flatnonzero(longest >= k)
        keys = row_at[ends - 1] * vocabulary + ids[ends]
        kinds, example, row = np.unique(keys, return_index=True, return_inverse=True)
        prefix = kinds // vocabulary
        tables.append(
            NgramTable(
                prefix=prefix,
                suffix=row_at[ends[example]],
                word=(kinds % vocabulary).astype(np.int32),
                first=tables[-1].first[prefix],
                count=_count_by_source(row, ends, corpus.source_ends, len(kinds)),
            )
        )
        row_at = np.full_like(row_at, -1)
        row_at[ends] = row
    return tables


def _longest_ngram_ending_at(ids: Rows) -> Rows:
    """Return the length of the longest n-gram that ends at each position, within a sentence and without ``<unk>``."""
    position = np.arange(len(ids))
    start = np.maximum.accumulate(np.where(ids == BEGIN_ID, position, 0))
    after_unknown = np.maximum.accumulate(np.where(ids == UNKNOWN_ID, position + 1, 0))
    longest: Rows = position + 1 - np.maximum(start, after_unknown)
    return longest


def _count_by_source(rows: Rows, positions: Rows, source_ends: tuple[int, ...], size: int) -> Rows:
    """Return (S, size): the count of each row in each source; ``positions`` in the text are ascending."""
    bounds = np.searchsorted(positions, (0, *source_ends))
    return np.stack([np.bincount(rows[a:b], minlength=size) for a, b in pairwise(bounds)])
