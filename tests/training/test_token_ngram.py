"""Test the n-gram model of tokens against counts that can be checked by hand."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from streamasr.errors import ConfigError, DataError
from streamasr.training.token_ngram import TokenNgram, estimate_ngram

TOKENS, BLANK, A, B, C = 4, 0, 1, 2, 3


def bigrams(ngram: TokenNgram) -> NDArray[np.float32]:
    return ngram.probs.reshape(TOKENS, TOKENS)


def test_probabilities_are_counts_interpolated_with_those_of_shorter_histories() -> None:
    ngram = estimate_ngram([[A, B], [A, A]], order=2, tokens=TOKENS, blank=BLANK)
    # Witten-Bell: (count + kinds * shorter) / (total + kinds)
    single = np.array([0, 3 + 2 / 3, 1 + 2 / 3, 2 / 3]) / (4 + 2)
    np.testing.assert_allclose(bigrams(ngram)[C], single, rtol=1e-6)
    after_a = (np.array([0, 1, 1, 0]) + 2 * single) / (2 + 2)
    np.testing.assert_allclose(bigrams(ngram)[A], after_a, rtol=1e-6)
    at_start = (np.array([0, 2, 0, 0]) + 1 * single) / (2 + 1)
    np.testing.assert_allclose(bigrams(ngram)[BLANK], at_start, rtol=1e-6)


@pytest.mark.parametrize("order", [2, 3, 4])
@pytest.mark.parametrize("blank", [0, 3])
def test_probabilities_of_the_tokens_after_each_history_add_up_to_one(order: int, blank: int) -> None:
    texts = np.random.default_rng(1).integers(0, 3, size=(20, 6)) + (blank == 0)
    ngram = estimate_ngram(texts.tolist(), order=order, tokens=TOKENS, blank=blank)
    by_history = ngram.probs.reshape(-1, TOKENS)
    np.testing.assert_allclose(by_history.sum(axis=1), 1, rtol=1e-6)
    assert not by_history[:, blank].any()
    assert (np.delete(by_history, blank, axis=1) > 0).all()


def test_a_longer_history_predicts_a_regular_text_better() -> None:
    text = [A, A, B, C] * 50
    log_probs = [
        estimate_ngram([text], order=order, tokens=TOKENS, blank=BLANK).log_prob(text) for order in (2, 3)
    ]
    assert log_probs[0] < 3 * log_probs[1] < 0


def test_a_text_has_the_product_of_its_tokens_probabilities() -> None:
    ngram = estimate_ngram([[A, B, C], [B, B]], order=3, tokens=TOKENS, blank=BLANK)
    probs = ngram.probs.reshape(TOKENS, TOKENS, TOKENS)
    product = probs[BLANK, BLANK, C] * probs[BLANK, C, A] * probs[C, A, A]
    assert ngram.log_prob([C, A, A]) == pytest.approx(np.log(product), rel=1e-6)
    assert ngram.log_prob([]) == 0


def test_a_model_that_would_be_too_large_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"crf\.order: 4 is too long for 257 tokens: 4,362,470,401"):
        estimate_ngram([[1]], order=4, tokens=257, blank=0)


def test_texts_without_tokens_are_refused() -> None:
    with pytest.raises(DataError, match=r"crf\.text: no text"):
        estimate_ngram([[], []], order=2, tokens=TOKENS, blank=BLANK)
