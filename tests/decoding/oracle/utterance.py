"""From an endless stream of log-probs to utterances: partials that settle, endpoints, finals.

One :class:`UtteranceDecoder` serves every session of a model; what a session has heard is a frozen
:class:`UtteranceState`. Every decision is taken frame by frame, so that no result depends on how the frames
were cut into chunks; only partials are given once a chunk. Knows no audio, no milliseconds beyond the length
of a frame, and no clock.

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
from tests.decoding.oracle.beam import BeamDecoder, Frame
from tests.decoding.oracle.endpoint import EndpointRules, Hearing, Verdict
from tests.decoding.oracle.state import BeamState, settled_text

COMMIT_EVERY_FRAMES = 8
"""Words are committed at every eighth frame of an utterance, wherever its chunks end."""


@dataclass(frozen=True, slots=True, eq=False)
class UtteranceState:
    """One session's decoding. Bounded by the longest utterance its endpoint rules allow."""

    options: UtteranceOptions
    rules: EndpointRules
    beam: BeamState
    utterance: int
    """Number of the utterance under way, from 0; an utterance without words uses none up."""
    start_frame: int
    """Frame of the stream at which the utterance began."""
    committed: tuple[Word, ...] = ()
    """Words that never change again."""
    started: bool = False
    """Whether the utterance's ``SpeechStarted`` has been given."""
    shown: tuple[str, int] = ("", 0)
    """Text and committed words of the last partial."""

    @property
    def frame(self) -> int:
        """Frames of the stream heard so far."""
        return self.beam.frame


