"""From an endless stream of log-probs to utterances: partials that settle, endpoints, finals.

One :class:`UtteranceDecoder` serves every session of a model; what a session has heard is a frozen
:class:`UtteranceState`. Every decision is taken frame by frame, by the native core, so that no result depends on
how the frames were cut into chunks or on which sessions were stepped together; only partials are given once a
chunk. Knows no audio, no milliseconds beyond the length of a frame, and no clock.

Shape suffixes: T encoder frames, V tokens.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from streamasr.config import EndpointConfig, StabilityConfig
from streamasr.decoding.beam import BeamDecoder, BeamState, Heard, LogProbs
from streamasr.decoding.endpoint import EndpointRules, Verdict, endpoint_rules
from streamasr.decoding.hypothesis import (
    Final,
    Hotword,
    Hypothesis,
    Partial,
    SpeechStarted,
    UtteranceEvent,
    Word,
)
from streamasr.decoding.stability import words_to_show

UtteranceOutcome = tuple["UtteranceState", tuple[UtteranceEvent, ...]]
"""A session's state after a step, and what the step changed."""
COMMIT_EVERY_FRAMES = 8
"""Words are committed at every eighth frame of an utterance, wherever its chunks end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UtteranceOptions:
    """What a session may choose."""

    hotwords: tuple[Hotword, ...] = ()
    endpointing: EndpointConfig = field(default_factory=EndpointConfig)
    stability: StabilityConfig = field(default_factory=StabilityConfig)
    alternatives: int = 1
    """Readings of a final at most, the best one included."""
    partials: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class UtteranceState:
    """One session's decoding. Bounded by the longest utterance its endpoint rules and ``max_path_tokens`` allow."""

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


