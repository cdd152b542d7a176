"""Utterances: what is said when, what settles, where they end."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from streamasr.config import EndpointConfig
from streamasr.decoding.hypothesis import Final, Hotword, Partial, SpeechStarted
from streamasr.decoding.utterance import UtteranceOptions
from streamasr.errors import ConfigError
from tests.decoding.synthetic import (
    CHARACTERS,
    PIECES,
    TOKENS,
    log_normalised,
    noise,
    silence,
    spoken,
    utterance_decoder,
)

DECODER = utterance_decoder()


def say(*texts, gap=60, seed=0, confusion=0.0, tokens=TOKENS):
    """``texts`` with ``gap`` silent frames after each, and the frame at which each begins."""
    rng = np.random.default_rng(seed)
    pieces, starts, frame = [], [], 0
    for text in texts:
        said = spoken(text, rng, confusion=confusion, tail_frames=0, tokens=tokens)
        starts.append(frame + int(np.flatnonzero(said.argmax(axis=1) != tokens.blank)[0]))
        pieces += [said, silence(gap, rng, tokens=tokens)]
        frame += len(said) + gap
    return np.concatenate(pieces), starts


def listen(log_probs, options=None, *, chunk=16, flush=True, decoder=DECODER):
    state, events = decoder.initial_state(options), []
    for start in range(0, len(log_probs), chunk):
        state, said = decoder.step(state, log_probs[start : start + chunk])
        events.extend(said)
    if flush:
        state, said = decoder.flush(state)
        events.extend(said)
    return state, events


def finals(events):
    return [event for event in events if isinstance(event, Final)]


def test_pauses_part_utterances_and_each_starts_once():
    log_probs, starts = say("the old man left", "she rang the bell")
    state, events = listen(log_probs)
    assert [(f.utterance, f.hypothesis.text) for f in finals(events)] == [
        (0, "the old man left"),
        (1, "she rang the bell"),
    ]
    assert [e.frame for e in events if isinstance(e, SpeechStarted)] == starts
    assert [f.hypothesis.words[0].start_frame for f in finals(events)] == starts
    assert state.utterance == 2
    assert state.frame == len(log_probs)


def test_an_utterance_ends_in_the_frame_its_silence_is_long_enough():
    log_probs, _ = say("the sea", gap=200)
    last = int(np.flatnonzero(log_probs.argmax(axis=1) != TOKENS.blank)[-1])
    state, _ = DECODER.step(DECODER.initial_state(), log_probs[: last + 40])
    before, events = state, ()
    assert before.utterance == 0
    state, events = DECODER.step(before, log_probs[last + 40 : last + 41])
    assert state.utterance == 1
    assert [final.hypothesis.text for final in finals(events)] == ["the sea"]
    assert state.start_frame == last + 41


def test_partials_show_the_word_being_spoken_and_come_only_when_changed():
    log_probs, _ = say("the children sang", gap=30)
    _, events = listen(log_probs, chunk=4, flush=False)
    partials = [event for event in events if isinstance(event, Partial)]
    texts = [partial.hypothesis.text for partial in partials]
    assert any(text.startswith("the chil") and text != "the children" for text in texts)
    assert texts[-1] == "the children sang"
    shown = [(partial.hypothesis.text, partial.committed_words) for partial in partials]
    assert all(one != other for one, other in itertools.pairwise(shown))


def test_a_chunk_gives_one_partial_at_most_and_none_if_switched_off():
    log_probs, _ = say("the children sang on the way home", gap=10)
    _, events = DECODER.step(DECODER.initial_state(), log_probs)
    assert sum(isinstance(event, Partial) for event in events) == 1
    state = DECODER.initial_state(UtteranceOptions(partials=False))
    _, events = DECODER.step(state, log_probs)
    assert not any(isinstance(event, Partial) for event in events)


def test_what_is_left_of_a_chunk_belongs_to_the_next_utterance():
    log_probs, starts = say("the sea", "the hill", gap=60)
    _, events = DECODER.step(DECODER.initial_state(), log_probs[: starts[1] + 5])
    kinds = [type(event) for event in events]
    assert kinds == [SpeechStarted, Final, SpeechStarted, Partial]
    assert events[3].utterance == 1


def test_silence_alone_says_nothing_and_numbers_nothing():
    state, events = listen(silence(2000, np.random.default_rng(0)))
    assert events == []
    assert state.utterance == 0
    assert state.frame == 2000
    assert 2000 - state.start_frame < 250


def test_words_after_a_long_silence_keep_their_frames():
    said, (start,) = say("the old house")
    quiet = silence(777, np.random.default_rng(1))
    _, events = listen(np.concatenate([quiet, said]))
    (final,) = finals(events)
    assert final.hypothesis.words[0].start_frame == 777 + start


def test_speech_beginning_as_the_start_silence_runs_out_is_heard_whole():
    said, _ = say("harbour")
    for quiet in range(244, 252):
        _, events = listen(np.concatenate([silence(quiet, np.random.default_rng(2)), said]))
        assert [final.hypothesis.text for final in finals(events)] == ["harbour"]


def test_flush_ends_what_is_open_and_is_silent_where_nothing_is():
    log_probs, _ = say("the train was late", gap=1)
    state, events = listen(log_probs, flush=False)
    assert finals(events) == []
    state, events = DECODER.flush(state)
    assert [final.hypothesis.text for final in finals(events)] == ["the train was late"]
    assert DECODER.flush(state)[1] == ()
    assert state.frame == len(log_probs)


def test_a_long_utterance_is_split_between_words_and_its_sentence_goes_on():
    text = "the boat left the harbour before the sun came up and the wind blew in from the sea"
    log_probs, _ = say(text, gap=60)
    options = UtteranceOptions(endpointing=EndpointConfig(max_utterance_ms=1500, max_overrun_ms=2000))
    _, events = listen(log_probs, options)
    said = [final.hypothesis.text for final in finals(events)]
    assert len(said) >= 2
    assert " ".join(said) == text
    lengths = [f.hypothesis.words[-1].end_frame - f.hypothesis.words[0].start_frame for f in finals(events)]
    assert max(lengths) <= (1500 + 2000) / 20


def test_an_endless_word_is_cut_at_the_overrun():
    weights = np.full((400, len(TOKENS)), 1e-6)
    weights[:, TOKENS.encode("a")] = 1.0
    options = UtteranceOptions(endpointing=EndpointConfig(max_utterance_ms=1000, max_overrun_ms=500))
    state, events = listen(log_normalised(weights), options, flush=False)
    assert len(finals(events)) == 400 // 75
    assert state.frame - state.start_frame < 75


def test_a_partial_whose_words_come_to_nothing_is_taken_back():
    unsure = np.full((1, len(TOKENS)), 1e-6)
    unsure[0, TOKENS.encode("t")], unsure[0, TOKENS.blank] = 0.55, 0.45
    log_probs = np.concatenate([log_normalised(unsure), silence(60, np.random.default_rng(3))])
    state, events = listen(log_probs)
    assert [partial.hypothesis.text for partial in events if isinstance(partial, Partial)] == ["t", ""]
    assert finals(events) == []
    assert state.utterance == 0


def test_alternatives_are_further_texts():
    log_probs, _ = say("one of the boats was lost in the storm", confusion=0.6, seed=4)
    _, events = listen(log_probs, UtteranceOptions(alternatives=4))
    (final,) = finals(events)
    texts = [final.hypothesis.text, *(reading.text for reading in final.alternatives)]
    assert len(set(texts)) == len(texts) == 4
    _, events = listen(log_probs)
    assert finals(events)[0].alternatives == ()


def test_hotwords_can_change_while_an_utterance_runs():
    rng = np.random.default_rng(5)
    weights = np.exp(spoken("please call zoe", rng, confusion=0.0).astype(np.float64))
    spikes = np.flatnonzero(weights.argmax(axis=1) == TOKENS.encode("z")[0])
    weights[spikes, TOKENS.encode("z")] = 0.3
    weights[spikes, TOKENS.encode("j")] = 0.7
    log_probs = log_normalised(weights)

    def text(hotwords):
        state, _ = DECODER.step(DECODER.initial_state(), log_probs[:10])
        state = DECODER.configure(state, hotwords)
        state, _ = DECODER.step(state, log_probs[10:])
        _, events = DECODER.flush(state)
        return finals(events)[0].hypothesis.text

    assert text([]) == "please call joe"
    assert text([Hotword("zoe", 8.0)]) == "please call zoe"


def test_hotwords_stay_for_the_next_utterance():
    state = DECODER.configure(DECODER.initial_state(), [Hotword("sea", 3.0)])
    log_probs, _ = say("the hill", "the field")
    state, _ = DECODER.step(state, log_probs)
    assert state.options.hotwords == (Hotword("sea", 3.0),)
    assert state.beam.hotwords.score("sea") == 3.0


def test_a_hotword_the_model_cannot_spell_is_refused():
    with pytest.raises(ConfigError, match="no token for 'é'"):
        DECODER.initial_state(UtteranceOptions(hotwords=(Hotword("Zoé", 1.0),)))
    with pytest.raises(ConfigError, match="no token for '7'"):
        DECODER.configure(DECODER.initial_state(), [Hotword("7", 1.0)])


def test_one_decoder_serves_sessions_that_do_not_hear_each_other():
    one, _ = say("the old house on the hill", seed=6)
    other = noise(len(one), np.random.default_rng(7))
    alone = listen(one)[1]
    state, neighbour, events = DECODER.initial_state(), DECODER.initial_state(), []
    for start in range(0, len(one), 16):
        state, said = DECODER.step(state, one[start : start + 16])
        neighbour, _ = DECODER.step(neighbour, other[start : start + 16])
        events.extend(said)
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
def test_words_that_begin_by_themselves_are_timed_committed_and_ended_by_silence(tokens, texts, words):
    decoder = utterance_decoder(tokens=tokens)
    log_probs, starts = say(*texts, tokens=tokens)
    _, events = listen(log_probs, decoder=decoder, flush=False)
    assert [final.hypothesis.text for final in finals(events)] == list(texts)
    said = finals(events)[0].hypothesis.words
    assert len(said) == words
    assert said[0].start_frame == starts[0]
    assert all(one.end_frame <= two.start_frame for one, two in itertools.pairwise(said))
    assert all(word.confidence > 0.9 for word in said)
    assert [event.frame for event in events if isinstance(event, SpeechStarted)] == starts
    assert max(event.committed_words for event in events if isinstance(event, Partial)) >= words - 2


@pytest.mark.parametrize(
    ("tokens", "said", "hotword"),
    [(PIECES, "put the jebra on", "Zebra"), (CHARACTERS, "我们今天去上京", "北 京")],
    ids=["pieces", "characters"],
)
def test_hotwords_win_over_their_rivals_in_pieces_and_in_characters(tokens, said, hotword):
    right, wrong = {"Zebra": ("▁z", "▁j"), "北 京": ("北", "上")}[hotword]
    right, wrong = tokens.tokens.index(right), tokens.tokens.index(wrong)
    weights = np.exp(say(said, tokens=tokens)[0].astype(np.float64))
    spikes = np.flatnonzero(weights.argmax(axis=1) == wrong)
    weights[spikes, wrong], weights[spikes, right] = 0.6, 0.4
    log_probs = log_normalised(np.delete(weights, spikes[1:], axis=0))
    decoder = utterance_decoder(tokens=tokens, lm=False)
    _, without = listen(log_probs, decoder=decoder)
    options = UtteranceOptions(hotwords=(Hotword(hotword, 3.0),))
    _, boosted = listen(log_probs, options, decoder=decoder)
    assert [final.hypothesis.text for final in finals(without)] == [said]
    assert finals(boosted)[0].hypothesis.text == said.replace("jebra", "zebra").replace("上京", "北京")
