"""Word times: known from made-up log-probs, widened by a lead and a trail, and never overlapping."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamasr.config import ConfidenceConfig, DecoderConfig, ModelConfig
from streamasr.decoding.beam import BeamDecoder
from streamasr.decoding.confidence import WordFeatures
from streamasr.decoding.hypothesis import Final, Partial, SpeechStarted
from streamasr.decoding.nbest import HypothesisBuilder, word_spans
from tests.decoding.synthetic import TOKENS, log_normalised, noise, spoken, utterance_decoder

TOKEN_SPANS = st.lists(st.tuples(st.integers(0, 6), st.integers(1, 8)), max_size=8)
"""For every word: blanks before its tokens, and frames of its tokens."""


def placed(gaps):
    spans, frame = [], 0
    for gap, length in gaps:
        spans.append((frame + gap, frame + gap + length))
        frame += gap + length
    return spans


@given(TOKEN_SPANS, st.integers(0, 9), st.integers(0, 9))
def test_spans_hold_their_tokens_and_never_overlap(gaps, lead, trail):
    tokens = placed(gaps)
    spans = word_spans(tokens, lead, trail)
    assert len(spans) == len(tokens)
    for (start, end), (first, last) in zip(spans, tokens, strict=True):
        assert first - lead <= start <= first < last <= end <= last + trail
    assert all(one[1] <= other[0] for one, other in pairwise(spans))


def test_a_word_reaches_to_where_the_next_one_begins():
    assert word_spans([(10, 12), (20, 24), (25, 26)], 3, 3) == [(7, 15), (17, 24), (24, 29)]
    assert word_spans([(10, 12), (20, 24)], 0, 0) == [(10, 12), (20, 24)]
    assert word_spans([], 3, 3) == []


def timed(*words, frames=60):
    """Log-probs with ``words`` of (text, first frame), one frame a letter with a blank between, and a separator."""
    weights = np.full((frames, len(TOKENS)), 1e-5)
    weights[:, TOKENS.blank] = 1.0
    for text, first in words:
        for place, token in enumerate([*TOKENS.encode(text), TOKENS.separator]):
            weights[first + 2 * place] = 1e-5
            weights[first + 2 * place, token] = 1.0
    return log_normalised(weights)


def telling(lead, trail):
    beams = utterance_decoder().beams
    bare = utterance_decoder()
    return bare.with_beam_decoder(
        BeamDecoder(
            beams.tokens, beams.lm, beams.config, HypothesisBuilder(lead_frames=lead, trail_frames=trail)
        )
    )


@pytest.mark.parametrize(("lead", "trail"), [(0, 0), (3, 2), (6, 4)])
def test_words_are_where_they_were_put(lead, trail):
    decoder = telling(lead, trail)
    said = timed(("the", 10), ("sea", 30))
    state, events = decoder.step(decoder.initial_state(), said)
    (final,) = (e for e in (*events, *decoder.flush(state)[1]) if isinstance(e, Final))
    one, other = final.hypothesis.words
    assert (one.text, other.text) == ("the", "sea")
    assert one.start_frame == 10 - lead
    assert other.start_frame == 30 - lead
    assert one.end_frame == 15 + trail
    assert other.end_frame == 35 + trail
    (started,) = (e for e in events if isinstance(e, SpeechStarted))
    assert started.frame == one.start_frame


def test_words_stay_within_their_utterance_and_what_was_heard():
    decoder = telling(20, 20)
    said = timed(("sea", 4), frames=12)
    _, events = decoder.step(decoder.initial_state(), said)
    (partial,) = (e for e in events if isinstance(e, Partial))
    (word,) = partial.hypothesis.words
    assert (word.start_frame, word.end_frame) == (0, 12)


def test_alternatives_have_distinct_texts():
    decoder = utterance_decoder()
    for seed in range(6):
        rng = np.random.default_rng(seed)
        said = spoken("nobody knows why the road was closed", rng, confusion=0.8)
        log_probs = np.concatenate([said, noise(15, rng)])
        options = replace(decoder.default_options(), alternatives=10)
        state, events = decoder.step(decoder.initial_state(options), log_probs)
        finals = [e for e in (*events, *decoder.flush(state)[1]) if isinstance(e, Final)]
        assert finals
        for final in finals:
            texts = [final.hypothesis.text, *(other.text for other in final.alternatives)]
            assert len(texts) > 1
            assert len(set(texts)) == len(texts)


def test_a_models_configuration_says_how_readings_are_told():
    config = ModelConfig(
        name="made",
        decoder=DecoderConfig(word_lead_ms=60, word_trail_ms=100),
        confidence=ConfidenceConfig(method="logistic", bias=20.0),
    )
    found = HypothesisBuilder.from_config(config, 40.0)
    assert (found.lead_frames, found.trail_frames) == (2, 2)
    assert found.confidence(WordFeatures(0.5, -0.5, 3)) == pytest.approx(1.0)
