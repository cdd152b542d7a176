"""Test sentences with numbers."""

from __future__ import annotations

import numpy as np

from streamasr.synthesis.numbers import number_sentence
from streamasr.text import normalise_english


def test_number_sentences_are_normal_text_and_follow_the_seed() -> None:
    sentences = [number_sentence(np.random.default_rng(seed)) for seed in range(200)]
    assert [normalise_english(sentence) for sentence in sentences] == sentences
    assert sentences == [number_sentence(np.random.default_rng(seed)) for seed in range(200)]
    assert len(set(sentences)) > 150
