"""Test that SentencePiece's unknown piece may be in a list and is never output."""

from __future__ import annotations

import numpy as np
import pytest

from streamasr.config import DecoderConfig
from streamasr.decoding.beam import BeamDecoder
from streamasr.decoding.greedy import greedy_text
from streamasr.decoding.tokens import TokenList
from streamasr.errors import ModelError

TOKENS = TokenList(("<unk>", "▁a", "b", "▁c", "<blank>"))


def test_a_list_of_pieces_may_contain_it() -> None:
    assert (TOKENS.unknown, TOKENS.blank, TOKENS.kind) == (0, 4, "pieces")
    assert TOKENS.decode([1, 0, 2, 3]) == "ab c"
    assert TokenList.of_characters("ab").unknown is None
    with pytest.raises(ModelError, match="token 0 is '<unk>'"):
        TokenList(("<unk>", "a", "<blank>"))


def test_no_search_outputs_it_even_if_it_is_most_probable() -> None:
    log_probs_TV = np.log(
        np.array(
            [[0.9, 0.06, 0.01, 0.01, 0.02], [0.9, 0.01, 0.06, 0.01, 0.02], [0.01, 0.01, 0.01, 0.01, 0.96]]
        )
    )
    kept_TV = log_probs_TV.copy()
    decoder = BeamDecoder(TOKENS, None, DecoderConfig(beam_width=4))
    state = decoder.step(decoder.initial_state(), log_probs_TV)
    (best,) = decoder.hypotheses(state, final=True, count=1)
    assert best.text == "ab"
    assert np.array_equal(log_probs_TV, kept_TV)
    assert greedy_text(log_probs_TV.argmax(axis=1).tolist(), TOKENS) == ""
