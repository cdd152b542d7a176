"""Test that greedy decoding collapses the best tokens of the frames."""

from __future__ import annotations

import numpy as np
import pytest

from streamasr.decoding.greedy import greedy_text, greedy_text_of_ids
from tests.decoding.synthetic import SENTENCES, TOKENS, speech


def test_repeats_and_blanks_are_removed_and_words_are_separated() -> None:
    b, s, a, c = TOKENS.blank, TOKENS.separator, *TOKENS.encode("ac")
    assert s is not None
    assert greedy_text_of_ids([b, s, a, a, b, a, s, s, b, s, c, s, b], TOKENS) == "aa c"
    assert greedy_text_of_ids([], TOKENS) == ""


@pytest.mark.parametrize("text", SENTENCES[:5])
def test_clear_log_probs_give_their_text(text: str) -> None:
    assert greedy_text(speech(text, np.random.default_rng(0), confusion=0.0), TOKENS) == text


def test_another_number_of_tokens_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected shape \(frames, 29\), got \(4, 30\)"):
        greedy_text(np.zeros((4, 30), dtype=np.float32), TOKENS)
