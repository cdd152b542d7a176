"""Test word times: their place in synthetic log-probs, lead and trail, and that words never overlap."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamasr.config import ConfidenceConfig, DecoderConfig, ModelConfig
from streamasr.decoding.beam import BeamDecoder, LogProbs
from streamasr.decoding.confidence import WordFeatures
from streamasr.decoding.hypothesis import Final, Partial, SpeechStarted
from streamasr.decoding.nbest import HypothesisBuilder, word_spans
from streamasr.decoding.utterance import UtteranceDecoder
from tests.decoding.synthetic import TOKENS, log_normalised, noise, speech, utterance_decoder

TOKEN_SPANS = st.lists(st.tuples(st.integers(0, 6), st.integers(1, 8)), max_size=8)
"""For each word: blank frames before its tokens, and frames of its tokens."""


def placed(gaps: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Frames of the tokens of each word."""
    spans, frame = [], 0
    for gap, length in gaps:
        spans.append((frame + gap, frame + gap + length))
        frame += gap + length
    return spans


@given(TOKEN_SPANS, st.integers(0, 9), st.integers(0, 9))
def test_words_contain_their_tokens_and_never_overlap(
    gaps: list[tuple[int, int]], lead: int, trail: int
) -> None:
    tokens = placed(gaps)
    spans = word_spans(tokens, lead, trail)
    assert len(spans) == len(tokens)
    for (start, end), (first, last) in zip(spans, tokens, strict=True):
        assert first - lead <= start <= first < last <= end <= last + trail
    assert all(left[1] <= right[0] for left, right in pairwise(spans))


def test_a_word_ends_where_the_next_one_begins_at_the_latest() -> None:
    assert word_spans([(10, 12), (20, 24), (25, 26)], 3, 3) == [(7, 15), (17, 24), (24, 29)]
    assert word_spans([(10, 12), (20, 24)], 0, 0) == [(10, 12), (20, 24)]
    assert word_spans([], 3, 3) == []


def timed(*words: tuple[str, int], frames: int = 60) -> LogProbs:
    """Log-probs with ``words`` of (text, first frame): one frame per letter, blanks between, then a separator."""
    weights = np.full((frames, len(TOKENS)), 1e-5)
    weights[:, TOKENS.blank] = 1.0
    for text, first in words:
        for at, token in enumerate([*TOKENS.encode(text), TOKENS.separator]):
            weights[first + 2 * at] = 1e-5
            weights[first + 2 * at, token] = 1.0
    return log_normalised(weights)


def decoder_with(lead: int, trail: int) -> UtteranceDecoder:
    decoder = utterance_decoder()
    beams = decoder.beams
    return decoder.with_beam_decoder(
        BeamDecoder(
            beams.tokens, beams.lm, beams.config, HypothesisBuilder(lead_frames=lead, trail_frames=trail)
        )
    )


@pytest.mark.parametrize(("lead", "trail"), [(0, 0), (3, 2), (6, 4)])
def test_word_times_are_those_of_the_tokens_with_lead_and_trail(lead: int, trail: int) -> None:
    decoder = decoder_with(lead, trail)
    state, events = decoder.step(decoder.initial_state(), timed(("the", 10), ("sea", 30)))
    (final,) = (e for e in (*events, *decoder.flush(state)[1]) if isinstance(e, Final))
    first, second = final.hypothesis.words
    assert (first.text, second.text) == ("the", "sea")
    assert first.start_frame == 10 - lead
    assert second.start_frame == 30 - lead
    assert first.end_frame == 15 + trail
    assert second.end_frame == 35 + trail
    (started,) = (e for e in events if isinstance(e, SpeechStarted))
    assert started.frame == first.start_frame


def test_words_stay_within_their_utterance_and_the_frames_so_far() -> None:
    decoder = decoder_with(20, 20)
    _, events = decoder.step(decoder.initial_state(), timed(("sea", 4), frames=12))
    (partial,) = (e for e in events if isinstance(e, Partial))
    (word,) = partial.hypothesis.words
    assert (word.start_frame, word.end_frame) == (0, 12)


def test_alternatives_have_distinct_texts() -> None:
    decoder = utterance_decoder()
    for seed in range(6):
        rng = np.random.default_rng(seed)
        sentence = speech("nobody knows why the road was closed", rng, confusion=0.8)
        log_probs = np.concatenate([sentence, noise(15, rng)])
        options = replace(decoder.default_options(), alternatives=10)
        state, events = decoder.step(decoder.initial_state(options), log_probs)
        finals = [e for e in (*events, *decoder.flush(state)[1]) if isinstance(e, Final)]
        assert finals
        for final in finals:
            texts = [final.hypothesis.text, *(other.text for other in final.alternatives)]
            assert len(texts) > 1
            assert len(set(texts)) == len(texts)


def test_the_configuration_sets_lead_trail_and_confidence() -> None:
    config = ModelConfig(
        name="synthetic",
        decoder=DecoderConfig(word_lead_ms=60, word_trail_ms=100),
        confidence=ConfidenceConfig(method="logistic", bias=20.0),
    )
    found = HypothesisBuilder.from_config(config, 40.0)
    assert (found.lead_frames, found.trail_frames) == (2, 2)
    assert found.confidence(WordFeatures(0.5, -0.5, 3)) == pytest.approx(1.0)
