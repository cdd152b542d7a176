"""Laws of the decoder: no result depends on how frames are cut, settled words stay, state and time are
bounded.
"""

from __future__ import annotations

import gc
import itertools
import math
import statistics
import time
import tracemalloc
import types

import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamasr.config import DecoderConfig, EndpointConfig
from streamasr.decoding.hypothesis import Final, Hotword, Partial
from streamasr.decoding.tokens import TokenList
from streamasr.decoding.utterance import UtteranceOptions
from streamasr.text import join_words
from tests.decoding.synthetic import (
    CHARACTERS,
    LETTERS,
    PIECES,
    SENTENCES,
    TOKENS,
    log_normalised,
    noise,
    sentences_of,
    silence,
    speech,
    utterance_decoder,
)

LOOSE_PIECES = TokenList((*PIECES.tokens, "▁"))
"""Word pieces with a separator, as SentencePiece makes them."""
DECODERS = {len(tokens): utterance_decoder(tokens=tokens) for tokens in (TOKENS, LOOSE_PIECES, CHARACTERS)}
"""By their number of tokens."""
DECODER = DECODERS[len(TOKENS)]
IMPATIENT = EndpointConfig(
    silence_ms=300, start_silence_ms=400, max_utterance_ms=2000, max_overrun_ms=600, pause_ms=100
)
LONGEST_FRAMES = 1150
"""Frames of the longest utterance that the default endpoint rules allow."""
STATE_BYTES = 512 << 10
"""What docs/decoder-internals.md promises for one session's state."""


