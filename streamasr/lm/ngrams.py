"""N-gram counts as linked tables. Knows integer word ids only.

The n-grams of order k are the rows of one table, sorted by (prefix, word): ``w1 … wk`` is the row ``prefix``
of the table of order k-1 (``w1 … wk-1``) followed by the word ``wk``. ``suffix`` is the row of ``w2 … wk``
there. Both links make every later stage (smoothing, pruning, writing) whole-array arithmetic.
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
    """All n-grams of one order, ``N`` rows. In the table of order 1 row and word id are the same number."""

    prefix: Rows
    """(N,) row of ``w1 … wk-1`` in the table below; all 0 in order 1."""
    suffix: Rows
    """(N,) row of ``w2 … wk`` in the table below; all 0 in order 1."""
    word: Words
    """(N,) the last word."""
    first: Words
    """(N,) the first word."""
    count: NDArray[np.int64]
    """(S, N) times seen in each of the S sources of text."""

    def __len__(self) -> int:
        return len(self.word)


def count_ngrams(corpus: TextCorpus, order: int) -> list[NgramTable]:
    """The tables of orders 1 … ``order``.

    N-grams do not reach over a sentence's ends. From order 2 on those with an unknown word are left out:
    nothing is learnt of words that the vocabulary does not hold.
    """
    ids = corpus.ids.astype(np.int64)
    vocabulary = len(corpus.words)
    everyone = np.arange(vocabulary)
    nothing = np.zeros(vocabulary, dtype=np.int64)
    words = everyone.astype(np.int32)
    count = _count_by_source(ids, np.arange(len(ids)), corpus.source_ends, vocabulary)
    tables = [NgramTable(nothing, nothing, words, words, count)]
    reach = _known_words_up_to(ids)
    row_at = ids
    """Row, in the table of the order reached so far, of the n-gram that ends at each position of the text."""
    for k in range(2, order + 1):
        ends = np.flatnonzero(reach >= k)
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


def _known_words_up_to(ids: Rows) -> Rows:
    """Length of the longest n-gram that ends at each position, inside its sentence and without ``<unk>``."""
    position = np.arange(len(ids))
    start = np.maximum.accumulate(np.where(ids == BEGIN_ID, position, 0))
    after_unknown = np.maximum.accumulate(np.where(ids == UNKNOWN_ID, position + 1, 0))
    reach: Rows = position + 1 - np.maximum(start, after_unknown)
    return reach


def _count_by_source(rows: Rows, positions: Rows, source_ends: tuple[int, ...], size: int) -> Rows:
    """(S, size) how often each row occurs in each source; ``positions`` in the text, rising."""
    bounds = np.searchsorted(positions, (0, *source_ends))
    return np.stack([np.bincount(rows[a:b], minlength=size) for a, b in pairwise(bounds)])
