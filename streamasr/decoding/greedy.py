"""Decode CTC log-probs greedily: take the best token of every frame and collapse the result.

Used in training and for quick evaluation; captions use :mod:`streamasr.decoding.beam`.
Shape suffixes: T encoder frames, V tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamasr.decoding.tokens import TokenList, collapse


def greedy_text(log_probs_TV: NDArray[np.floating[Any]], tokens: TokenList) -> str:
    """Return the greedy text of log-probs; logits give the same.

    Raises:
        ValueError: the array is not (frames, tokens).
    """
    if log_probs_TV.ndim != 2 or log_probs_TV.shape[1] != len(tokens):
        raise ValueError(f"expected shape (frames, {len(tokens)}), got {log_probs_TV.shape}")
    return greedy_text_of_ids(log_probs_TV.argmax(axis=1).tolist(), tokens)


def greedy_text_of_ids(ids: Sequence[int], tokens: TokenList) -> str:
    """Return the text of one token id per frame: repeats collapsed, blanks removed."""
    return tokens.decode(collapse(ids, tokens.blank))
