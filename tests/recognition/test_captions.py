"""Decoder events to messages: numbering, audio time, what a session asked to see."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from streamasr.decoding import hypothesis as heard
from streamasr.decoding.hypothesis import Hotword
from streamasr.decoding.utterance import UtteranceOptions
from streamasr.protocol import messages
from streamasr.protocol.messages import Start
from streamasr.recognition.captions import Captioner
from streamasr.recognition.chunking import Chunk, EndMark, FinalizeMark, StopMark
from streamasr.recognition.model import LoadedModel
from streamasr.recognition.options import resolve_options

FRAME = 320
DELAY = 160
"""The tiny model's ``sample_delay``."""


class _ScriptedDecoder:
    """Gives prepared events, one tuple a step; remembers what it was asked."""

    def __init__(self) -> None:
        self.script: list[tuple[heard.UtteranceEvent, ...]] = []
        self.last_words: list[tuple[heard.UtteranceEvent, ...]] = []
        self.begun: list[UtteranceOptions] = []
        self.hotwords: list[tuple[Hotword, ...]] = []

    def initial_state(self, options: UtteranceOptions) -> str:
        self.begun.append(options)
        return "state"

    def configure(self, state: str, hotwords: tuple[Hotword, ...]) -> str:
        self.hotwords.append(hotwords)
        return state

    def step(self, state: str, log_probs_TV: Any) -> tuple[str, tuple[heard.UtteranceEvent, ...]]:
        return state, self.script.pop(0) if len(log_probs_TV) else ()

    def flush(self, state: str) -> tuple[str, tuple[heard.UtteranceEvent, ...]]:
        return state, self.last_words.pop(0)


@pytest.fixture
def decoder() -> _ScriptedDecoder:
    return _ScriptedDecoder()


def _captioner(model: LoadedModel, decoder: _ScriptedDecoder, start: Start | None = None) -> Captioner:
    options = resolve_options(start or Start(), model)
    return Captioner(replace(model, decoder=decoder), options)  # type: ignore[arg-type]


def _chunk(
    end_frame: int, *, end: EndMark | None = None, hotwords: tuple[Hotword, ...] | None = None
) -> Chunk:
    return Chunk(np.zeros(FRAME, dtype=np.float32), end_frame * FRAME, False, hotwords, end)


def _reading(*words: tuple[str, int, int]) -> heard.Hypothesis:
    return heard.Hypothesis(tuple(heard.Word(text, start, end, 0.87654) for text, start, end in words), -1.0)


LOG_PROBS = np.zeros((1, 9), dtype=np.float32)
NO_FRAMES = np.zeros((0, 9), dtype=np.float32)


def test_times_are_the_sessions_audio_less_the_models_delay(
    model: LoadedModel, decoder: _ScriptedDecoder
) -> None:
    reading = _reading(("ab", 10, 20), ("cd", 21, 30))
    decoder.script = [(heard.SpeechStarted(10), heard.Partial(0, reading, 1))]
    started, partial = _captioner(model, decoder).accept(_chunk(40), LOG_PROBS)
    assert started == messages.SpeechStarted(at_ms=190)
    assert partial == messages.Partial(
        utterance=0,
        committed="ab",
        tail="cd",
        start_ms=190,
        end_ms=590,
        words=(
            messages.WordTiming(word="ab", start_ms=190, end_ms=390, confidence=0.877),
            messages.WordTiming(word="cd", start_ms=410, end_ms=590, confidence=0.877),
        ),
    )


def test_times_stay_inside_the_audio_heard(model: LoadedModel, decoder: _ScriptedDecoder) -> None:
    decoder.script = [(heard.Final(0, _reading(("ab", 0, 99)), ()),)]
    (final,) = _captioner(model, decoder).accept(_chunk(10), LOG_PROBS)
    assert isinstance(final, messages.Final)
    assert (final.start_ms, final.end_ms) == (0, 200)


def test_finalize_flushes_answers_and_starts_afresh_where_it_was(
    model: LoadedModel, decoder: _ScriptedDecoder
) -> None:
    captioner = _captioner(model, decoder)
    decoder.script = [(), (heard.Final(0, _reading(("cd", 0, 5)), ()),)]
    decoder.last_words = [(heard.Final(0, _reading(("ab", 2, 8)), ()),)]
    first = captioner.accept(_chunk(10, end=FinalizeMark("me")), LOG_PROBS)
    assert [message.type for message in first] == ["final", "finalized"]
    assert first[-1] == messages.Finalized(id="me")
    assert len(decoder.begun) == 2
    (second,) = captioner.accept(_chunk(20), LOG_PROBS)
    assert isinstance(second, messages.Final)
    assert (second.utterance, second.start_ms, second.end_ms) == (1, 200, 290)


