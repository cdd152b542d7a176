"""Measure the perplexity of a neural language model."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from streamasr.decoding.neural_lm import NeuralLanguageModel
from streamasr.lm.build import Perplexity


def neural_perplexity(lm: NeuralLanguageModel, texts: Iterable[Sequence[str]]) -> Perplexity:
    """Measure the perplexity of a model on texts, each a sequence of normalised sentences.

    A sentence is scored after those before it, with its end. Unlike an n-gram model's, the perplexity includes
    unknown words: each has an equal share of the probability of all of them.
    """
    log_prob, tokens, words, unknown = 0.0, 0, 0, 0
    for text in texts:
        state = lm.initial_state()
        for sentence in text:
            spoken = sentence.split()
            log_prob += float(lm.log_probs(state, [spoken], end_of_sentence=True)[0])
            state = lm.advance(state, spoken, end_of_sentence=True)
            tokens += len(spoken) + 1
            words += len(spoken)
            unknown += sum(not lm.knows(word) for word in spoken)
    return Perplexity(math.exp(-log_prob / tokens) if words else math.inf, words, unknown)