class UtteranceDecoder:
    """Utterances of one model.

    Args:
        beams: the beam search.
        frame_ms: length of an encoder frame in milliseconds.
        endpointing: the model's own endpoint rules, for sessions that bring none.
    """

    def __init__(self, beams: BeamDecoder, *, frame_ms: float, endpointing: EndpointConfig) -> None:
        self.beams = beams
        self.frame_ms = frame_ms
        self.endpointing = endpointing

    def default_options(self) -> UtteranceOptions:
        """The options of a session that asks for nothing: the model's endpoint rules, no hotwords."""
        return UtteranceOptions(endpointing=self.endpointing)

    def initial_state(self, options: UtteranceOptions | None = None) -> UtteranceState:
        """A session that has heard nothing.

        Raises:
            ConfigError: a hotword that the model cannot spell, or a boost that is no number.
        """
        options = options or self.default_options()
        rules = EndpointRules.of(options.endpointing, self.frame_ms)
        beam = self.beams.initial_state(options.hotwords)
        return UtteranceState(options, rules, beam, utterance=0, start_frame=0)

    def configure(self, state: UtteranceState, hotwords: Iterable[Hotword]) -> UtteranceState:
        """Listen for ``hotwords`` instead, from the next frame on; words not yet committed are weighed anew.

        Raises:
            ConfigError: a hotword that the model cannot spell, or a boost that is no number.
        """
        options = replace(state.options, hotwords=tuple(hotwords))
        beam = self.beams.with_hotwords(state.beam, options.hotwords)
        return replace(state, options=options, beam=beam)

    def step(
        self, state: UtteranceState, log_probs_TV: NDArray[np.floating[Any]]
    ) -> tuple[UtteranceState, tuple[UtteranceEvent, ...]]:
        """Hear T more frames of natural-log probabilities and say what they changed.

        Finals come at the frames where utterances end; what is left of the chunk belongs to the next
        utterance. At most one partial is given, for the utterance under way after the last frame, if it
        changed.
        """
        events: list[UtteranceEvent] = []
        for frame in self.beams.frames(log_probs_TV):
            state = self._hear(state, frame, events)
        if state.options.partials and len(log_probs_TV):
            state = self._show(state, events)
        return state, tuple(events)

    def flush(self, state: UtteranceState) -> tuple[UtteranceState, tuple[UtteranceEvent, ...]]:
        """End the utterance under way now: its final, if it has words, and the state of the next one."""
        events: list[UtteranceEvent] = []
        state = self._finish(state, events, end_of_sentence=True)
        return state, tuple(events)

    def _hear(self, state: UtteranceState, frame: Frame, events: list[UtteranceEvent]) -> UtteranceState:
        beam = self.beams.advance(state.beam, frame)
        state = replace(state, beam=beam)
        best = beam.beams[0]
        speech_end = best.path.speech_end
        if speech_end is not None and not state.started:
            state = self._start(state, best.path.speech_start, events)
        length = beam.frame - state.start_frame
        verdict = state.rules.judge(
            Hearing(
                frames=length,
                silent_frames=None if speech_end is None else beam.frame - speech_end,
                between_words=not best.part,
                quiet=frame.best in (self.beams.tokens.blank, self.beams.tokens.separator),
            )
        )
        if verdict is Verdict.GOES_ON and 2 * len(best.tokens) >= self.beams.config.max_path_tokens:
            verdict = Verdict.SPLITS
        match verdict:
            case Verdict.ENDS:
                return self._finish(state, events, end_of_sentence=True)
            case Verdict.SPLITS:
                return self._finish(state, events, end_of_sentence=False)
            case Verdict.HEARD_NOTHING:
                return self._forget(state, events)
            case Verdict.GOES_ON:
                return self._commit(state) if length % COMMIT_EVERY_FRAMES == 0 else state

    def _start(self, state: UtteranceState, start_frame: int, events: list[UtteranceEvent]) -> UtteranceState:
        events.append(SpeechStarted(start_frame))
        return replace(state, started=True)

    def _commit(self, state: UtteranceState) -> UtteranceState:
        """Commit the words that every beam which can still win begins with."""
        text = settled_text(state.beam)
        count = len(text.split())
        if count <= len(state.committed):
            return state
        state = replace(state, beam=self.beams.commit(state.beam, text))
        return replace(state, committed=self._best_reading(state).words[:count])

    def _best_reading(self, state: UtteranceState) -> Hypothesis:
        """The best reading so far, its committed words as they were when they were committed."""
        (reading,) = self.beams.hypotheses(state.beam, final=False, count=1)
        return _with_committed(reading, state.committed)

    def _show(self, state: UtteranceState, events: list[UtteranceEvent]) -> UtteranceState:
        reading = self._best_reading(state)
        shown = (reading.text, len(state.committed))
        if shown == state.shown:
            return state
        events.append(Partial(state.utterance, reading, len(state.committed)))
        return replace(state, shown=shown)

    def _finish(
        self, state: UtteranceState, events: list[UtteranceEvent], *, end_of_sentence: bool
    ) -> UtteranceState:
        best, *others = self.beams.hypotheses(
            state.beam, final=True, count=max(1, state.options.alternatives), end_of_sentence=end_of_sentence
        )
        best = _with_committed(best, state.committed)
        if not best.words:
            return self._forget(state, events)
        if not state.started:
            state = self._start(state, best.words[0].start_frame, events)
        events.append(Final(state.utterance, best, tuple(other for other in others if other.words)))
        after = () if end_of_sentence else [word.text for word in best.words]
        return self._next(state, state.utterance + 1, after)

    def _forget(self, state: UtteranceState, events: list[UtteranceEvent]) -> UtteranceState:
        """Start afresh without a final; a partial whose words came to nothing is taken back."""
        if state.shown[0]:
            events.append(Partial(state.utterance, Hypothesis((), 0.0), 0))
        return self._next(state, state.utterance)

    def _next(self, state: UtteranceState, utterance: int, after: Iterable[str] = ()) -> UtteranceState:
        beam = self.beams.initial_state(state.beam.scorer, frame=state.frame, after=after)
        return UtteranceState(state.options, state.rules, beam, utterance, start_frame=state.frame)


def _with_committed(reading: Hypothesis, committed: tuple[Word, ...]) -> Hypothesis:
    """The reading with the committed words' times as they were; later words begin no earlier than those ended.

    A reading that is better now may hear the committed words elsewhere, and the next one where they were.
    """
    words = list(committed)
    for word in reading.words[len(committed) :]:
        start = max(word.start_frame, words[-1].end_frame) if words else word.start_frame
        end = max(word.end_frame, start + 1)
        words.append(replace(word, start_frame=start, end_frame=end))
    return Hypothesis(tuple(words), reading.score)
