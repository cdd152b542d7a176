"""Compare the native search with the readable one in ``tests/decoding/oracle``."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamasr.config import DecoderConfig, EndpointConfig
from streamasr.decoding.beam import BeamState, CommitRules, LogProbs
from streamasr.decoding.hypothesis import (
    Final,
    Hotword,
    Hypothesis,
    Partial,
    SpeechStarted,
    UtteranceEvent,
)
from streamasr.decoding.nbest import NBestEntry, TimedWord
from streamasr.decoding.tokens import TokenList
from streamasr.decoding.utterance import UtteranceOptions
from tests.decoding.oracle.builders import oracle_beams, oracle_utterances
from tests.decoding.oracle.protocol import AnyUtteranceDecoder, S
from tests.decoding.oracle.state import BeamState as OracleState
from tests.decoding.oracle.state import divergent_tokens, rivals, stable_text
from tests.decoding.synthetic import (
    CHARACTERS,
    PIECES,
    TOKENS,
    beam_decoder,
    log_normalised,
    noise,
    sentences_of,
    silence,
    speech,
    utterance_decoder,
)

LOOSE_PIECES = TokenList((*PIECES.tokens, "▁"))
KINDS = (TOKENS, LOOSE_PIECES, CHARACTERS)
CLOSE = 1e-9
"""Relative and absolute. Sums are in the same order, so only the last bit of the C library's functions may differ."""
HOTWORDS = {
    len(TOKENS): ("harbour", "the old house", "old house", "old house on the hill", "he", "zebra", "the the"),
    len(LOOSE_PIECES): ("harbour", "the old house", "house on the", "in", "storm"),
    len(CHARACTERS): ("今天", "天天气", "北京", "天", "明天去"),
}
IMPATIENT = EndpointConfig(
    silence_ms=300, start_silence_ms=400, max_utterance_ms=2000, max_overrun_ms=600, pause_ms=100
)
tokens_of_any_kind = st.sampled_from(KINDS)


@st.composite
def log_probs_of(draw: st.DrawFn, tokens: TokenList) -> LogProbs:
    """Log-probs of a sentence or of noise, sharp or flat, as float32 or float64."""
    log_probs: LogProbs
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    sentence = draw(st.sampled_from(sentences_of(tokens)))
    match draw(st.sampled_from(["doubtful", "flat", "noise"])):
        case "doubtful":
            log_probs = speech(sentence, rng, confusion=0.6, tokens=tokens)
        case "flat":
            sharp = speech(sentence[:25].strip(), rng, confusion=0.5, tokens=tokens).astype(np.float64)
            log_probs = log_normalised(np.exp(sharp * draw(st.sampled_from([0.4, 0.7]))))
        case _:
            log_probs = noise(15, rng, spread=draw(st.sampled_from([1.0, 2.0, 4.0])), tokens=tokens)
    if draw(st.booleans()):
        return log_probs.astype(np.float32)
    return log_probs.astype(np.float64)


@st.composite
def hotwords(draw: st.DrawFn, tokens: TokenList) -> tuple[Hotword, ...]:
    """Some of the language's hotwords, a few of them with a negative boost."""
    texts = draw(st.lists(st.sampled_from(HOTWORDS[len(tokens)]), max_size=4))
    return tuple(Hotword(text, draw(st.sampled_from([-2.0, 1.5, 4.0, 9.0]))) for text in texts)


configs = st.builds(
    DecoderConfig,
    beam_width=st.sampled_from([1, 4, 48]),
    beam_prune_log_prob=st.sampled_from([-3.0, -10.0]),
    alpha=st.sampled_from([0.0, 0.5]),
    beta=st.sampled_from([-1.0, 1.5]),
    unk_score_offset=st.sampled_from([-10.0, 0.5]),
    prune_history=st.booleans(),
    charge_empty_last_word=st.booleans(),
    max_path_tokens=st.sampled_from([5, 30, 4096]),
)


def close(value: float) -> object:
    return pytest.approx(value, rel=CLOSE, abs=CLOSE)


def assert_same_beams(state: BeamState, expected: OracleState) -> None:
    texts = [(history, part, token) for history, part, token, *_ in state.beams]
    assert texts == [(beam.history.text, beam.partial_word, beam.last_token) for beam in expected.beams]
    scores = np.array([scores for _, _, _, *scores in state.beams])
    others = [
        (beam.score, beam.path_score, beam.history.score, beam.partial_word_score) for beam in expected.beams
    ]
    np.testing.assert_allclose(scores, others, rtol=CLOSE, atol=CLOSE)
    assert state.blank_log_prob == close(expected.blank_log_prob)
    assert state.frame == expected.frame
    assert state.divergent_tokens >= divergent_tokens(expected.beams)


def sharpness(word: TimedWord) -> float:
    return min(1.0, math.exp(sum(token.max_log_prob for token in word.tokens) / len(word.tokens)))