def test_stop_says_how_much_audio_there_was(model: LoadedModel, decoder: _ScriptedDecoder) -> None:
    decoder.last_words = [()]
    told = _captioner(model, decoder).accept(_chunk(33, end=StopMark()), NO_FRAMES)
    assert told == [messages.Done(audio_ms=660)]


def test_new_hotwords_reach_the_decoder_and_outlive_a_finalize(
    model: LoadedModel, decoder: _ScriptedDecoder
) -> None:
    words = (Hotword("abc", 3.0),)
    captioner = _captioner(model, decoder)
    decoder.script = [()]
    decoder.last_words = [()]
    captioner.accept(_chunk(4, hotwords=words, end=FinalizeMark("")), LOG_PROBS)
    assert decoder.hotwords == [words]
    assert decoder.begun[-1].hotwords == words


def test_word_times_are_left_out_where_not_wanted(model: LoadedModel, decoder: _ScriptedDecoder) -> None:
    other = _reading(("ax", 10, 20))
    decoder.script = [(heard.Final(0, _reading(("ab", 10, 20)), (other,)),)]
    (final,) = _captioner(model, decoder, Start(words=False, alternatives=2)).accept(_chunk(40), LOG_PROBS)
    assert isinstance(final, messages.Final)
    assert (final.text, final.words, final.start_ms, final.end_ms) == ("ab", (), 190, 390)
    assert final.alternatives == (messages.Alternative(text="ax", confidence=0.877),)


def test_a_partial_taken_back_is_empty_and_stands_at_the_present(
    model: LoadedModel, decoder: _ScriptedDecoder
) -> None:
    decoder.script = [(heard.Partial(0, _reading(), 0),)]
    (partial,) = _captioner(model, decoder).accept(_chunk(25), LOG_PROBS)
    assert partial == messages.Partial(utterance=0, committed="", tail="", start_ms=500, end_ms=500)


def test_words_of_scripts_without_spaces_are_written_without_them(
    model: LoadedModel, decoder: _ScriptedDecoder
) -> None:
    reading = _reading(("今", 0, 4), ("天", 4, 8), ("ok", 9, 11), ("吗", 12, 15))
    decoder.script = [(heard.Partial(0, reading, 2), heard.Final(0, reading, ()))]
    partial, final = _captioner(model, decoder).accept(_chunk(20), np.zeros((20, 9)))
    assert isinstance(partial, messages.Partial)
    assert (partial.committed, partial.tail) == ("今天", "ok 吗")
    assert isinstance(final, messages.Final)
    assert final.text == "今天 ok 吗"
    assert [word.word for word in final.words] == ["今", "天", "ok", "吗"]


def test_written_finals_have_digits_capitals_and_distinct_alternatives(
    model: LoadedModel, decoder: _ScriptedDecoder
) -> None:
    said = _reading(("twenty", 0, 8), ("five", 10, 18), ("i", 20, 28))
    same, other = _reading(("twenty", 0, 8), ("five", 10, 18), ("i", 21, 28)), _reading(("twenty", 0, 8))
    decoder.script = [
        (heard.Partial(0, said, 1),),
        (heard.Final(0, said, (same, other, other), ends_sentence=False),),
        (heard.Final(1, _reading(("he", 40, 48)), ()),),
        (heard.Final(2, _reading(("he", 50, 58)), ()),),
    ]
    captioner = _captioner(model, decoder, Start(format="written", alternatives=4))
    ((partial,), (final,), (second,), (third,)) = (captioner.accept(_chunk(60), LOG_PROBS) for _ in range(4))
    assert isinstance(partial, messages.Partial)
    assert (partial.committed, partial.tail) == ("", "25 I")
    assert isinstance(final, messages.Final)
    assert final.text == "25 I"
    assert [(word.word, word.end_ms - word.start_ms) for word in final.words] == [("25", 350), ("I", 160)]
    assert [alternative.text for alternative in final.alternatives] == ["20"]
    assert isinstance(second, messages.Final)
    assert isinstance(third, messages.Final)
    assert (second.text, third.text) == ("he", "He")
