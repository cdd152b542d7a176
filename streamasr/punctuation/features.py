"""Hash a word and its character n-grams into rows of an embedding table, so that unknown words have features, too."""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray

N_GRAMS = (2, 3, 4)
MAX_NGRAMS = 24
"""Most n-grams of a word that are used, the first ones; it bounds the work for a word of any length."""


def word_features(word: str, word_rows: int, ngram_rows: int) -> NDArray[np.int64]:
    """Return rows [F] of the table: the word's own first, below ``word_rows``, then those of its n-grams, behind it.

    N-grams are of 2 to 4 characters of the word between ``^`` and ``$``, those at its ends first (Bojanowski et al.
    2017, "Enriching Word Vectors with Subword Information"). Hashes are CRC-32 of UTF-8.
    """
    marked = f"^{word}$"
    ends = [part for n in N_GRAMS if len(marked) > n for part in (marked[:n], "…" + marked[-n:])]
    inner = [marked[at : at + 3] for at in range(1, len(marked) - 3)]
    grams = dict.fromkeys((*ends, *inner))
    rows = [_hash(word) % word_rows]
    rows += [word_rows + _hash(gram) % ngram_rows for gram in list(grams)[:MAX_NGRAMS]]
    return np.array(rows, dtype=np.int64)


def _hash(text: str) -> int:
    return zlib.crc32(text.encode("utf-8", "surrogatepass"))