@st.composite
def streams(draw):
    """Speech, silence and noise of a few seconds, with doubts, in tokens of any kind."""
    tokens = draw(st.sampled_from([decoder.beams.tokens for decoder in DECODERS.values()]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    sentences = st.sampled_from(sentences_of(tokens))
    confusion = draw(st.sampled_from([0.1, 0.6]))
    pieces = [
        silence(draw(st.integers(0, 30)), rng, tokens=tokens),
        speech(draw(sentences), rng, confusion=confusion, tokens=tokens),
        silence(draw(st.integers(0, 60)), rng, tokens=tokens),
        noise(draw(st.integers(0, 8)), rng, tokens=tokens),
        speech(draw(sentences)[:20].strip(), rng, confusion=0.5, tokens=tokens),
    ]
    sharpness = draw(st.sampled_from([1.0, 0.65]))
    return log_normalised(np.exp(np.concatenate(pieces).astype(np.float64) * sharpness))


@st.composite
def splits(draw, longest=400):
    """Places to cut a stream; cuts may repeat, so that some chunks are empty."""
    return sorted(draw(st.lists(st.integers(0, longest), max_size=12)))


def listen(log_probs, cuts, options):
    decoder = DECODERS[log_probs.shape[1]]
    state, events = decoder.initial_state(options), []
    for piece in np.split(log_probs, [min(cut, len(log_probs)) for cut in cuts]):
        state, said = decoder.step(state, piece)
        events.extend(said)
    _, said = decoder.flush(state)
    return [*events, *said]


@settings(max_examples=30, deadline=None)
@given(streams(), splits())
def test_any_split_of_the_frames_gives_the_same_search(log_probs, cuts):
    decoder = DECODERS[log_probs.shape[1]].beams
    whole = decoder.step(decoder.initial_state(), log_probs)
    split = decoder.initial_state()
    for piece in np.split(log_probs, [min(cut, len(log_probs)) for cut in cuts]):
        split = decoder.step(split, piece)
    for final in (False, True):
        got = decoder.hypotheses(split, final=final, count=10)
        assert got == decoder.hypotheses(whole, final=final, count=10)


@settings(max_examples=30, deadline=None)
@given(streams(), splits(), st.booleans())
def test_any_split_gives_the_same_finals_with_partials_or_without(log_probs, cuts, partials):
    options = UtteranceOptions(endpointing=IMPATIENT, alternatives=3, partials=partials)
    events = listen(log_probs, cuts, options)
    whole = listen(log_probs, [], UtteranceOptions(endpointing=IMPATIENT, alternatives=3))
    assert [e for e in events if not isinstance(e, Partial)] == [
        e for e in whole if not isinstance(e, Partial)
    ]


@settings(max_examples=30, deadline=None)
@given(streams(), splits())
def test_committed_words_never_change_and_the_final_begins_with_them(log_probs, cuts):
    committed: dict[int, tuple] = {}
    for event in listen(log_probs, cuts, UtteranceOptions(endpointing=IMPATIENT)):
        if not isinstance(event, Partial | Final):
            continue
        before = committed.get(event.utterance, ())
        assert event.hypothesis.words[: len(before)] == before
        if isinstance(event, Partial):
            assert event.committed_words >= len(before)
            committed[event.utterance] = event.hypothesis.words[: event.committed_words]


@settings(max_examples=30, deadline=None)
@given(streams())
def test_committing_changes_no_final(log_probs):
    options = UtteranceOptions(endpointing=EndpointConfig(silence_ms=60_000, start_silence_ms=60_000))
    events = listen(log_probs, range(0, 400, 8), options)
    decoder = DECODERS[log_probs.shape[1]].beams
    plain = decoder.hypotheses(decoder.step(decoder.initial_state(), log_probs), final=True, count=1)[0]
    assert join_words(e.hypothesis.text for e in events if isinstance(e, Final)) == plain.text


@settings(max_examples=20, deadline=None)
@given(streams())
def test_words_follow_each_other_and_confidences_are_probabilities(log_probs):
    for event in listen(log_probs, range(0, 400, 25), UtteranceOptions(endpointing=IMPATIENT)):
        if isinstance(event, Partial | Final):
            words = event.hypothesis.words
            assert all(0 <= word.start_frame < word.end_frame <= len(log_probs) for word in words)
            assert all(0.0 <= word.confidence <= 1.0 for word in words)
            assert all(one.end_frame <= two.start_frame for one, two in itertools.pairwise(words))


def state_bytes(state):
    """Bytes of everything only this state holds on to, in Python and in the native core."""
    shared = (type, types.ModuleType, types.FunctionType)
    seen = {id(DECODER.beams), id(DECODER.beams.lm)}
    total, todo = state.beam.bytes, [state]
    while todo:
        item = todo.pop()
        if id(item) in seen or isinstance(item, shared):
            continue
        seen.add(id(item))
        total += item.__sizeof__()
        todo.extend(gc.get_referents(item))
    return total


def test_a_state_is_bounded_by_its_longest_utterance_even_in_noise():
    rng = np.random.default_rng(1)
    state, largest = DECODER.initial_state(), 0
    for _ in range(LONGEST_FRAMES // 50 + 5):
        state, _ = DECODER.step(state, noise(50, rng))
        assert state.frame - state.start_frame <= LONGEST_FRAMES
        largest = max(largest, state_bytes(state))
    assert largest < STATE_BYTES


PAUSE_FRAMES = 60
"""More silence than ends an utterance."""


def listen_for(minutes):
    """CPU seconds and Python memory of each minute of speech with pauses, after one to fill the caches."""
    rng = np.random.default_rng(0)
    config = DecoderConfig(lm_cache_entries=256)
    decoder = utterance_decoder(config)
    said = [speech(" ".join(rng.permutation(SENTENCES)[:3]), rng, confusion=0.4) for _ in range(40)]
    minute = np.concatenate([np.concatenate([text, silence(60, rng)]) for text in said])[: 50 * 60]
    state, seconds, memory, finals = decoder.initial_state(), [], [], 0
    tracemalloc.start()
    try:
        for _ in range(1 + minutes):
            began = time.process_time()
            for start in range(0, len(minute), 32):
                state, events = decoder.step(state, minute[start : start + 32])
                finals += sum(isinstance(event, Final) for event in events)
            seconds.append(time.process_time() - began)
            # Memory is compared at rest: how far an utterance has come is not growth.
            state, _ = decoder.step(state, silence(PAUSE_FRAMES, rng))
            gc.collect()
            memory.append(tracemalloc.get_traced_memory()[0] + state.beam.bytes)
            minute = np.roll(minute, 977, axis=0)
    finally:
        tracemalloc.stop()
    assert state.frame == (1 + minutes) * (50 * 60 + PAUSE_FRAMES)
    assert finals > 2 * minutes
    assert decoder.beams.lm.cached_entries <= 2 * config.lm_cache_entries
    return seconds[1:], memory[1:]


def assert_flat(seconds, memory, growth):
    half = len(seconds) // 2
    assert statistics.median(seconds[half:]) < 1.5 * statistics.median(seconds[:half])
    assert max(memory[half:]) < growth * max(memory[:half])


def test_four_minutes_cost_the_same_each():
    assert_flat(*listen_for(4), growth=1.05)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_sixty_minutes_cost_the_same_each():
    assert_flat(*listen_for(60), growth=1.05)


HOUR_FRAMES = 60 * 60 * 50
MEGABYTE = 1 << 20


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_after_an_hour_a_session_holds_less_than_a_megabyte():
    rng = np.random.default_rng(3)
    config = DecoderConfig(beam_width=128, lm_cache_entries=1000)
    decoder, sessions, chunk = utterance_decoder(config), 4, 50
    said = [speech(" ".join(rng.permutation(SENTENCES)[:2]), rng, confusion=0.5) for _ in range(20)]
    stream = np.concatenate([np.concatenate([text, silence(60, rng)]) for text in said])
    states, largest, resident = [decoder.initial_state() for _ in range(sessions)], 0, []
    for step in range(HOUR_FRAMES // chunk):
        starts = [(step * chunk + 301 * session) % (len(stream) - chunk) for session in range(sessions)]
        work = [(state, stream[start : start + chunk]) for state, start in zip(states, starts, strict=True)]
        states = [state for state, _ in decoder.step_all(work, threads=2)]
        largest = max(largest, *(state.beam.bytes for state in states))
        if step * chunk % (HOUR_FRAMES // 60) == 0:
            gc.collect()
            resident.append(psutil.Process().memory_info().rss)
    assert largest < MEGABYTE
    assert resident[-1] - resident[5] < sessions * MEGABYTE


@pytest.mark.slow
def test_a_thousand_hotwords_cost_a_tenth_more_at_most():
    """The work of listening, that is: boosts too small to change the search, which would cost or save beams."""
    rng = np.random.default_rng(4)
    decoder = utterance_decoder(lm=False).beams
    said = [*(speech(text, rng, confusion=0.5) for text in SENTENCES), noise(100, rng)]
    words = {"".join(rng.choice(list(LETTERS), size=size)) for size in rng.integers(3, 10, size=1200)}
    many = decoder.compile_hotwords(Hotword(word, 1e-6) for word in sorted(words)[:1000])
    least = {}
    for ready in [decoder.compile_hotwords(()), many] * 15:
        began = time.process_time()
        for log_probs in said:
            decoder.step(decoder.initial_state(ready), log_probs)
        least[ready.bytes] = min(least.get(ready.bytes, math.inf), time.process_time() - began)
    none, thousand = (least[count] for count in sorted(least))
    assert thousand < 1.1 * none
