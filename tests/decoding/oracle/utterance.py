"""Decode log-probs into utterances frame by frame: the counterpart of ``streamasr.decoding.utterance``.

Shape suffixes: T encoder frames, V tokens.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamasr.config import EndpointConfig
from streamasr.decoding.hypothesis import (
    Final,
    Hotword,
    Hypothesis,
    Partial,
    SpeechStarted,
    UtteranceEvent,
    Word,
)
from streamasr.decoding.utterance import UtteranceOptions
from tests.decoding.oracle.beam import BeamDecoder, PrunedFrame
from tests.decoding.oracle.endpoint import EndpointDecision, EndpointInput, EndpointRules
from tests.decoding.oracle.state import BeamState, stable_text

COMMIT_INTERVAL_FRAMES = 8
"""Stable words are committed at every eighth frame of an utterance, wherever its chunks end."""


@dataclass(frozen=True, slots=True, eq=False)
class UtteranceState:
    """The decoding state of one session. Bounded by the longest utterance that its endpoint rules allow."""

    options: UtteranceOptions
    rules: EndpointRules
    beam: BeamState
    utterance: int
    """Number of the current utterance, from 0. An utterance without words is not counted."""
    start_frame: int
    """Frame of the stream at which the utterance began."""
    committed: tuple[Word, ...] = ()
    """Words that never change again."""
    speech_started: bool = False
    """Whether the utterance's ``SpeechStarted`` has been emitted."""
    last_partial: tuple[str, int] = ("", 0)
    """Text and number of committed words of the last partial."""

    @property
    def frame(self) -> int:
        """Frames of the stream decoded so far."""
        return self.beam.frame