def assert_same_nbest(entries: list[NBestEntry], expected: tuple[Hypothesis, ...]) -> None:
    assert ["".join(word.text for word in entry.words) for entry in entries] == [
        "".join(word.text for word in hypothesis.words) for hypothesis in expected
    ]
    for entry, hypothesis in zip(entries, expected, strict=True):
        assert entry.score == close(hypothesis.score)
        for word, other in zip(entry.words, hypothesis.words, strict=True):
            assert (word.text, word.start_frame, word.end_frame) == (
                other.text,
                other.start_frame,
                other.end_frame,
            )
            assert word.posterior * sharpness(word) == close(other.confidence)


@settings(max_examples=40, deadline=None)
@given(st.data(), tokens_of_any_kind, configs, st.booleans())
def test_beams_and_nbest_lists_equal_the_oracles(
    data: st.DataObject, tokens: TokenList, config: DecoderConfig, lm: bool
) -> None:
    log_probs, boosted = data.draw(log_probs_of(tokens)), data.draw(hotwords(tokens))
    native = beam_decoder(config, lm=lm, tokens=tokens)
    oracle = oracle_beams(config, lm=lm, tokens=tokens)
    previous_words = data.draw(st.sampled_from([(), ("the", "old"), ("zzz",)]))
    state = native.initial_state(boosted, frame=7, previous_words=previous_words)
    expected = oracle.initial_state(boosted, frame=7, previous_words=previous_words)
    for piece in np.array_split(log_probs, 3):
        state, expected = native.step(state, piece), oracle.step(expected, piece)
        assert_same_beams(state, expected)
    for final, end in ((False, False), (True, False), (True, True)):
        assert_same_nbest(
            native.nbest(state, final=final, count=30, end_of_sentence=end),
            oracle.hypotheses(expected, final=final, count=30, end_of_sentence=end),
        )


@settings(max_examples=40, deadline=None)
@given(st.data(), tokens_of_any_kind, configs, st.sampled_from([0.0, 1.0, 5.0]), st.integers(1, 30))
def test_rescored_commits_equal_the_oracles(
    data: st.DataObject, tokens: TokenList, config: DecoderConfig, margin: float, most: int
) -> None:
    native, oracle = beam_decoder(config, tokens=tokens), oracle_beams(config, tokens=tokens)
    state, expected = native.initial_state(), oracle.initial_state()
    rules = CommitRules(math.inf, margin, most)
    for piece in np.array_split(data.draw(log_probs_of(tokens)), 4):
        state, expected = native.step(state, piece), oracle.step(expected, piece)
        texts = rivals(expected, margin)[:most]
        committed = len(expected.committed.split())
        assert native.rivals(state, rules) == [text.split()[committed:] for text in texts]
        gains = [data.draw(st.floats(-5, 5)) for _ in texts]
        text = stable_text(expected, margin, dict(zip(texts, gains, strict=True)))
        result = native.commit_rescored(state, rules, gains)
        if len(text.split()) <= committed:
            assert result is None
            continue
        assert result is not None
        state, best = result
        assert state.committed == text
        assert [word.text for word in best.words][: len(text.split())] == text.split()
        kept = [beam for beam in expected.beams if f"{beam.history.text} ".startswith(f"{text} ")]
        expected = replace(expected, beams=tuple(kept), committed=text)
        assert_same_beams(state, expected)


def test_every_rival_needs_a_gain() -> None:
    native = beam_decoder()
    with pytest.raises(ValueError, match="expected 0 gains, got 1"):
        native.commit_rescored(native.initial_state(), CommitRules(math.inf, 4.0, 20), [1.0])


@settings(max_examples=25, deadline=None)
@given(st.data(), tokens_of_any_kind)
def test_changed_hotwords_and_committed_words_equal_the_oracles(
    data: st.DataObject, tokens: TokenList
) -> None:
    native, oracle = beam_decoder(tokens=tokens), oracle_beams(tokens=tokens)
    state, expected = native.initial_state(), oracle.initial_state()
    for piece in np.array_split(data.draw(log_probs_of(tokens)), 4):
        boosted = data.draw(hotwords(tokens))
        state, expected = native.with_hotwords(state, boosted), oracle.with_hotwords(expected, boosted)
        assert_same_beams(state, expected)
        state, expected = native.step(state, piece), oracle.step(expected, piece)
        text = data.draw(st.sampled_from([beam.history.text for beam in expected.beams]))
        if text.startswith(expected.committed):
            state, expected = native.commit(state, text), oracle.commit(expected, text)
            assert state.committed == text
        assert_same_beams(state, expected)


