"""Test the laws of the decoder: splits change nothing, committed words stay, state and cost are bounded."""

from __future__ import annotations

import gc
import itertools
import math
import sys
import time
import tracemalloc
import types
from collections.abc import Iterable
from typing import NamedTuple

import kenlm
import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from streamasr.config import DecoderConfig, EndpointConfig
from streamasr.decoding.beam import BeamDecoder, LogProbs
from streamasr.decoding.hypothesis import Final, Hotword, Partial, UtteranceEvent, Word
from streamasr.decoding.language_model import LanguageModel
from streamasr.decoding.tokens import TokenList
from streamasr.decoding.utterance import UtteranceDecoder, UtteranceOptions, UtteranceState
from streamasr.text import join_words
from tests.decoding.synthetic import (
    CHARACTERS,
    FRAME_MS,
    LETTERS,
    PIECES,
    SENTENCES,
    TOKENS,
    kenlm_model,
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
EARLY_ENDPOINTS = EndpointConfig(
    silence_ms=300, start_silence_ms=400, max_utterance_ms=2000, max_overrun_ms=600, pause_ms=100
)
LONGEST_FRAMES = 1150
"""Frames of the longest utterance that the default endpoint rules allow."""
STATE_BYTES = 512 << 10
"""What docs/decoder-internals.md promises for one session's state."""


@st.composite
def streams(draw: st.DrawFn) -> LogProbs:
    """A few seconds of speech, silence and noise, partly ambiguous, for a token list of any kind."""
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
def splits(draw: st.DrawFn) -> list[int]:
    """Frames at which to split a stream; they may repeat, so that some chunks are empty."""
    return sorted(draw(st.lists(st.integers(0, 400), max_size=12)))


def decode(log_probs: LogProbs, cuts: Iterable[int], options: UtteranceOptions) -> list[UtteranceEvent]:
    decoder = DECODERS[log_probs.shape[1]]
    state = decoder.initial_state(options)
    events: list[UtteranceEvent] = []
    for piece in np.split(log_probs, [min(cut, len(log_probs)) for cut in cuts]):
        state, new = decoder.step(state, piece)
        events.extend(new)
    _, last = decoder.flush(state)
    return [*events, *last]


@settings(max_examples=30, deadline=None)
@given(streams(), splits())
def test_any_split_of_the_frames_gives_the_same_search(log_probs: LogProbs, cuts: list[int]) -> None:
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
def test_any_split_gives_the_same_finals_with_partials_or_without(
    log_probs: LogProbs, cuts: list[int], partials: bool
) -> None:
    options = UtteranceOptions(endpointing=EARLY_ENDPOINTS, alternatives=3, partials=partials)
    events = decode(log_probs, cuts, options)
    whole = decode(log_probs, [], UtteranceOptions(endpointing=EARLY_ENDPOINTS, alternatives=3))
    assert [e for e in events if not isinstance(e, Partial)] == [
        e for e in whole if not isinstance(e, Partial)
    ]


@settings(max_examples=30, deadline=None)
@given(streams(), splits())
def test_committed_words_never_change_and_the_final_begins_with_them(
    log_probs: LogProbs, cuts: list[int]
) -> None:
    committed: dict[int, tuple[Word, ...]] = {}
    for event in decode(log_probs, cuts, UtteranceOptions(endpointing=EARLY_ENDPOINTS)):
        if not isinstance(event, Partial | Final):
            continue
        before = committed.get(event.utterance, ())
        assert event.hypothesis.words[: len(before)] == before
        if isinstance(event, Partial):
            assert event.committed_words >= len(before)
            committed[event.utterance] = event.hypothesis.words[: event.committed_words]


@settings(max_examples=30, deadline=None)
@given(streams())
def test_committing_changes_no_final(log_probs: LogProbs) -> None:
    options = UtteranceOptions(endpointing=EndpointConfig(silence_ms=60_000, start_silence_ms=60_000))
    events = decode(log_probs, range(0, 400, 8), options)
    decoder = DECODERS[log_probs.shape[1]].beams
    plain = decoder.hypotheses(decoder.step(decoder.initial_state(), log_probs), final=True, count=1)[0]
    assert join_words(e.hypothesis.text for e in events if isinstance(e, Final)) == plain.text


@settings(max_examples=20, deadline=None)
@given(streams())
def test_words_do_not_overlap_and_confidences_are_probabilities(log_probs: LogProbs) -> None:
    for event in decode(log_probs, range(0, 400, 25), UtteranceOptions(endpointing=EARLY_ENDPOINTS)):
        if isinstance(event, Partial | Final):
            words = event.hypothesis.words
            assert all(0 <= word.start_frame < word.end_frame <= len(log_probs) for word in words)
            assert all(0.0 <= word.confidence <= 1.0 for word in words)
            assert all(left.end_frame <= right.start_frame for left, right in itertools.pairwise(words))


def state_bytes(state: UtteranceState) -> int:
    """Bytes of all that belongs to this state alone, in Python and in the native core."""
    shared = (type, types.ModuleType, types.FunctionType)
    seen = {id(DECODER.beams), id(DECODER.beams.lm)}
    total = state.beam.bytes
    todo: list[object] = [state]
    while todo:
        item = todo.pop()
        if id(item) in seen or isinstance(item, shared):
            continue
        seen.add(id(item))
        total += item.__sizeof__()
        todo.extend(gc.get_referents(item))
    return total


def test_a_state_is_bounded_by_its_longest_utterance_even_in_noise() -> None:
    rng = np.random.default_rng(1)
    state, largest = DECODER.initial_state(), 0
    for _ in range(LONGEST_FRAMES // 50 + 5):
        state, _ = DECODER.step(state, noise(50, rng))
        assert state.frame - state.start_frame <= LONGEST_FRAMES
        largest = max(largest, state_bytes(state))
    assert largest < STATE_BYTES


PAUSE_FRAMES = 60
"""More silence than ends an utterance."""
MINUTE_FRAMES = 60 * 50
CHUNK_FRAMES = 32
WARM_UP = 2
"""Minutes until the caches of the language model are full."""


class CountingModel:
    """A KenLM model that counts its queries."""

    def __init__(self, model: kenlm.Model) -> None:
        self._model = model
        self.order = model.order
        self.BeginSentenceWrite = model.BeginSentenceWrite
        self.queries = 0

    def BaseScore(self, state: kenlm.State, word: str, next_state: kenlm.State) -> float:
        self.queries += 1
        return float(self._model.BaseScore(state, word, next_state))

    def __contains__(self, word: str) -> bool:
        self.queries += 1
        return word in self._model


class Cost(NamedTuple):
    """What a minute of a session costs, in counts that no other process can change."""

    python_calls: int
    lm_queries: int
    search: int
    """Hash of the beams, divergent tokens and bytes after each chunk, on which the cost of a frame depends."""


def decode_minutes(minutes: int) -> tuple[set[Cost], NDArray[np.int64]]:
    """Decode the same minute of speech with pauses again and again in one session, after :data:`WARM_UP`.

    Returns:
        The different costs of minutes, and the bytes of memory in use after each.
    """
    rng = np.random.default_rng(0)
    config = DecoderConfig(lm_cache_entries=256)
    kenlm_trigram, words = kenlm_model()
    model = CountingModel(kenlm_trigram)
    lm = LanguageModel(model, words, config)
    decoder = UtteranceDecoder(
        BeamDecoder(TOKENS, lm, config), frame_ms=FRAME_MS, endpointing=EndpointConfig()
    )
    sentences = [speech(" ".join(rng.permutation(SENTENCES)[:3]), rng, confusion=0.4) for _ in range(40)]
    minute = np.concatenate([np.concatenate([text, silence(60, rng)]) for text in sentences])[:MINUTE_FRAMES]
    minute = np.concatenate([minute, silence(PAUSE_FRAMES, rng)])
    state, finals, calls = decoder.initial_state(), 0, 0
    # What the test itself keeps does not grow.
    costs: set[Cost] = set()
    memory = np.zeros(WARM_UP + minutes, dtype=np.int64)

    def count_call(_frame: types.FrameType, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    tracemalloc.start()
    try:
        for number in range(WARM_UP + minutes):
            calls = model.queries = 0
            chunks = []
            for start in range(0, len(minute), CHUNK_FRAMES):
                sys.setprofile(count_call)
                state, events = decoder.step(state, minute[start : start + CHUNK_FRAMES])
                sys.setprofile(None)
                finals += sum(isinstance(event, Final) for event in events)
                chunks.append((len(state.beam.beams), state.beam.divergent_tokens, state.beam.bytes))
            if number >= WARM_UP:
                costs.add(Cost(calls, model.queries, hash(tuple(chunks))))
            del chunks
            gc.collect()
            memory[number] = tracemalloc.get_traced_memory()[0] + state.beam.bytes
    finally:
        sys.setprofile(None)
        tracemalloc.stop()
    assert state.frame == (WARM_UP + minutes) * len(minute)
    assert finals > 2 * minutes
    assert lm.cached_entries <= 2 * config.lm_cache_entries
    return costs, memory[WARM_UP:]


def assert_flat(costs: set[Cost], memory: NDArray[np.int64]) -> None:
    (cost,) = costs
    assert cost.python_calls > 1000
    assert cost.lm_queries > 100
    half = len(memory) // 2
    assert max(memory[half:]) < 1.05 * max(memory[:half])


def test_four_minutes_cost_the_same_each() -> None:
    assert_flat(*decode_minutes(4))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_sixty_minutes_cost_the_same_each() -> None:
    assert_flat(*decode_minutes(60))


HOUR_FRAMES = 60 * MINUTE_FRAMES
MEGABYTE = 1 << 20


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_after_an_hour_a_session_holds_less_than_a_megabyte() -> None:
    rng = np.random.default_rng(3)
    config = DecoderConfig(beam_width=128, lm_cache_entries=1000)
    decoder, sessions, chunk = utterance_decoder(config), 4, 50
    sentences = [speech(" ".join(rng.permutation(SENTENCES)[:2]), rng, confusion=0.5) for _ in range(20)]
    stream = np.concatenate([np.concatenate([text, silence(60, rng)]) for text in sentences])
    states, largest = [decoder.initial_state() for _ in range(sessions)], 0
    resident: list[int] = []
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
def test_a_thousand_hotwords_cost_a_tenth_more_at_most() -> None:
    """Boosts are too small to change the search, as more or fewer beams would change the cost, too."""
    rng = np.random.default_rng(4)
    decoder = utterance_decoder(lm=False).beams
    pieces = [*(speech(text, rng, confusion=0.5) for text in SENTENCES), noise(100, rng)]
    words = {"".join(rng.choice(list(LETTERS), size=size)) for size in rng.integers(3, 10, size=1200)}
    many = decoder.compile_hotwords(Hotword(word, 1e-6) for word in sorted(words)[:1000])
    least: dict[int, float] = {}
    for compiled in [decoder.compile_hotwords(()), many] * 15:
        began = time.process_time()
        for log_probs in pieces:
            decoder.step(decoder.initial_state(compiled), log_probs)
        least[compiled.bytes] = min(least.get(compiled.bytes, math.inf), time.process_time() - began)
    none, thousand = (least[count] for count in sorted(least))
    assert thousand < 1.1 * none
