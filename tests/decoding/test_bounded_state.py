"""Test that the state of a session is bounded even if its beams never agree, as in noise without endpoints."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from streamasr.config import DecoderConfig, EndpointConfig
from streamasr.decoding.hypothesis import Final, Hypothesis
from streamasr.decoding.tokens import TokenList
from streamasr.decoding.utterance import UtteranceOptions, UtteranceState
from streamasr.errors import ConfigError
from tests.decoding.synthetic import (
    CHARACTERS,
    PIECES,
    TOKENS,
    beam_decoder,
    noise,
    speech,
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
    """Bytes of the search state and the committed words, which belong to this session alone."""
    words = sum(
        sys.getsizeof(word) + sum(sys.getsizeof(getattr(word, name)) for name in word.__slots__)
        for word in state.committed
    )
    return state.beam.bytes + sys.getsizeof(state.committed) + words


def decode_noise(tokens: TokenList, config: DecoderConfig, frames: int) -> tuple[int, int, int]:
    """Return the largest number of bytes and of divergent tokens, and the number of finals."""
    decoder = utterance_decoder(config, lm=False, tokens=tokens)
    log_probs = noise(MINUTE_FRAMES, np.random.default_rng(0), spread=0.3, tokens=tokens)
    state = decoder.initial_state(ENDLESS)
    largest, most_divergent, finals = 0, 0, 0
    for start in range(0, frames, CHUNK_FRAMES):
        at = start % (MINUTE_FRAMES - CHUNK_FRAMES)
        state, events = decoder.step(state, log_probs[at : at + CHUNK_FRAMES])
        finals += sum(isinstance(event, Final) for event in events)
        largest = max(largest, session_bytes(state))
        most_divergent = max(most_divergent, state.beam.divergent_tokens)
    return largest, most_divergent, finals


@KINDS
@pytest.mark.parametrize("beam_width", [64, 512])
def test_beams_that_never_agree_have_at_most_max_path_tokens(tokens: TokenList, beam_width: int) -> None:
    most = 4 * beam_width
    _, most_divergent, _ = decode_noise(
        tokens, DecoderConfig(beam_width=beam_width, max_path_tokens=most), 320
    )
    assert most // 4 < most_divergent <= most


@KINDS
def test_a_search_without_utterances_is_bounded_but_for_its_text(tokens: TokenList) -> None:
    bounded, unbounded = (
        beam_decoder(DecoderConfig(max_path_tokens=most), lm=False, tokens=tokens) for most in (100, 4096)
    )
    log_probs = noise(300, np.random.default_rng(0), spread=0.3, tokens=tokens)
    state = bounded.initial_state()
    for piece in np.array_split(log_probs, 30):
        state = bounded.step(state, piece)
        assert state.divergent_tokens <= 100
    assert unbounded.step(unbounded.initial_state(), log_probs).divergent_tokens > 100


def test_a_text_that_all_beams_share_may_be_longer_than_the_limit() -> None:
    text = "the old house on the hill has been sold"
    log_probs = speech(text, np.random.default_rng(0), confusion=0.0)
    hypotheses: list[Hypothesis] = []
    for most in (20, 4096):
        decoder = beam_decoder(DecoderConfig(beam_width=4, max_path_tokens=most))
        state = decoder.step(decoder.initial_state(), log_probs)
        hypotheses += decoder.hypotheses(state, final=True, count=1)
    assert [hypothesis.text for hypothesis in hypotheses] == [text, text]
    assert hypotheses[0].score == pytest.approx(hypotheses[1].score)


def test_an_utterance_with_half_of_the_tokens_is_split_and_its_sentence_goes_on() -> None:
    decoder = utterance_decoder(DecoderConfig(max_path_tokens=40))
    log_probs = speech(
        "the boat left the harbour before the sun came up", np.random.default_rng(1), confusion=0.0
    )
    state, events = decoder.step(decoder.initial_state(ENDLESS), log_probs)
    _, last = decoder.flush(state)
    finals = [event for event in (*events, *last) if isinstance(event, Final)]
    # Twenty finished tokens and the open one.
    assert [len(final.hypothesis.text.replace(" ", "")) for final in finals] == [21, 19]
    assert [final.ends_sentence for final in finals] == [False, True]


@pytest.mark.parametrize("most", [0, -1])
def test_a_limit_below_one_token_is_refused(most: int) -> None:
    with pytest.raises(ConfigError, match="max_path_tokens must be positive"):
        DecoderConfig(max_path_tokens=most)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@KINDS
@pytest.mark.parametrize(("beam_width", "minutes"), [(64, 60), (512, 5)])
def test_an_hour_of_noise_without_endpoints_needs_less_than_a_megabyte(
    tokens: TokenList, beam_width: int, minutes: int
) -> None:
    """Five minutes at a beam of 512, as they are slow: long enough to reach both limits several times."""
    config = DecoderConfig(beam_width=beam_width)
    largest, most_divergent, finals = decode_noise(tokens, config, minutes * MINUTE_FRAMES)
    assert config.max_path_tokens // 4 < most_divergent <= config.max_path_tokens
    assert finals > minutes // 3
    assert largest < MEGABYTE