def events_of(
    decoder: AnyUtteranceDecoder[S],
    log_probs: LogProbs,
    options: UtteranceOptions,
    cuts: list[int],
    later_hotwords: tuple[Hotword, ...],
) -> list[UtteranceEvent]:
    """Decode chunk by chunk; ``later_hotwords`` replace the hotwords before the third chunk."""
    state = decoder.initial_state(options)
    events: list[UtteranceEvent] = []
    for number, piece in enumerate(np.split(log_probs, cuts)):
        if number == 2:
            state = decoder.configure(state, later_hotwords)
        state, new = decoder.step(state, piece)
        events.extend(new)
    state, last = decoder.flush(state)
    assert state.frame == len(log_probs)
    return [*events, *last]


def outline(event: UtteranceEvent) -> object:
    """An event without its scores and confidences."""
    if isinstance(event, SpeechStarted):
        return event
    others = event.alternatives if isinstance(event, Final) else ()
    texts = [
        [(word.text, word.start_frame, word.end_frame) for word in hypothesis.words]
        for hypothesis in (event.hypothesis, *others)
    ]
    return type(event), event.utterance, event.committed_words if isinstance(event, Partial) else None, texts


@settings(max_examples=25, deadline=None)
@given(st.data(), tokens_of_any_kind, st.sampled_from([8, 40, 4096]))
def test_utterances_equal_the_oracles(data: st.DataObject, tokens: TokenList, max_path_tokens: int) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    pieces: list[LogProbs] = []
    for _ in range(3):
        pieces += [
            data.draw(log_probs_of(tokens)),
            silence(data.draw(st.integers(0, 60)), rng, tokens=tokens),
        ]
    log_probs = np.concatenate(pieces)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(log_probs)), max_size=8)))
    options = UtteranceOptions(
        hotwords=data.draw(hotwords(tokens)),
        endpointing=data.draw(st.sampled_from([IMPATIENT, EndpointConfig()])),
        alternatives=3,
    )
    later_hotwords = data.draw(hotwords(tokens))
    config = DecoderConfig(max_path_tokens=max_path_tokens)
    native, oracle = utterance_decoder(config, tokens=tokens), oracle_utterances(config, tokens=tokens)
    got = events_of(native, log_probs, options, cuts, later_hotwords)
    expected = events_of(oracle, log_probs, options, cuts, later_hotwords)
    assert [outline(event) for event in got] == [outline(event) for event in expected]
    for event, other in zip(got, expected, strict=True):
        if isinstance(event, Final):
            assert isinstance(other, Final)
            assert event.hypothesis.score == close(other.hypothesis.score)


def test_sessions_stepped_together_equal_sessions_alone() -> None:
    rng = np.random.default_rng(0)
    decoder = utterance_decoder()
    options = [
        UtteranceOptions(endpointing=endpointing, hotwords=(Hotword("harbour", boost),))
        for endpointing in (IMPATIENT, EndpointConfig())
        for boost in (1.0, 5.0, 9.0, 12.0)
    ]
    streams = [
        np.concatenate([speech(text, rng, confusion=0.6), silence(30, rng), noise(10, rng)])
        for text in sentences_of(TOKENS)[: len(options)]
    ]
    alone = [
        events_of(decoder, stream, option, [16, 40], ())
        for stream, option in zip(streams, options, strict=True)
    ]
    for threads in (1, 2, 3, 16):
        states = [decoder.initial_state(option) for option in options]
        together: list[list[UtteranceEvent]] = [[] for _ in streams]
        for number in range(3):
            if number == 2:
                states = [decoder.configure(state, ()) for state in states]
            chunks = [np.split(stream, [16, 40])[number] for stream in streams]
            outcomes = decoder.step_all(list(zip(states, chunks, strict=True)), threads=threads)
            states = [state for state, _ in outcomes]
            for events, (_, new) in zip(together, outcomes, strict=True):
                events.extend(new)
        for events, state in zip(together, states, strict=True):
            events.extend(decoder.flush(state)[1])
        assert together == alone


def test_a_state_is_a_value_that_can_be_stepped_twice() -> None:
    rng = np.random.default_rng(1)
    decoder = beam_decoder()
    before = decoder.step(decoder.initial_state(), speech("the old house", rng, confusion=0.5))
    beams, hypotheses = before.beams, decoder.hypotheses(before, final=True, count=5)
    words, others = speech("on the hill", rng), noise(20, rng)
    branches = [decoder.step(before, log_probs).beams for log_probs in (words, others, words)]
    assert branches[0] == branches[2] != branches[1]
    assert before.beams == beams
    assert decoder.hypotheses(before, final=True, count=5) == hypotheses


def test_an_empty_entry_is_an_empty_hypothesis() -> None:
    decoder = beam_decoder()
    (entry,) = decoder.nbest(decoder.initial_state(), final=False, count=3)
    assert entry.words == []
    assert decoder.hypotheses(decoder.initial_state(), final=False, count=3) == (Hypothesis((), 0.0),)