class UtteranceDecoder:
    """Decodes the utterances of one model's sessions.

    Args:
        beams: the beam search.
        frame_ms: length of an encoder frame in milliseconds.
        endpointing: the model's endpoint rules, for sessions without their own.
    """

    def __init__(self, beams: BeamDecoder, *, frame_ms: float, endpointing: EndpointConfig) -> None:
        self.beams = beams
        self.frame_ms = frame_ms
        self.endpointing = endpointing

    def default_options(self) -> UtteranceOptions:
        """Return the options of a session without wishes: the model's own rules, no hotwords."""
        return UtteranceOptions(endpointing=self.endpointing)

    def initial_state(self, options: UtteranceOptions | None = None) -> UtteranceState:
        """Return the state of a new session.

        Raises:
            ConfigError: the model cannot spell a hotword, or a boost is not a finite number.
        """
        options = options or self.default_options()
        rules = EndpointRules.from_config(options.endpointing, self.frame_ms)
        beam = self.beams.initial_state(options.hotwords)
        return UtteranceState(options, rules, beam, utterance=0, start_frame=0)

    def configure(self, state: UtteranceState, hotwords: Iterable[Hotword]) -> UtteranceState:
        """Replace the hotwords of a session from the next frame on; words not yet committed are rescored.

        Raises:
            ConfigError: the model cannot spell a hotword, or a boost is not a finite number.
        """
        options = replace(state.options, hotwords=tuple(hotwords))
        beam = self.beams.with_hotwords(state.beam, options.hotwords)
        return replace(state, options=options, beam=beam)

    def step(
        self, state: UtteranceState, log_probs_TV: NDArray[np.floating[Any]]
    ) -> tuple[UtteranceState, tuple[UtteranceEvent, ...]]:
        """Decode T more frames of natural-log probabilities and return the events.

        A final is emitted at the frame at which its utterance ends; the rest of the chunk belongs to the next
        utterance. At most one partial is emitted: that of the current utterance after the last frame, if it changed.
        """
        events: list[UtteranceEvent] = []
        for frame in self.beams.frames(log_probs_TV):
            state = self._advance(state, frame, events)
        if state.options.partials and len(log_probs_TV):
            state = self._emit_partial(state, events)
        return state, tuple(events)

    def flush(self, state: UtteranceState) -> tuple[UtteranceState, tuple[UtteranceEvent, ...]]:
        """End the current utterance: emit its final, if it has words, and return the next one's state."""
        events: list[UtteranceEvent] = []
        state = self._finish(state, events, end_of_sentence=True)
        return state, tuple(events)

    def _advance(
        self, state: UtteranceState, frame: PrunedFrame, events: list[UtteranceEvent]
    ) -> UtteranceState:
        beam = self.beams.advance(state.beam, frame)
        state = replace(state, beam=beam)
        best = beam.beams[0]
        speech_end = best.path.speech_end
        if speech_end is not None and not state.speech_started:
            state = self._start_speech(state, best.path.speech_start, events)
        length = beam.frame - state.start_frame
        decision = state.rules.decide(
            EndpointInput(
                utterance_frames=length,
                trailing_silence=None if speech_end is None else beam.frame - speech_end,
                at_word_boundary=not best.partial_word,
                silence=frame.best_token in (self.beams.tokens.blank, self.beams.tokens.separator),
            )
        )
        if (
            decision is EndpointDecision.CONTINUE
            and 2 * len(best.tokens) >= self.beams.config.max_path_tokens
        ):
            decision = EndpointDecision.SPLIT
        match decision:
            case EndpointDecision.END:
                return self._finish(state, events, end_of_sentence=True)
            case EndpointDecision.SPLIT:
                return self._finish(state, events, end_of_sentence=False)
            case EndpointDecision.RESET:
                return self._discard(state, events)
            case EndpointDecision.CONTINUE:
                return self._commit(state) if length % COMMIT_INTERVAL_FRAMES == 0 else state

    def _start_speech(
        self, state: UtteranceState, start_frame: int, events: list[UtteranceEvent]
    ) -> UtteranceState:
        events.append(SpeechStarted(start_frame))
        return replace(state, speech_started=True)

    def _commit(self, state: UtteranceState) -> UtteranceState:
        """Commit the stable words."""
        text = stable_text(state.beam)
        count = len(text.split())
        if count <= len(state.committed):
            return state
        state = replace(state, beam=self.beams.commit(state.beam, text))
        return replace(state, committed=self._best_hypothesis(state).words[:count])

    def _best_hypothesis(self, state: UtteranceState) -> Hypothesis:
        """The best hypothesis so far, with the committed words as they were when they were committed."""
        (hypothesis,) = self.beams.hypotheses(state.beam, final=False, count=1)
        return _with_committed(hypothesis, state.committed)

    def _emit_partial(self, state: UtteranceState, events: list[UtteranceEvent]) -> UtteranceState:
        hypothesis = self._best_hypothesis(state)
        last_partial = (hypothesis.text, len(state.committed))
        if last_partial == state.last_partial:
            return state
        events.append(Partial(state.utterance, hypothesis, len(state.committed)))
        return replace(state, last_partial=last_partial)

    def _finish(
        self, state: UtteranceState, events: list[UtteranceEvent], *, end_of_sentence: bool
    ) -> UtteranceState:
        best, *others = self.beams.hypotheses(
            state.beam, final=True, count=max(1, state.options.alternatives), end_of_sentence=end_of_sentence
        )
        best = _with_committed(best, state.committed)
        if not best.words:
            return self._discard(state, events)
        if not state.speech_started:
            state = self._start_speech(state, best.words[0].start_frame, events)
        events.append(Final(state.utterance, best, tuple(other for other in others if other.words)))
        previous_words = () if end_of_sentence else [word.text for word in best.words]
        return self._next_utterance(state, state.utterance + 1, previous_words)

    def _discard(self, state: UtteranceState, events: list[UtteranceEvent]) -> UtteranceState:
        """Start over without a final; an empty partial takes back words that were shown."""
        if state.last_partial[0]:
            events.append(Partial(state.utterance, Hypothesis((), 0.0), 0))
        return self._next_utterance(state, state.utterance)

    def _next_utterance(
        self, state: UtteranceState, utterance: int, previous_words: Iterable[str] = ()
    ) -> UtteranceState:
        beam = self.beams.initial_state(state.beam.scorer, frame=state.frame, previous_words=previous_words)
        return UtteranceState(state.options, state.rules, beam, utterance, start_frame=state.frame)


def _with_committed(hypothesis: Hypothesis, committed: tuple[Word, ...]) -> Hypothesis:
    """Replace the first words by the committed ones; later words begin no earlier than those end.

    A path that has become the best one may have the committed words at other times, and its next word where they
    were.
    """
    words = list(committed)
    for word in hypothesis.words[len(committed) :]:
        start = max(word.start_frame, words[-1].end_frame) if words else word.start_frame
        end = max(word.end_frame, start + 1)
        words.append(replace(word, start_frame=start, end_frame=end))
    return Hypothesis(tuple(words), hypothesis.score)
