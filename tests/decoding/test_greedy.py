"""Test that greedy decoding collapses the best tokens of the frames."""

from __future__ import annotations

import numpy as np
import pytest

from streamasr.decoding.greedy import greedy_text
from tests.decoding.synthetic import SENTENCES, TOKENS, speech


def test_repeats_and_blanks_are_removed_and_words_are_separated() -> None:
    b, s, a, c = TOKENS.blank, TOKENS.separator, *TOKENS.encode("ac")
    assert s is not None
    assert greedy_text([b, s, a, a, b, a, s, s, b, s, c, s, b], TOKENS) == "aa c"
    assert greedy_text([], TOKENS) == ""


@pytest.mark.parametrize("text", SENTENCES[:5])
def test_clear_log_probs_give_their_text(text: str) -> None:
    log_probs_TV = speech(text, np.random.default_rng(0), confusion=0.0)
    assert greedy_text(log_probs_TV.argmax(axis=1).tolist(), TOKENS) == text