@dataclass(slots=True, eq=False)
class _Stepping:
    """A session while its chunk is heard."""

    state: UtteranceState
    heard: int = 0
    """Rows of the chunk so far."""
    events: list[UtteranceEvent] = field(default_factory=list)


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class UtteranceDecoder:
    """Utterances of one model.

    Args:
        beams: the beam search.
        frame_ms: length of an encoder frame in milliseconds.
        endpointing: the model's own endpoint rules, for sessions that bring none.
        stability: when words are shown and committed, likewise.
    """

    def __init__(
        self,
        beams: BeamDecoder,
        *,
        frame_ms: float,
        endpointing: EndpointConfig,
        stability: StabilityConfig = StabilityConfig(),  # noqa: B008
    ) -> None:
        self.beams = beams
        self.frame_ms = frame_ms
        self.endpointing = endpointing
        self.stability = stability

    def searching(self, beams: BeamDecoder) -> UtteranceDecoder:
        """The same decoder with another search."""
        return UtteranceDecoder(
            beams, frame_ms=self.frame_ms, endpointing=self.endpointing, stability=self.stability
        )

    def default_options(self) -> UtteranceOptions:
        """The options of a session that asks for nothing: the model's own rules, no hotwords."""
        return UtteranceOptions(endpointing=self.endpointing, stability=self.stability)

    def initial_state(self, options: UtteranceOptions | None = None) -> UtteranceState:
        """A session that has heard nothing.

        Raises:
            ConfigError: a hotword that the model cannot spell, or a boost that is no number.
        """
        options = options or self.default_options()
        rules = endpoint_rules(options.endpointing, self.frame_ms)
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

    def step(self, state: UtteranceState, log_probs_TV: LogProbs) -> UtteranceOutcome:
        """Hear T more frames of natural-log probabilities and say what they changed; no frame changes nothing.

        Finals come at the frames where utterances end; what is left of the chunk belongs to the next
        utterance. At most one partial is given, for the utterance under way after the last frame, if it
        changed.

        Raises:
            ValueError: the log-probs are not (frames, tokens), or one is NaN.
        """
        (outcome,) = self.step_all([(state, log_probs_TV)])
        return outcome

    def step_all(
        self, work: Sequence[tuple[UtteranceState, LogProbs]], *, threads: int = 1
    ) -> list[UtteranceOutcome]:
        """:meth:`step` for many sessions at once; each as if it were alone.

        Args:
            work: states and what each is to hear.
            threads: at most, this one included; 0 for as many as the machine has cores.

        Raises:
            ValueError: as :meth:`step`; nobody has been stepped.
        """
        log_probs = [self.beams.prepared(log_probs_TV) for _, log_probs_TV in work]
        threads = threads or usable_cores()
        sessions = [_Stepping(state) for state, _ in work]
        waiting = [place for place, log_probs_TV in enumerate(log_probs) if len(log_probs_TV)]
        while waiting:
            heard = self.beams.hear(
                [sessions[place].state.beam for place in waiting],
                [log_probs[place] for place in waiting],
                [sessions[place].heard for place in waiting],
                [sessions[place].state.rules for place in waiting],
                [_margin(sessions[place].state.options.stability) for place in waiting],
                commit_every=COMMIT_EVERY_FRAMES,
                threads=threads,
            )
            for place, outcome in zip(waiting, heard, strict=True):
                self._note(sessions[place], outcome)
            waiting = [place for place in waiting if sessions[place].heard < len(log_probs[place])]
        return [self._stepped(session) for session in sessions]

    def flush(self, state: UtteranceState) -> UtteranceOutcome:
        """End the utterance under way now: its final, if it has words, and the state of the next one."""
        events: list[UtteranceEvent] = []
        state = self._finish(state, events, end_of_sentence=True)
        return state, tuple(events)

    def _note(self, session: _Stepping, heard: Heard) -> None:
        """Do what is to be done after the last frame that ``session`` heard."""
        session.heard = heard.end
        state = replace(session.state, beam=heard.state)
        if heard.state.speech_start is not None and not state.started:
            start = heard.state.speech_start - self.beams.telling.lead_frames
            state = self._start(state, start, session.events)
        match heard.verdict:
            case Verdict.ENDS:
                state = self._finish(state, session.events, end_of_sentence=True)
            case Verdict.SPLITS:
                state = self._finish(state, session.events, end_of_sentence=False)
            case Verdict.HEARD_NOTHING:
                state = self._forget(state, session.events)
            case _:
                if heard.settled:
                    words = self._best_reading(state).words[: heard.state.committed_words]
                    state = replace(state, committed=words)
        session.state = state

    def _stepped(self, session: _Stepping) -> UtteranceOutcome:
        state = session.state
        if state.options.partials and session.heard:
            state = self._show(state, session.events)
        return state, tuple(session.events)

    def _start(self, state: UtteranceState, start_frame: int, events: list[UtteranceEvent]) -> UtteranceState:
        events.append(SpeechStarted(max(start_frame, state.start_frame)))
        return replace(state, started=True)

    def _best_reading(self, state: UtteranceState) -> Hypothesis:
        """The best reading so far, its committed words as they were when they were committed."""
        (reading,) = self.beams.hypotheses(state.beam, final=False, count=1)
        return _with_committed(reading, state)

    def _show(self, state: UtteranceState, events: list[UtteranceEvent]) -> UtteranceState:
        reading = self._best_reading(state)
        count = words_to_show(len(reading.words), len(state.committed), state.options.stability)
        reading = replace(reading, words=reading.words[:count])
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
        best = _with_committed(best, state)
        if not best.words:
            return self._forget(state, events)
        if not state.started:
            state = self._start(state, best.words[0].start_frame, events)
        alternatives = tuple(other for other in others if other.words)
        events.append(Final(state.utterance, best, alternatives, end_of_sentence))
        after = () if end_of_sentence else [word.text for word in best.words]
        return self._next(state, state.utterance + 1, after)

    def _forget(self, state: UtteranceState, events: list[UtteranceEvent]) -> UtteranceState:
        """Start afresh without a final; a partial whose words came to nothing is taken back."""
        if state.shown[0]:
            events.append(Partial(state.utterance, Hypothesis((), 0.0), 0))
        return self._next(state, state.utterance)

    def _next(self, state: UtteranceState, utterance: int, after: Iterable[str] = ()) -> UtteranceState:
        beam = self.beams.initial_state(state.beam.hotwords, frame=state.frame, after=after)
        return UtteranceState(state.options, state.rules, beam, utterance, start_frame=state.frame)


def _margin(stability: StabilityConfig) -> float:
    return math.inf if stability.commit_margin is None else stability.commit_margin


def _with_committed(reading: Hypothesis, state: UtteranceState) -> Hypothesis:
    """The reading with the committed words as they were, and all words between the utterance's start and now.

    A reading that is better now may hear the committed words elsewhere, and the next one where they were: later
    words begin no earlier than those ended.
    """
    words = list(state.committed)
    for word in reading.words[len(words) :]:
        start = max(word.start_frame, words[-1].end_frame if words else state.start_frame)
        end = max(min(word.end_frame, state.frame), start + 1)
        words.append(replace(word, start_frame=start, end_frame=end))
    return Hypothesis(tuple(words), reading.score)
