"""Decode CTC output greedily: collapse the best tokens of all frames to text.

Used in training and for quick evaluation; captions use :mod:`streamasr.decoding.beam`.
"""

from __future__ import annotations

from collections.abc import Sequence

from streamasr.decoding.tokens import TokenList, collapse


def greedy_text(ids: Sequence[int], tokens: TokenList) -> str:
    """Return the text of the best token id of each frame: repeats collapsed, blanks removed."""
    return tokens.decode(collapse(ids, tokens.blank))
