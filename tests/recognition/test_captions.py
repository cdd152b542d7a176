"""Decoder events become messages with numbers, times in the session's audio, and the requested parts."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamasr.decoding.hypothesis import (
    Final,
    Hotword,
    Hypothesis,
    Partial,
    SpeechStarted,
    UtteranceEnding,
    UtteranceEvent,
    Word,
)
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
        self.script: list[tuple[UtteranceEvent, ...]] = []
        self.flushed: list[tuple[UtteranceEvent, ...]] = []
        self.initial_options: list[UtteranceOptions] = []
        self.hotwords: list[tuple[Hotword, ...]] = []

    def initial_state(self, options: UtteranceOptions) -> str:
        self.initial_options.append(options)
        return "state"

    def configure(self, state: str, hotwords: tuple[Hotword, ...]) -> str:
        self.hotwords.append(hotwords)
        return state

    def step(
        self, state: str, log_probs_TV: Any, lookahead_TV: Any
    ) -> tuple[str, tuple[UtteranceEvent, ...]]:
        return state, self.script.pop(0) if len(log_probs_TV) else ()

    def flush(self, state: str) -> tuple[str, tuple[UtteranceEvent, ...]]:
        return state, self.flushed.pop(0)


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


def _hypothesis(*words: tuple[str, int, int]) -> Hypothesis:
    return Hypothesis(tuple(Word(text, start, end, 0.87654) for text, start, end in words), -1.0)


LOG_PROBS = np.zeros((1, 9), dtype=np.float32)
NO_FRAMES = np.zeros((0, 9), dtype=np.float32)


def test_times_are_the_sessions_audio_less_the_models_delay(
    model: LoadedModel, decoder: _ScriptedDecoder
) -> None:
    hypothesis = _hypothesis(("ab", 10, 20), ("cd", 21, 30))
    decoder.script = [(SpeechStarted(10), Partial(0, hypothesis, 1))]
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


def test_an_ending_is_sent_as_the_final_would_be(model: LoadedModel, decoder: _ScriptedDecoder) -> None:
    hypothesis = _hypothesis(("ab", 10, 20), ("cd", 21, 30))
    decoder.script = [(UtteranceEnding(0, hypothesis, 0.61239), Final(0, hypothesis, ()))]
    ending, final = _captioner(model, decoder).accept(_chunk(40), LOG_PROBS)
    assert isinstance(ending, messages.UtteranceEnding)
    assert isinstance(final, messages.Final)
    assert ending.probability == 0.612
    assert (ending.utterance, ending.text) == (final.utterance, final.text) == (0, "ab cd")
    assert (ending.start_ms, ending.end_ms, ending.words) == (final.start_ms, final.end_ms, final.words)


def test_times_may_lie_in_the_look_ahead(model: LoadedModel, decoder: _ScriptedDecoder) -> None:
    decoder.script = [
        (Final(0, _hypothesis(("ab", 0, 15)), ()),),
        (Final(1, _hypothesis(("cd", 15, 99)), ()),),
    ]
    captioner = _captioner(model, decoder)
    chunks = (replace(_chunk(end), lookahead_end_sample=(end + 8) * FRAME) for end in (10, 20))
    (first,), (second,) = (captioner.accept(chunk, LOG_PROBS) for chunk in chunks)
    assert isinstance(first, messages.Final)
    assert isinstance(second, messages.Final)
    assert (first.end_ms, second.start_ms, second.end_ms) == (290, 290, 560)


def test_times_stay_inside_the_audio_so_far(model: LoadedModel, decoder: _ScriptedDecoder) -> None:
    decoder.script = [(Final(0, _hypothesis(("ab", 0, 99)), ()),)]
    (final,) = _captioner(model, decoder).accept(_chunk(10), LOG_PROBS)
    assert isinstance(final, messages.Final)
    assert (final.start_ms, final.end_ms) == (0, 200)


def test_finalize_flushes_answers_and_starts_a_new_stream(
    model: LoadedModel, decoder: _ScriptedDecoder
) -> None:
    captioner = _captioner(model, decoder)
    decoder.script = [(), (Final(0, _hypothesis(("cd", 0, 5)), ()),)]
    decoder.flushed = [(Final(0, _hypothesis(("ab", 2, 8)), ()),)]
    first = captioner.accept(_chunk(10, end=FinalizeMark("me")), LOG_PROBS)
    assert [message.type for message in first] == ["final", "finalized"]
    assert first[-1] == messages.Finalized(id="me")
    assert len(decoder.initial_options) == 2
    (second,) = captioner.accept(_chunk(20), LOG_PROBS)
    assert isinstance(second, messages.Final)
    assert (second.utterance, second.start_ms, second.end_ms) == (1, 200, 290)


def test_stop_reports_the_length_of_the_audio(model: LoadedModel, decoder: _ScriptedDecoder) -> None:
    decoder.flushed = [()]
    emitted = _captioner(model, decoder).accept(_chunk(33, end=StopMark()), NO_FRAMES)
    assert emitted == [messages.Done(audio_ms=660)]


def test_new_hotwords_reach_the_decoder_and_outlive_a_finalize(
    model: LoadedModel, decoder: _ScriptedDecoder
) -> None:
    words = (Hotword("abc", 3.0),)
    captioner = _captioner(model, decoder)
    decoder.script = [()]
    decoder.flushed = [()]
    captioner.accept(_chunk(4, hotwords=words, end=FinalizeMark("")), LOG_PROBS)
    assert decoder.hotwords == [words]
    assert decoder.initial_options[-1].hotwords == words


def test_word_times_can_be_switched_off(model: LoadedModel, decoder: _ScriptedDecoder) -> None:
    other = _hypothesis(("ax", 10, 20))
    decoder.script = [(Final(0, _hypothesis(("ab", 10, 20)), (other,)),)]
    (final,) = _captioner(model, decoder, Start(words=False, alternatives=2)).accept(_chunk(40), LOG_PROBS)
    assert isinstance(final, messages.Final)
    assert (final.text, final.words, final.start_ms, final.end_ms) == ("ab", (), 190, 390)
    assert final.alternatives == (messages.Alternative(text="ax", confidence=0.877),)


def test_a_retracted_partial_is_empty_and_ends_with_the_audio_so_far(
    model: LoadedModel, decoder: _ScriptedDecoder
) -> None:
    decoder.script = [(Partial(0, _hypothesis(), 0),)]
    (partial,) = _captioner(model, decoder).accept(_chunk(25), LOG_PROBS)
    assert partial == messages.Partial(utterance=0, committed="", tail="", start_ms=500, end_ms=500)


def test_words_of_scripts_without_spaces_are_written_without_them(
    model: LoadedModel, decoder: _ScriptedDecoder
) -> None:
    hypothesis = _hypothesis(("今", 0, 4), ("天", 4, 8), ("ok", 9, 11), ("吗", 12, 15))
    decoder.script = [(Partial(0, hypothesis, 2), Final(0, hypothesis, ()))]
    partial, final = _captioner(model, decoder).accept(_chunk(20), np.zeros((20, 9)))
    assert isinstance(partial, messages.Partial)
    assert (partial.committed, partial.tail) == ("今天", "ok 吗")
    assert isinstance(final, messages.Final)
    assert final.text == "今天 ok 吗"
    assert [word.word for word in final.words] == ["今", "天", "ok", "吗"]


def test_written_finals_have_digits_capitals_and_distinct_alternatives(
    model: LoadedModel, decoder: _ScriptedDecoder
) -> None:
    spoken = _hypothesis(("twenty", 0, 8), ("five", 10, 18), ("i", 20, 28))
    same, other = (
        _hypothesis(("twenty", 0, 8), ("five", 10, 18), ("i", 21, 28)),
        _hypothesis(("twenty", 0, 8)),
    )
    decoder.script = [
        (Partial(0, spoken, 1),),
        (Final(0, spoken, (same, other, other), ends_sentence=False),),
        (Final(1, _hypothesis(("he", 40, 48)), ()),),
        (Final(2, _hypothesis(("he", 50, 58)), ()),),
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


utterances = st.lists(st.tuples(st.integers(0, 25), st.integers(1, 25)), min_size=1, max_size=6)
"""Words as the gap before each and its length, in frames."""


@given(st.lists(utterances, min_size=1, max_size=4), st.integers(0, 40), st.booleans())
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_word_ends_after_its_start_and_before_the_next_one_and_the_audio(
    model: LoadedModel, spoken: list[list[tuple[int, int]]], cut: int, finalize: bool
) -> None:
    decoder = _ScriptedDecoder()
    captioner = _captioner(model, decoder)
    frame, start_of_stream, emitted = 0, 0, []
    for number, utterance in enumerate(spoken):
        words = []
        for gap, length in utterance:
            start = frame + gap
            frame = start + length
            words.append(("ab", start - start_of_stream, frame - start_of_stream))
        decoder.script.append((Final(0, _hypothesis(*words), ()),))
        decoder.flushed = [()]
        last = number == len(spoken) - 1
        # The last words may lie in the silence after the end of the audio.
        end: EndMark | None = StopMark() if last else FinalizeMark("") if finalize else None
        audio_frames = max(words[0][1] + start_of_stream + 2, frame - cut) if last else frame
        emitted += captioner.accept(_chunk(audio_frames, end=end), LOG_PROBS)
        if finalize:
            start_of_stream = frame
    done = emitted[-1]
    assert isinstance(done, messages.Done)
    spans = [(w.start_ms, w.end_ms) for m in emitted if isinstance(m, messages.Final) for w in m.words]
    assert len(spans) == sum(map(len, spoken))
    assert all(start < end for start, end in spans)
    ends = [0, *(end for _, end in spans)]
    starts = [*(start for start, _ in spans), done.audio_ms]
    assert all(end <= start for end, start in zip(ends, starts, strict=True))
