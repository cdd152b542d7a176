"""Find the rows of a word and of its n-grams in an embedding table, so that unknown words have some, too."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

N_GRAMS = (2, 3, 4)
MAX_NGRAMS = 24
"""Most n-grams of a word that are used, the first ones; it bounds the work for a word of any length."""


UNKNOWN_ROW = 0
"""Row of all words that are not in the vocabulary."""


def number_words(vocabulary: Sequence[str]) -> dict[str, int]:
    """Return the row of each word of a vocabulary."""
    return {word: row for row, word in enumerate(vocabulary, start=UNKNOWN_ROW + 1)}


def word_features(
    word: str, numbers: Mapping[str, int], word_rows: int, ngram_rows: int
) -> NDArray[np.int64]:
    """Return rows [F] of the table: the word's own first, below ``word_rows``, then those of its n-grams, after it.

    ``numbers`` is from :func:`number_words`.

    N-grams are of 2 to 4 characters of the word between ``^`` and ``$``, those at its ends first (Bojanowski et al.
    2017, "Enriching Word Vectors with Subword Information"). The row of an n-gram is its CRC-32 in UTF-8, modulo
    ``ngram_rows``.
    """
    marked = f"^{word}$"
    ends = [part for n in N_GRAMS if len(marked) > n for part in (marked[:n], "…" + marked[-n:])]
    inner = [marked[at : at + 3] for at in range(1, len(marked) - 3)]
    grams = dict.fromkeys((*ends, *inner))
    rows = [numbers.get(word, UNKNOWN_ROW)]
    rows += [word_rows + _hash(gram) % ngram_rows for gram in list(grams)[:MAX_NGRAMS]]
    return np.array(rows, dtype=np.int64)


def _hash(text: str) -> int:
    return zlib.crc32(text.encode("utf-8", "surrogatepass"))
