"""Test utterances: their events, committed words and endpoints."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable

import numpy as np
import pytest
from numpy.typing import NDArray

from streamasr.config import DecoderConfig, EndpointConfig
from streamasr.decoding.beam import LogProbs
from streamasr.decoding.confidence import WordFeatures
from streamasr.decoding.hypothesis import (
    Final,
    Hotword,
    Hypothesis,
    Partial,
    SpeechStarted,
    UtteranceEvent,
    Word,
)
from streamasr.decoding.tokens import TokenList
from streamasr.decoding.utterance import UtteranceDecoder, UtteranceOptions, UtteranceState
from streamasr.errors import ConfigError
from tests.decoding.synthetic import (
    CHARACTERS,
    PIECES,
    TOKENS,
    log_normalised,
    noise,
    silence,
    speech,
    utterance_decoder,
)

DECODER = utterance_decoder()


def utterances(
    *texts: str, gap: int = 60, seed: int = 0, confusion: float = 0.0, tokens: TokenList = TOKENS
) -> tuple[NDArray[np.float32], list[int]]:
    """Log-probs of ``texts`` with ``gap`` silent frames after each, and the frames at which they begin."""
    rng = np.random.default_rng(seed)
    pieces: list[NDArray[np.float32]] = []
    starts: list[int] = []
    frame = 0
    for text in texts:
        spoken = speech(text, rng, confusion=confusion, tail_frames=0, tokens=tokens)
        starts.append(frame + int(np.flatnonzero(spoken.argmax(axis=1) != tokens.blank)[0]))
        pieces += [spoken, silence(gap, rng, tokens=tokens)]
        frame += len(spoken) + gap
    return np.concatenate(pieces), starts


def decode(
    log_probs: LogProbs,
    options: UtteranceOptions | None = None,
    *,
    chunk: int = 16,
    flush: bool = True,
    decoder: UtteranceDecoder = DECODER,
) -> tuple[UtteranceState, list[UtteranceEvent]]:
    state = decoder.initial_state(options)
    events: list[UtteranceEvent] = []
    for start in range(0, len(log_probs), chunk):
        state, new = decoder.step(state, log_probs[start : start + chunk])
        events.extend(new)
    if flush:
        state, new = decoder.flush(state)
        events.extend(new)
    return state, events


def finals(events: Iterable[UtteranceEvent]) -> list[Final]:
    return [event for event in events if isinstance(event, Final)]


def test_pauses_end_utterances_and_each_starts_once() -> None:
    log_probs, starts = utterances("the old man left", "she rang the bell")
    state, events = decode(log_probs)
    assert [(f.utterance, f.hypothesis.text) for f in finals(events)] == [
        (0, "the old man left"),
        (1, "she rang the bell"),
    ]
    assert [e.frame for e in events if isinstance(e, SpeechStarted)] == starts
    assert [f.hypothesis.words[0].start_frame for f in finals(events)] == starts
    assert state.utterance == 2
    assert state.frame == len(log_probs)


def test_an_utterance_ends_at_the_frame_at_which_its_silence_is_long_enough() -> None:
    log_probs, _ = utterances("the sea", gap=200)
    last = int(np.flatnonzero(log_probs.argmax(axis=1) != TOKENS.blank)[-1])
    state, _ = DECODER.step(DECODER.initial_state(), log_probs[: last + 40])
    assert state.utterance == 0
    state, events = DECODER.step(state, log_probs[last + 40 : last + 41])
    assert state.utterance == 1
    assert [final.hypothesis.text for final in finals(events)] == ["the sea"]
    assert state.start_frame == last + 41


def test_partials_show_the_open_word_and_are_emitted_only_when_changed() -> None:
    log_probs, _ = utterances("the children sang", gap=30)
    _, events = decode(log_probs, chunk=4, flush=False)
    partials = [event for event in events if isinstance(event, Partial)]
    texts = [partial.hypothesis.text for partial in partials]
    assert any(text.startswith("the chil") and text != "the children" for text in texts)
    assert texts[-1] == "the children sang"
    shown = [(partial.hypothesis.text, partial.committed_words) for partial in partials]
    assert all(left != right for left, right in itertools.pairwise(shown))


def test_a_chunk_has_one_partial_at_most_and_none_if_switched_off() -> None:
    log_probs, _ = utterances("the children sang on the way home", gap=10)
    _, events = DECODER.step(DECODER.initial_state(), log_probs)
    assert sum(isinstance(event, Partial) for event in events) == 1
    state = DECODER.initial_state(UtteranceOptions(partials=False))
    _, events = DECODER.step(state, log_probs)
    assert not any(isinstance(event, Partial) for event in events)


def test_the_rest_of_a_chunk_belongs_to_the_next_utterance() -> None:
    log_probs, starts = utterances("the sea", "the hill", gap=60)
    _, events = DECODER.step(DECODER.initial_state(), log_probs[: starts[1] + 5])
    kinds = [type(event) for event in events]
    assert kinds == [SpeechStarted, Final, SpeechStarted, Partial]
    assert isinstance(events[3], Partial)
    assert events[3].utterance == 1


def test_silence_alone_has_no_events_and_no_number() -> None:
    state, events = decode(silence(2000, np.random.default_rng(0)))
    assert events == []
    assert state.utterance == 0
    assert state.frame == 2000
    assert 2000 - state.start_frame < 250


def test_words_after_a_long_silence_keep_their_frames() -> None:
    log_probs, (start,) = utterances("the old house")
    pause = silence(777, np.random.default_rng(1))
    _, events = decode(np.concatenate([pause, log_probs]))
    (final,) = finals(events)
    assert final.hypothesis.words[0].start_frame == 777 + start


def test_speech_that_begins_when_the_start_silence_ends_is_complete() -> None:
    log_probs, _ = utterances("harbour")
    for frames in range(244, 252):
        _, events = decode(np.concatenate([silence(frames, np.random.default_rng(2)), log_probs]))
        assert [final.hypothesis.text for final in finals(events)] == ["harbour"]


def test_flush_ends_an_open_utterance_and_has_no_events_without_one() -> None:
    log_probs, _ = utterances("the train was late", gap=1)
    state, events = decode(log_probs, flush=False)
    assert finals(events) == []
    state, flushed = DECODER.flush(state)
    assert [final.hypothesis.text for final in finals(flushed)] == ["the train was late"]
    assert DECODER.flush(state)[1] == ()
    assert state.frame == len(log_probs)


def test_a_long_utterance_is_split_between_words_and_its_sentence_goes_on() -> None:
    text = "the boat left the harbour before the sun came up and the wind blew in from the sea"
    log_probs, _ = utterances(text, gap=60)
    options = UtteranceOptions(endpointing=EndpointConfig(max_utterance_ms=1500, max_overrun_ms=2000))
    _, events = decode(log_probs, options)
    texts = [final.hypothesis.text for final in finals(events)]
    assert len(texts) >= 2
    assert " ".join(texts) == text
    lengths = [f.hypothesis.words[-1].end_frame - f.hypothesis.words[0].start_frame for f in finals(events)]
    assert max(lengths) <= (1500 + 2000) / 20


def test_an_endless_word_is_split_at_the_overrun() -> None:
    weights = np.full((400, len(TOKENS)), 1e-6)
    weights[:, TOKENS.encode("a")] = 1.0
    options = UtteranceOptions(endpointing=EndpointConfig(max_utterance_ms=1000, max_overrun_ms=500))
    state, events = decode(log_normalised(weights), options, flush=False)
    assert len(finals(events)) == 400 // 75
    assert state.frame - state.start_frame < 75


def test_an_empty_partial_takes_back_words_that_disappear() -> None:
    ambiguous = np.full((1, len(TOKENS)), 1e-6)
    ambiguous[0, TOKENS.encode("t")], ambiguous[0, TOKENS.blank] = 0.55, 0.45
    log_probs = np.concatenate([log_normalised(ambiguous), silence(60, np.random.default_rng(3))])
    state, events = decode(log_probs)
    assert [partial.hypothesis.text for partial in events if isinstance(partial, Partial)] == ["t", ""]
    assert finals(events) == []
    assert state.utterance == 0


def test_alternatives_have_other_texts() -> None:
    log_probs, _ = utterances("one of the boats was lost in the storm", confusion=0.6, seed=4)
    _, events = decode(log_probs, UtteranceOptions(alternatives=4))
    (final,) = finals(events)
    texts = [final.hypothesis.text, *(other.text for other in final.alternatives)]
    assert len(set(texts)) == len(texts) == 4
    _, events = decode(log_probs)
    assert finals(events)[0].alternatives == ()


def test_hotwords_can_change_during_an_utterance() -> None:
    rng = np.random.default_rng(5)
    weights = np.exp(speech("please call zoe", rng, confusion=0.0).astype(np.float64))
    spikes = np.flatnonzero(weights.argmax(axis=1) == TOKENS.encode("z")[0])
    weights[spikes, TOKENS.encode("z")] = 0.3
    weights[spikes, TOKENS.encode("j")] = 0.7
    log_probs = log_normalised(weights)

    def text(hotwords: list[Hotword]) -> str:
        state, _ = DECODER.step(DECODER.initial_state(), log_probs[:10])
        state = DECODER.configure(state, hotwords)
        state, _ = DECODER.step(state, log_probs[10:])
        _, events = DECODER.flush(state)
        return finals(events)[0].hypothesis.text

    assert text([]) == "please call joe"
    assert text([Hotword("zoe", 8.0)]) == "please call zoe"


def test_hotwords_stay_for_the_next_utterance() -> None:
    state = DECODER.configure(DECODER.initial_state(), [Hotword("sea", 3.0)])
    log_probs, _ = utterances("the hill", "the field")
    state, _ = DECODER.step(state, log_probs)
    assert state.options.hotwords == (Hotword("sea", 3.0),)
    assert state.beam.hotwords.score("sea") == 3.0


def test_a_hotword_the_model_cannot_spell_is_refused() -> None:
    with pytest.raises(ConfigError, match="no token for 'é'"):
        DECODER.initial_state(UtteranceOptions(hotwords=(Hotword("Zoé", 1.0),)))
    with pytest.raises(ConfigError, match="no token for '7'"):
        DECODER.configure(DECODER.initial_state(), [Hotword("7", 1.0)])


def test_sessions_of_one_decoder_are_independent() -> None:
    log_probs, _ = utterances("the old house on the hill", seed=6)
    others = noise(len(log_probs), np.random.default_rng(7))
    alone = decode(log_probs)[1]
    state, other = DECODER.initial_state(), DECODER.initial_state()
    events: list[UtteranceEvent] = []
    for start in range(0, len(log_probs), 16):
        state, new = DECODER.step(state, log_probs[start : start + 16])
        other, _ = DECODER.step(other, others[start : start + 16])
        events.extend(new)
    events.extend(DECODER.flush(state)[1])
    assert events == alone


@pytest.mark.parametrize(
    ("tokens", "texts", "words"),
    [
        (PIECES, ("the boat left the harbour", "she read the letter"), 5),
        (CHARACTERS, ("今天天气很好", "你们今天好吗"), 6),
    ],
    ids=["pieces", "characters"],
)
def test_words_without_separators_have_times_are_committed_and_end_in_silence(
    tokens: TokenList, texts: tuple[str, ...], words: int
) -> None:
    decoder = utterance_decoder(tokens=tokens)
    log_probs, starts = utterances(*texts, tokens=tokens)
    _, events = decode(log_probs, decoder=decoder, flush=False)
    assert [final.hypothesis.text for final in finals(events)] == list(texts)
    found = finals(events)[0].hypothesis.words
    assert len(found) == words
    assert found[0].start_frame == starts[0]
    assert all(left.end_frame <= right.start_frame for left, right in itertools.pairwise(found))
    assert all(word.confidence > 0.9 for word in found)
    assert [event.frame for event in events if isinstance(event, SpeechStarted)] == starts
    assert max(event.committed_words for event in events if isinstance(event, Partial)) >= words - 2


@pytest.mark.parametrize(
    ("tokens", "text", "hotword"),
    [(PIECES, "put the jebra on", "Zebra"), (CHARACTERS, "我们今天去上京", "北 京")],
    ids=["pieces", "characters"],
)
def test_hotwords_beat_more_probable_words_in_pieces_and_characters(
    tokens: TokenList, text: str, hotword: str
) -> None:
    names = {"Zebra": ("▁z", "▁j"), "北 京": ("北", "上")}[hotword]
    right, wrong = (tokens.tokens.index(name) for name in names)
    weights = np.exp(utterances(text, tokens=tokens)[0].astype(np.float64))
    spikes = np.flatnonzero(weights.argmax(axis=1) == wrong)
    weights[spikes, wrong], weights[spikes, right] = 0.6, 0.4
    log_probs = log_normalised(np.delete(weights, spikes[1:], axis=0))
    decoder = utterance_decoder(tokens=tokens, lm=False)
    _, without = decode(log_probs, decoder=decoder)
    options = UtteranceOptions(hotwords=(Hotword(hotword, 3.0),))
    _, boosted = decode(log_probs, options, decoder=decoder)
    assert [final.hypothesis.text for final in finals(without)] == [text]
    assert finals(boosted)[0].hypothesis.text == text.replace("jebra", "zebra").replace("上京", "北京")


def gated(min_sharpness: float, min_partial_sharpness: float | None = None) -> UtteranceDecoder:
    """A decoder that drops noise. By default words are shown once they are as sharp as they must be at the end."""
    if min_partial_sharpness is None:
        min_partial_sharpness = min_sharpness
    config = DecoderConfig(min_utterance_sharpness=min_sharpness, min_partial_sharpness=min_partial_sharpness)
    return utterance_decoder(config)


def mixed_utterances() -> NDArray[np.float32]:
    """Two clear utterances with noise and silence between them."""
    rng = np.random.default_rng(3)
    first, _ = utterances("the old man left", seed=1)
    second, _ = utterances("she rang the bell", seed=2)
    mixed: NDArray[np.float32] = np.concatenate([first, noise(80, rng), silence(300, rng), second])
    return mixed.astype(np.float32)


def test_noise_is_words_without_the_gate_and_nothing_with_it() -> None:
    log_probs = mixed_utterances()
    _, open_events = decode(log_probs)
    _, events = decode(log_probs, decoder=gated(0.5))
    clear = ["the old man left", "she rang the bell"]
    assert [f.hypothesis.text for f in finals(events)] == clear
    assert [f.utterance for f in finals(events)] == [0, 1]
    assert len(finals(open_events)) > 2
    assert sum(isinstance(event, SpeechStarted) for event in events) == 2


def test_the_gate_changes_no_word_and_no_time_of_what_it_lets_through() -> None:
    log_probs, _ = utterances("the old man left", "she rang the bell")
    _, expected = decode(log_probs)
    _, events = decode(log_probs, decoder=gated(0.5))

    # Confidences are those at which words were committed, which may now be later.
    def timed(found: list[UtteranceEvent]) -> list[list[tuple[str, int, int]]]:
        return [[(w.text, w.start_frame, w.end_frame) for w in f.hypothesis.words] for f in finals(found)]

    assert timed(events) == timed(expected)
    assert [e for e in events if isinstance(e, SpeechStarted)] == [
        e for e in expected if isinstance(e, SpeechStarted)
    ]


@pytest.mark.parametrize("min_sharpness", [0.2, 0.5, 0.9])
def test_the_gates_decisions_do_not_depend_on_chunks(min_sharpness: float) -> None:
    log_probs, decoder = mixed_utterances(), gated(min_sharpness)
    options = UtteranceOptions(partials=False)
    _, expected = decode(log_probs, options, decoder=decoder, chunk=len(log_probs))
    for chunk in (1, 7, 16, 50):
        assert decode(log_probs, options, decoder=decoder, chunk=chunk)[1] == expected


def test_partials_wait_for_the_gate_and_committed_words_stay() -> None:
    log_probs = mixed_utterances()
    _, events = decode(log_probs, decoder=gated(0.5), chunk=8)
    started: set[int] = set()
    utterance = 0
    committed: tuple[str, ...] = ()
    for event in events:
        if isinstance(event, SpeechStarted):
            started.add(utterance)
        elif isinstance(event, Partial):
            assert event.utterance in started
            words = tuple(word.text for word in event.hypothesis.words[: event.committed_words])
            assert words[: len(committed)] == committed
            committed = words
        else:
            assert tuple(word.text for word in event.hypothesis.words)[: len(committed)] == committed
            utterance, committed = utterance + 1, ()


def test_one_clear_word_is_shown_with_its_final() -> None:
    log_probs, _ = utterances("bell")
    _, events = decode(log_probs, decoder=gated(0.5), chunk=8)
    started, final = events
    assert isinstance(started, SpeechStarted)
    assert isinstance(final, Final)
    assert final.hypothesis.text == "bell"
    assert final.hypothesis.sharpness >= 0.5


def test_words_may_be_shown_at_once_and_taken_back() -> None:
    rng = np.random.default_rng(3)
    log_probs = np.concatenate([noise(12, rng), silence(100, rng)]).astype(np.float32)
    _, hidden = decode(log_probs, decoder=gated(0.5), chunk=4)
    assert hidden == []
    _, events = decode(log_probs, decoder=gated(0.5, 0.0), chunk=4)
    *partials, taken_back = (event for event in events if isinstance(event, Partial))
    assert any(partial.hypothesis.words for partial in partials)
    assert taken_back.hypothesis.words == ()
    assert finals(events) == []


def test_committed_words_are_kept_whatever_follows_them() -> None:
    rng = np.random.default_rng(3)
    words, _ = utterances("the old man left", seed=1)
    log_probs = np.concatenate([words[:-40], noise(200, rng), silence(100, rng)]).astype(np.float32)
    _, events = decode(log_probs, decoder=gated(0.99, 0.3), chunk=8)
    committed = max(event.committed_words for event in events if isinstance(event, Partial))
    assert committed
    assert finals(events)[0].hypothesis.sharpness < 0.99
    assert finals(events)[0].hypothesis.text.startswith("the old")


def test_sharpness_is_the_geometric_mean_of_the_words() -> None:
    words = tuple(
        Word(text, at, at + 1, 0.5, WordFeatures(posterior=0.9, mean_log_prob=value, num_characters=1))
        for at, (text, value) in enumerate([("a", math.log(0.1)), ("b", math.log(0.4))])
    )
    assert Hypothesis(words, 0.0).sharpness == pytest.approx(0.2)
    assert Hypothesis((), 0.0).sharpness == 0


@pytest.mark.parametrize("value", [-0.1, 1.0, math.nan])
def test_a_sharpness_that_is_no_probability_is_refused(value: float) -> None:
    with pytest.raises(ConfigError, match="min_utterance_sharpness must be from 0 to below 1"):
        DecoderConfig(min_utterance_sharpness=value)
    with pytest.raises(ConfigError, match="min_partial_sharpness must be from 0 to below 1"):
        DecoderConfig(min_partial_sharpness=value)
