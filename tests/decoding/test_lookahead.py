"""Test utterances that end in the look-ahead of a chunk, and announced endings."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from streamasr.config import DecoderConfig, EndpointConfig
from streamasr.decoding.hypothesis import Final, Partial, UtteranceEnding, UtteranceEvent
from streamasr.decoding.lookahead import has_silence
from streamasr.decoding.utterance import UtteranceDecoder, UtteranceOptions
from streamasr.text import join_words
from tests.decoding.synthetic import SENTENCES, TOKENS, noise, silence, speech, utterance_decoder

HOP = 16
DECODER = utterance_decoder()
QUICK = EndpointConfig(silence_ms=300)
WORDS = EndpointConfig(
    min_silence_ms=200, max_silence_ms=1200, end_bias=4.0, end_silence=1.0, end_sentence=1.0
)
"""By these rules, a probable sentence ends after 200 ms of silence, an improbable one after 1200 ms."""


def stream(*texts: str, gap: int = 80, seed: int = 0) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    parts = [(speech(text, rng, confusion=0.0, tail_frames=0), silence(gap, rng)) for text in texts]
    return np.concatenate([part for pair in parts for part in pair])


def decode(
    log_probs_TV: NDArray[np.float32],
    options: UtteranceOptions,
    *,
    lookahead: int = HOP,
    decoder: UtteranceDecoder = DECODER,
) -> list[tuple[int, UtteranceEvent]]:
    """Decode in hops, with look-ahead of the true log-probs; each event with the frames received until then."""
    state, found = decoder.initial_state(options), []
    for at in range(0, len(log_probs_TV), HOP):
        end = min(at + HOP, len(log_probs_TV))
        preview_TV = log_probs_TV[end : end + lookahead]
        state, events = decoder.step(state, log_probs_TV[at:end], preview_TV)
        found += [(end + len(preview_TV), event) for event in events]
    _, events = decoder.flush(state)
    return [*found, *((len(log_probs_TV), event) for event in events)]


def finals(found: list[tuple[int, UtteranceEvent]]) -> list[tuple[int, str]]:
    return [(at, event.hypothesis.text) for at, event in found if isinstance(event, Final)]


@pytest.mark.parametrize("shift", range(0, HOP, 3))
def test_an_utterance_ends_as_soon_as_its_silence_has_been_received(shift: int) -> None:
    log_probs_TV = np.concatenate((silence(shift, np.random.default_rng(1)), stream("the sea", "she rang")))
    is_word_T = log_probs_TV.argmax(axis=1) != TOKENS.blank
    last = int(np.flatnonzero(is_word_T & (np.arange(len(is_word_T)) < len(is_word_T) // 2))[-1])
    needed = last + 1 + 15
    early, late = (
        finals(decode(log_probs_TV, UtteranceOptions(endpointing=QUICK), lookahead=frames))
        for frames in (HOP, 0)
    )
    assert [text for _, text in early] == [text for _, text in late] == ["the sea", "she rang"]
    assert 0 <= early[0][0] - needed < HOP
    assert 0 <= late[0][0] - needed < HOP


def test_the_frames_that_the_look_ahead_has_ended_are_not_decoded_again() -> None:
    log_probs_TV = stream("the sea", "she rang the bell", "the sea", gap=17)
    found = decode(log_probs_TV, UtteranceOptions(endpointing=QUICK))
    assert [text for _, text in finals(found)] == ["the sea", "she rang the bell", "the sea"]
    words = [word for _, event in found if isinstance(event, Final) for word in event.hypothesis.words]
    assert all(left.end_frame <= right.start_frame for left, right in itertools.pairwise(words))


def test_look_ahead_of_another_kind_than_what_follows_changes_no_later_utterance() -> None:
    """The look-ahead is silent where words follow: the utterance ends, and the words begin the next one."""
    rng = np.random.default_rng(3)
    first_TV, second_TV = (
        speech("the sea", rng, confusion=0.0, tail_frames=0),
        speech("she rang", rng, confusion=0.0),
    )
    state = DECODER.initial_state(UtteranceOptions(endpointing=QUICK))
    state, _ = DECODER.step(state, first_TV)
    state, (final,) = DECODER.step(state, silence(10, rng), silence(HOP, rng))
    assert isinstance(final, Final)
    assert state.frames_ahead == 5
    state, _ = DECODER.step(state, np.concatenate((silence(5, rng), second_TV)))
    assert state.frames_ahead == 0
    _, events = DECODER.flush(state)
    assert [event.hypothesis.text for event in events if isinstance(event, Final)] == ["she rang"]


def test_a_chunk_shorter_than_the_frames_ahead_is_skipped() -> None:
    rng = np.random.default_rng(3)
    state = DECODER.initial_state(UtteranceOptions(endpointing=QUICK))
    state, _ = DECODER.step(state, speech("the sea", rng, confusion=0.0, tail_frames=0))
    state, _ = DECODER.step(state, silence(4, rng), silence(HOP, rng))
    frame = state.frame
    state, events = DECODER.step(state, noise(3, rng))
    assert (state.frames_ahead, state.frame, events) == (8, frame, ())


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.integers(0, 80), st.booleans())
def test_with_true_look_ahead_the_finals_are_those_without_it(
    seed: int, count: int, gap: int, by_words: bool
) -> None:
    rng = np.random.default_rng(seed)
    texts = [SENTENCES[at] for at in rng.integers(0, len(SENTENCES), count)]
    parts = [(speech(text, rng, confusion=0.5), silence(gap, rng), noise(4, rng)) for text in texts]
    log_probs_TV = np.concatenate([part for triple in parts for part in triple])
    options = UtteranceOptions(endpointing=WORDS if by_words else QUICK)
    with_it, without = (
        [text for _, text in finals(decode(log_probs_TV, options, lookahead=frames))] for frames in (HOP, 0)
    )
    assert with_it == without


def test_a_finished_sentence_ends_sooner() -> None:
    finished, open_ = "i would like to hear the end of that story", "i would like to hear the end of"
    ends = {}
    for text in (finished, open_):
        log_probs_TV = stream(text, gap=100)
        last = int(np.flatnonzero(log_probs_TV.argmax(axis=1) != TOKENS.blank)[-1])
        ((at, _),) = finals(decode(log_probs_TV, UtteranceOptions(endpointing=WORDS)))
        ends[text] = at - last - 1
    assert 10 <= ends[finished] < 10 + HOP
    assert ends[open_] >= 10 + HOP


@pytest.mark.parametrize(
    ("before", "after", "frames", "found"),
    [
        (8, 5, 40, False),
        (8, 6, 40, True),
        (0, 14, 40, True),
        (16, 0, 40, False),
        (4, 3, 10, False),
        (4, 4, 10, True),
    ],
)
def test_silence_is_found_if_it_ends_in_the_look_ahead(
    before: int, after: int, frames: int, found: bool
) -> None:
    rng = np.random.default_rng(0)

    def words(count: int) -> NDArray[np.float32]:
        return np.roll(silence(count, rng), 3, axis=1)

    log_probs_TV = np.concatenate((words(HOP - before), silence(before, rng)))
    lookahead_TV = np.concatenate((silence(after, rng), words(HOP - after)))
    assert has_silence(log_probs_TV, lookahead_TV, frames, TOKENS) is found


def endings(found: list[tuple[int, UtteranceEvent]]) -> list[UtteranceEnding | Partial | Final]:
    return [event for _, event in found if isinstance(event, UtteranceEnding | Partial | Final)]


def test_an_ending_is_announced_and_the_final_has_its_text() -> None:
    options = UtteranceOptions(endpointing=replace(WORDS, min_silence_ms=800), ending_threshold=0.6)
    found = decode(stream("the boat left the harbour before the sun came up"), options)
    *_, ending, final = endings(found)
    assert isinstance(ending, UtteranceEnding)
    assert isinstance(final, Final)
    assert 0.6 <= ending.probability < 1
    assert (
        ending.hypothesis.text == final.hypothesis.text == "the boat left the harbour before the sun came up"
    )
    assert not any(
        isinstance(event, UtteranceEnding) for _, event in decode(stream("the sea"), UtteranceOptions())
    )


def test_a_partial_takes_an_ending_back() -> None:
    options = UtteranceOptions(endpointing=EndpointConfig(silence_ms=1500), ending_threshold=0.2)
    rng = np.random.default_rng(5)
    parts = (
        speech("the sea", rng, confusion=0.0),
        silence(40, rng),
        speech("shook the trees", rng, confusion=0.0),
    )
    found = endings(decode(np.concatenate((*parts, silence(90, rng))), options))
    kinds = [type(event) for event in found]
    first = kinds.index(UtteranceEnding)
    assert kinds[first + 1] is Partial
    assert kinds[-2:] == [UtteranceEnding, Final]
    back = found[first + 1]
    assert isinstance(back, Partial)
    assert back.hypothesis.text.startswith("the sea")


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 60), st.sampled_from([0.1, 0.3, 0.5]))
def test_between_an_ending_and_its_final_nothing_comes_and_the_text_is_the_same(
    seed: int, gap: int, threshold: float
) -> None:
    config = DecoderConfig(min_utterance_sharpness=0.2, min_partial_sharpness=0.3)
    decoder = UtteranceDecoder(utterance_decoder(config).beams, frame_ms=20.0, endpointing=EndpointConfig())
    rng = np.random.default_rng(seed)
    texts = [SENTENCES[at][:25].strip() for at in rng.integers(0, len(SENTENCES), 3)]
    parts = [(noise(3, rng), speech(text, rng, confusion=0.6), silence(gap, rng)) for text in texts]
    log_probs_TV = np.concatenate([part for triple in parts for part in triple])
    options = UtteranceOptions(endpointing=replace(WORDS, min_silence_ms=700), ending_threshold=threshold)
    found = endings(decode(log_probs_TV, options, decoder=decoder))
    for event, following in itertools.pairwise(found):
        if isinstance(event, UtteranceEnding):
            assert not isinstance(following, UtteranceEnding)
            assert following.utterance == event.utterance
            if isinstance(following, Final):
                assert following.hypothesis.text == event.hypothesis.text
    plain = replace(options, ending_threshold=None)
    without = decode(log_probs_TV, plain, decoder=decoder)
    assert join_words(e.hypothesis.text for e in found if isinstance(e, Final)) == join_words(
        e.hypothesis.text for _, e in without if isinstance(e, Final)
    )
