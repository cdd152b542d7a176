"""A session's state is bounded where nothing ever tells beams apart: noise, no language model, no endpoints."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from streamasr.config import DecoderConfig, EndpointConfig
from streamasr.decoding.hypothesis import Final
from streamasr.decoding.tokens import TokenList
from streamasr.decoding.utterance import UtteranceOptions, UtteranceState
from streamasr.errors import ConfigError
from tests.decoding.synthetic import (
    CHARACTERS,
    PIECES,
    TOKENS,
    beam_decoder,
    noise,
    spoken,
    utterance_decoder,
)

KINDS = pytest.mark.parametrize(
    "tokens", [TOKENS, PIECES, CHARACTERS], ids=["letters", "pieces", "characters"]
)
NEVER_MS = 10**8
ENDLESS = UtteranceOptions(
    endpointing=EndpointConfig(
        silence_ms=NEVER_MS, start_silence_ms=NEVER_MS, max_utterance_ms=NEVER_MS, max_overrun_ms=NEVER_MS
    ),
    partials=False,
)
CHUNK_FRAMES = 32
MEGABYTE = 1_000_000
MINUTE_FRAMES = 60 * 50


def session_bytes(state: UtteranceState) -> int:
    """The search's state and the committed words, as much as a session alone holds on to."""
    words = sum(
        sys.getsizeof(word) + sum(sys.getsizeof(getattr(word, name)) for name in word.__slots__)
        for word in state.committed
    )
    return state.beam.bytes + sys.getsizeof(state.committed) + words


def hear_noise(tokens: TokenList, config: DecoderConfig, frames: int) -> tuple[int, int, int]:
    """Bytes and open tokens of the largest state on the way, and how many finals there were."""
    decoder = utterance_decoder(config, lm=False, tokens=tokens)
    log_probs = noise(MINUTE_FRAMES, np.random.default_rng(0), spread=0.3, tokens=tokens)
    state = decoder.initial_state(ENDLESS)
    largest, most_open, finals = 0, 0, 0
    for start in range(0, frames, CHUNK_FRAMES):
        at = start % (MINUTE_FRAMES - CHUNK_FRAMES)
        state, events = decoder.step(state, log_probs[at : at + CHUNK_FRAMES])
        finals += sum(isinstance(event, Final) for event in events)
        largest = max(largest, session_bytes(state))
        most_open = max(most_open, state.beam.divergent_tokens)
    return largest, most_open, finals


@KINDS
@pytest.mark.parametrize("beam_width", [64, 512])
def test_beams_that_never_agree_hold_no_more_tokens_than_allowed(tokens, beam_width):
    most = 4 * beam_width
    _, most_open, _ = hear_noise(tokens, DecoderConfig(beam_width=beam_width, max_path_tokens=most), 320)
    assert most // 4 < most_open <= most


@KINDS
def test_the_search_alone_is_bounded_too_but_for_its_text(tokens):
    bounded, free = (
        beam_decoder(DecoderConfig(max_path_tokens=most), lm=False, tokens=tokens) for most in (100, 4096)
    )
    log_probs = noise(300, np.random.default_rng(0), spread=0.3, tokens=tokens)
    state = bounded.initial_state()
    for piece in np.array_split(log_probs, 30):
        state = bounded.step(state, piece)
        assert state.divergent_tokens <= 100
    assert free.step(free.initial_state(), log_probs).divergent_tokens > 100


def test_beams_that_share_their_past_may_hold_as_long_a_text_as_they_like():
    text = "the old house on the hill has been sold"
    said = spoken(text, np.random.default_rng(0), confusion=0.0)
    readings = []
    for most in (20, 4096):
        decoder = beam_decoder(DecoderConfig(beam_width=4, max_path_tokens=most))
        readings += decoder.hypotheses(decoder.step(decoder.initial_state(), said), final=True, count=1)
    assert [reading.text for reading in readings] == [text, text]
    assert readings[0].score == pytest.approx(readings[1].score)


def test_an_utterance_of_half_as_many_tokens_is_split_and_its_sentence_goes_on():
    decoder = utterance_decoder(DecoderConfig(max_path_tokens=40))
    said = spoken("the boat left the harbour before the sun came up", np.random.default_rng(1), confusion=0.0)
    state, events = decoder.step(decoder.initial_state(ENDLESS), said)
    _, last = decoder.flush(state)
    finals = [event for event in (*events, *last) if isinstance(event, Final)]
    # Twenty tokens that are over, and the one that follows.
    assert [len(final.hypothesis.text.replace(" ", "")) for final in finals] == [21, 19]
    assert [final.ends_sentence for final in finals] == [False, True]


@pytest.mark.parametrize("most", [0, -1])
def test_a_limit_below_one_token_is_refused(most):
    with pytest.raises(ConfigError, match="max_path_tokens must be positive"):
        DecoderConfig(max_path_tokens=most)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@KINDS
@pytest.mark.parametrize(("beam_width", "minutes"), [(64, 60), (512, 5)])
def test_an_hour_of_noise_without_endpoints_leaves_less_than_a_megabyte(tokens, beam_width, minutes):
    """At beam 512 five minutes, as they take long: several times what it takes to reach both limits."""
    config = DecoderConfig(beam_width=beam_width)
    largest, most_open, finals = hear_noise(tokens, config, minutes * MINUTE_FRAMES)
    assert config.max_path_tokens // 4 < most_open <= config.max_path_tokens
    assert finals > minutes // 3
    assert largest < MEGABYTE
