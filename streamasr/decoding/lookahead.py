"""Measure the silence in a chunk's look-ahead, so that only a look-ahead in which an utterance may end is decoded.

Shape suffixes: T encoder frames, V tokens.
"""

from __future__ import annotations

import numpy as np

from streamasr.decoding.beam import LogProbs
from streamasr.decoding.tokens import TokenList

BORDER_FRAMES = 2
"""Frames by which the silence of the best tokens may be shorter than that of the best beam."""


def has_silence(log_probs_TV: LogProbs, lookahead_TV: LogProbs, frames: int, tokens: TokenList) -> bool:
    """Return whether ``frames`` frames of silence may end in the look-ahead, by the best token of each frame.

    Args:
        log_probs_TV: the log-probs of the chunk, at least one frame. Silence counts as far back as they reach.
        lookahead_TV: those of its look-ahead.
        frames: the silence to find; more than a chunk counts as a chunk.
        tokens: the tokens of the columns.
    """
    best_T = np.concatenate((log_probs_TV, lookahead_TV)).argmax(axis=1)
    silent_T = best_T == tokens.blank
    if tokens.separator is not None:
        silent_T |= best_T == tokens.separator
    longest = run = 0
    for at, silent in enumerate(silent_T.tolist()):
        run = run + 1 if silent else 0
        if at >= len(log_probs_TV):
            longest = max(longest, run)
    return longest >= min(frames, len(log_probs_TV)) - BORDER_FRAMES
