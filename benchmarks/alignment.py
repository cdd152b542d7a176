"""Align the words of references to log-probs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torchaudio.functional import forced_align, merge_tokens

from streamasr.decoding.beam import LogProbs
from streamasr.decoding.tokens import TokenList


def ctc_spans(log_probs_TV: LogProbs, tokens: TokenList, words: Sequence[str]) -> list[tuple[int, int]]:
    """Return the frames from the first to the last token of each word, by CTC forced alignment."""
    ids = tokens.encode(" ".join(words))
    log_probs = torch.from_numpy(np.ascontiguousarray(log_probs_TV, dtype=np.float32))[None]
    labels, scores = forced_align(log_probs, torch.tensor([ids]), blank=tokens.blank)
    spans: list[tuple[int, int]] = []
    open_word = False
    for token in merge_tokens(labels[0], scores[0], blank=tokens.blank):
        if token.token == tokens.separator:
            open_word = False
        elif open_word and not tokens.starts_word[token.token]:
            spans[-1] = spans[-1][0], token.end
        else:
            spans.append((token.start, token.end))
            open_word = True
    return spans
