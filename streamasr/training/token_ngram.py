"""Estimate an n-gram model of tokens: the language model in the denominator of CTC-CRF.

Probabilities are interpolated with those of shorter histories (Witten and Bell 1991). All of them are kept in one
array, so the model suits short histories and few tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamasr.errors import ConfigError, DataError

MAX_ENTRIES = 20_000_000
"""Limit of the probabilities in a model: tokens to the power of the order."""


@dataclass(frozen=True, slots=True)
class TokenNgram:
    """Probabilities of tokens after the tokens before them.

    At the start of a text, the history is blanks; the blank itself has probability 0.
    """

    order: int
    """Length of the n-grams: the history and a token."""
    tokens: int
    """Number of tokens, the blank included."""
    blank: int
    probs: NDArray[np.float32]
    """One probability per n-gram, whose tokens are the digits of its index, the last token lowest."""

    def log_prob(self, ids: Sequence[int]) -> float:
        """Return the natural-log probability of a text's tokens; the end of the text has none."""
        index = _windows(_padded(ids, self.order, self.blank), self.order, self.tokens)
        return float(np.log(self.probs[index], dtype=np.float64).sum())


def estimate_ngram(texts: Iterable[Sequence[int]], *, order: int, tokens: int, blank: int) -> TokenNgram:
    """Estimate an n-gram model.

    Args:
        texts: the token ids of each text, without blanks.
        order: length of the n-grams, at least 2.
        tokens: number of tokens, the blank included.
        blank: the blank's id.

    Raises:
        ConfigError: a model of this order would have more than ``MAX_ENTRIES`` probabilities.
        DataError: there are no texts.
    """
    if tokens**order > MAX_ENTRIES:
        raise ConfigError(
            f"crf.order: {order} is too long for {tokens} tokens: {tokens**order:,} probabilities, "
            f"of {MAX_ENTRIES:,} at most"
        )
    parts = [_padded(ids, order, blank) for ids in texts if len(ids)]
    if not parts:
        raise DataError("crf.text: no text that the tokens can spell")
    sequence = np.concatenate(parts)
    probs = np.full((1, tokens), 1 / (tokens - 1))
    probs[:, blank] = 0
    for length in range(1, order + 1):
        index = _windows(sequence, length, tokens)[order - length :]
        index = index[sequence[order - 1 :] != blank]
        counts = np.bincount(index, minlength=tokens**length).astype(np.float64).reshape(-1, tokens)
        total = counts.sum(axis=1, keepdims=True)
        kinds = (counts > 0).sum(axis=1, keepdims=True)
        # Histories that differ only in their first token share the shorter history's probabilities.
        shorter = np.tile(probs, (len(counts) // len(probs), 1))
        unseen = total == 0
        probs = np.where(unseen, shorter, (counts + kinds * shorter) / np.where(unseen, 1, total + kinds))
    return TokenNgram(order, tokens, blank, probs.astype(np.float32).ravel())


def _padded(ids: Sequence[int], order: int, blank: int) -> NDArray[np.int64]:
    return np.array([blank] * (order - 1) + list(ids), dtype=np.int64)


def _windows(sequence: NDArray[np.int64], length: int, tokens: int) -> NDArray[np.int64]:
    """Return the index of each n-gram of ``length`` tokens in ``sequence``."""
    count = len(sequence) - length + 1
    index = np.zeros(count, dtype=np.int64)
    for place in range(length):
        index = index * tokens + sequence[place : place + count]
    return index
