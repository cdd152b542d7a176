"""Decode an endless stream of log-probs into utterances: partials with committed words, endpoints, finals.

One :class:`UtteranceDecoder` serves all sessions of a model; the state of a session is a frozen
:class:`UtteranceState`. The native core takes every decision frame by frame, so results depend neither on how the
frames are cut into chunks nor on which sessions are stepped together. Only partials and endings are once per chunk.
All times are counted in encoder frames.

An utterance that ends in a chunk's look-ahead ends at once. The frames up to there are then decoded from the
look-ahead's log-probs, and left out of the next chunk.

Shape suffixes: T encoder frames, V tokens.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from streamasr.config import EndpointConfig, StabilityConfig
from streamasr.decoding.beam import BatchResult, BeamDecoder, BeamState, LogProbs
from streamasr.decoding.confidence import logistic
from streamasr.decoding.endpoint import EndpointDecision, EndpointRules, endpoint_rules
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
from streamasr.decoding.lookahead import has_silence
from streamasr.decoding.neural_lm import Context
from streamasr.decoding.rescoring import PARTIAL_CANDIDATES, Rescorer, Unfinished
from streamasr.decoding.stability import words_to_show
from streamasr.processor import usable_cores

UtteranceOutcome = tuple["UtteranceState", tuple[UtteranceEvent, ...]]
"""A session's state after a step, and the events of the step."""
COMMIT_INTERVAL_FRAMES = 8
"""Stable words are committed, and the evidence of speech is checked, at every eighth frame of an utterance, wherever
its chunks end."""
RESCORED_COMMIT_INTERVAL_FRAMES = 16
"""With a rescorer, words are committed half as often: each time costs some milliseconds."""
_NO_COMMITS = 1 << 30
"""The commit interval for look-ahead, in which nothing is committed."""
_ENDING_SILENCE_FRAMES = 8
"""An ending is not announced before so much trailing silence."""
_UNSHOWN = ("", -1)
"""A last partial that differs from every partial."""
CONFIRMING_WORDS = 2
"""Words are shown before their utterance ends once this many of them are sharp enough."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UtteranceOptions:
    """The decoder's settings for one session."""

    hotwords: tuple[Hotword, ...] = ()
    endpointing: EndpointConfig = field(default_factory=EndpointConfig)
    stability: StabilityConfig = field(default_factory=StabilityConfig)
    alternatives: int = 1
    """Hypotheses of a final at most, the best one included."""
    partials: bool = True
    ending_threshold: float | None = None
    """Probability from which an :class:`UtteranceEnding` is emitted; ``None`` for never."""


@dataclass(frozen=True, slots=True, eq=False)
class UtteranceState:
    """The decoding state of one session.

    Its size is bounded by the longest utterance that its endpoint rules and ``max_path_tokens`` allow.
    """

    options: UtteranceOptions
    rules: EndpointRules
    beam: BeamState
    utterance: int
    """Number of the current utterance, from 0. An utterance without words is not counted."""
    start_frame: int
    """Frame of the stream at which the utterance began."""
    committed: tuple[Word, ...] = ()
    """Words that never change again."""
    confirmed: bool = True
    """Whether there was enough evidence of speech (``DecoderConfig.min_partial_sharpness``) to show words."""
    speech_started: bool = False
    """Whether the utterance's ``SpeechStarted`` has been emitted."""
    last_partial: tuple[str, int] = ("", 0)
    """Text and number of committed words of the last partial."""
    ending: str | None = None
    """The text of an announced ending that was not taken back."""
    frames_ahead: int = 0
    """Frames of the next chunk that were decoded from look-ahead."""
    context: Context | None = None
    """The rescorer's, after the utterances before and the committed words; ``None`` without a rescorer."""

    @property
    def frame(self) -> int:
        """Frames of the stream decoded so far."""
        return self.beam.frame


@dataclass(slots=True, eq=False)
class _SessionStep:
    """A session while its chunk is decoded."""

    state: UtteranceState
    next_frame: int
    """The first row of the chunk that has not been decoded."""
    preview: UtteranceState | None = None
    """The state after the look-ahead, if it was decoded and the utterance goes on."""
    events: list[UtteranceEvent] = field(default_factory=list)


class UtteranceDecoder:
    """Decodes the utterances of one model's sessions.

    Args:
        beams: the beam search.
        frame_ms: length of an encoder frame in milliseconds.
        endpointing: the model's endpoint rules, for sessions without their own.
        stability: the model's stability settings, likewise.
        rescorer: chooses among the search's best texts of a final; ``None`` for the best one.
    """

    def __init__(
        self,
        beams: BeamDecoder,
        *,
        frame_ms: float,
        endpointing: EndpointConfig,
        stability: StabilityConfig = StabilityConfig(),  # noqa: B008
        rescorer: Rescorer | None = None,
    ) -> None:
        self.beams = beams
        self.frame_ms = frame_ms
        self.endpointing = endpointing
        self.stability = stability
        self.rescorer = rescorer

    def with_beam_decoder(self, beams: BeamDecoder) -> UtteranceDecoder:
        """Return the same decoder with another beam search."""
        return self._with(beams, self.rescorer)

    def with_rescorer(self, rescorer: Rescorer | None) -> UtteranceDecoder:
        """Return the same decoder with another rescorer, or without one."""
        return self._with(self.beams, rescorer)

    def _with(self, beams: BeamDecoder, rescorer: Rescorer | None) -> UtteranceDecoder:
        return UtteranceDecoder(
            beams,
            frame_ms=self.frame_ms,
            endpointing=self.endpointing,
            stability=self.stability,
            rescorer=rescorer,
        )

    def default_options(self) -> UtteranceOptions:
        """Return the options of a session without wishes: the model's own rules, no hotwords."""
        return UtteranceOptions(endpointing=self.endpointing, stability=self.stability)

    def initial_state(self, options: UtteranceOptions | None = None) -> UtteranceState:
        """Return the state of a new session.

        Raises:
            ConfigError: the model cannot spell a hotword, or a boost is not a finite number.
        """
        options = options or self.default_options()
        rules = endpoint_rules(options.endpointing, self.frame_ms)
        beam = self.beams.initial_state(options.hotwords)
        return UtteranceState(
            options,
            rules,
            beam,
            utterance=0,
            start_frame=0,
            confirmed=self._starts_confirmed,
            context=None if self.rescorer is None else self.rescorer.initial_context(),
        )

    def configure(self, state: UtteranceState, hotwords: Iterable[Hotword]) -> UtteranceState:
        """Replace the hotwords of a session from the next frame on; words not yet committed are rescored.

        Raises:
            ConfigError: the model cannot spell a hotword, or a boost is not a finite number.
        """
        options = replace(state.options, hotwords=tuple(hotwords))
        beam = self.beams.with_hotwords(state.beam, options.hotwords)
        return replace(state, options=options, beam=beam)

    def step(
        self, state: UtteranceState, log_probs_TV: LogProbs, lookahead_TV: LogProbs | None = None
    ) -> UtteranceOutcome:
        """Decode T more frames of natural-log probabilities and return the events; no frames give none.

        A final is emitted at the frame at which its utterance ends; the rest of the chunk belongs to the next
        utterance. At most one partial is emitted: that of the current utterance after the last frame, if it changed.
        Or an ending, if the options ask for it: instead of partials until the hypothesis changes.

        Args:
            state: the session's state.
            log_probs_TV: the next frames.
            lookahead_TV: preliminary log-probs of the frames after them, which the next step gets again. They
                serve to find the end of the utterance sooner, and change nothing else.

        Raises:
            ValueError: the shape is not (frames, tokens), or a value is NaN.
        """
        lookahead = None if lookahead_TV is None else [lookahead_TV]
        (outcome,) = self.step_all([(state, log_probs_TV)], lookahead)
        return outcome

    def step_all(
        self,
        work: Sequence[tuple[UtteranceState, LogProbs]],
        lookahead: Sequence[LogProbs] | None = None,
        *,
        threads: int = 1,
    ) -> list[UtteranceOutcome]:
        """Do :meth:`step` for many sessions at once, with the same results.

        Args:
            work: the state and the log-probs of each session.
            lookahead: the look-ahead of each session.
            threads: at most, this one included; 0 for as many as there are usable cores.

        Raises:
            ValueError: as :meth:`step`; no session has been stepped.
        """
        log_probs = [self.beams.prepare(log_probs_TV) for _, log_probs_TV in work]
        previews = [
            self.beams.prepare(log_probs_TV) if len(log_probs_TV) else log_probs_TV
            for log_probs_TV in lookahead or ()
        ]
        threads = threads or usable_cores()
        sessions = [
            _begin_step(state, len(log_probs_TV))
            for (state, _), log_probs_TV in zip(work, log_probs, strict=True)
        ]
        unfinished = [at for at, session in enumerate(sessions) if session.next_frame < len(log_probs[at])]
        while unfinished:
            results = self.beams.step_batch(
                [sessions[at].state.beam for at in unfinished],
                [log_probs[at][: _next_check(sessions[at])] for at in unfinished],
                [sessions[at].next_frame for at in unfinished],
                [sessions[at].state.rules for at in unfinished],
                [_commit_margin(sessions[at].state.options.stability) for at in unfinished],
                commit_interval=RESCORED_COMMIT_INTERVAL_FRAMES if self.rescorer else COMMIT_INTERVAL_FRAMES,
                commits=self.rescorer is None,
                threads=threads,
            )
            for at, result in zip(unfinished, results, strict=True):
                self._apply(sessions[at], result)
            if self.rescorer is not None:
                stable = [
                    sessions[at] for at, result in zip(unfinished, results, strict=True) if result.stable
                ]
                self._commit_rescored([each for each in stable if each.state.confirmed], self.rescorer)
            unfinished = [at for at in unfinished if sessions[at].next_frame < len(log_probs[at])]
        if previews:
            self._look_ahead(sessions, log_probs, previews, threads)
        stepped = [
            session for session, log_probs_TV in zip(sessions, log_probs, strict=True) if len(log_probs_TV)
        ]
        for session in stepped:
            if session.state.options.ending_threshold is not None:
                newest = session.preview or session.state
                session.state = self._update_ending(session.state, newest, session.events)
        self._emit_partials(
            [
                session
                for session in stepped
                if session.state.options.partials and session.state.ending is None and session.state.confirmed
            ]
        )
        return [(session.state, tuple(session.events)) for session in sessions]

    def _look_ahead(
        self,
        sessions: Sequence[_SessionStep],
        log_probs: Sequence[LogProbs],
        previews: Sequence[LogProbs],
        threads: int,
    ) -> None:
        """End the utterances that end in the look-ahead, and keep the other ones' state after it."""
        chosen = [
            at
            for at, session in enumerate(sessions)
            if len(log_probs[at]) and self._may_end(session.state, log_probs[at], previews[at])
        ]
        if not chosen:
            return
        results = self.beams.step_batch(
            [sessions[at].state.beam for at in chosen],
            [previews[at] for at in chosen],
            [0] * len(chosen),
            [sessions[at].state.rules for at in chosen],
            [math.inf] * len(chosen),
            commit_interval=_NO_COMMITS,
            threads=threads,
        )
        for at, result in zip(chosen, results, strict=True):
            session = sessions[at]
            preview = replace(session.state, beam=result.state)
            if result.decision is EndpointDecision.END:
                state = self._finish(preview, session.events, end_of_sentence=True)
                session.state = replace(state, frames_ahead=result.next_frame)
            elif result.decision is EndpointDecision.CONTINUE:
                session.preview = preview

    def flush(self, state: UtteranceState) -> UtteranceOutcome:
        """End the current utterance: emit its final, unless it is noise or empty, and return the next one's state."""
        events: list[UtteranceEvent] = []
        state = self._finish(state, events, end_of_sentence=True)
        return state, tuple(events)

    def _apply(self, session: _SessionStep, result: BatchResult) -> None:
        """Update ``session`` after the last decoded frame: its events, its committed words, its utterance."""
        session.next_frame = result.next_frame
        state = self._confirm(replace(session.state, beam=result.state))
        if state.confirmed and result.state.speech_start is not None and not state.speech_started:
            session.events.append(SpeechStarted(self._speech_start(state)))
            state = replace(state, speech_started=True)
        match result.decision:
            case EndpointDecision.END:
                state = self._finish(state, session.events, end_of_sentence=True)
            case EndpointDecision.SPLIT:
                state = self._finish(state, session.events, end_of_sentence=False)
            case EndpointDecision.RESET:
                state = self._discard(state, session.events)
            case _:
                if state.confirmed and result.state.committed_words > len(state.committed):
                    words = self._best_hypothesis(state).words[: result.state.committed_words]
                    state = replace(state, committed=words)
        session.state = state

    def _commit_rescored(self, sessions: Sequence[_SessionStep], rescorer: Rescorer) -> None:
        """Commit the words that are stable once the rescorer has been asked."""
        work, rules = [], []
        for session in sessions:
            state = session.state
            assert state.context is not None
            rules.append(rescorer.commit_rules(_commit_margin(state.options.stability)))
            rivals = [tuple(words) for words in self.beams.rivals(state.beam, rules[-1])]
            work.append((state.context, rivals))
        for session, rule, (_, rivals), (gains, context) in zip(
            sessions, rules, work, rescorer.gains(work), strict=True
        ):
            state = replace(session.state, context=context)
            committed = self.beams.commit_rescored(state.beam, rule, [gains[text] for text in rivals])
            if committed is not None:
                beam, entry = committed
                hypothesis = _with_committed(self.beams.hypothesis_builder.build(entry), state)
                words = hypothesis.words[: beam.committed_words]
                newest = [word.text for word in words[len(state.committed) :]]
                after = rescorer.lm.advance_context(context, newest)
                state = replace(state, beam=beam, committed=words, context=after)
            session.state = state

    def _may_end(self, state: UtteranceState, log_probs_TV: LogProbs, lookahead_TV: LogProbs) -> bool:
        """Whether the utterance may end in the look-ahead, or its ending be announced or taken back."""
        if not len(lookahead_TV) or state.frames_ahead:
            return False
        if state.ending is not None:
            return True
        if state.beam.speech_start is None:
            return False
        frames = state.rules.min_silence_frames
        if state.options.ending_threshold is not None:
            frames = min(frames, _ENDING_SILENCE_FRAMES)
        return has_silence(log_probs_TV, lookahead_TV, frames, self.beams.tokens)

    def _update_ending(
        self, state: UtteranceState, newest: UtteranceState, events: list[UtteranceEvent]
    ) -> UtteranceState:
        """Announce that the utterance ends, or take that back if its hypothesis has changed.

        Args:
            state: the session's state.
            newest: the state after the look-ahead.
            events: receives the events.
        """
        silence = newest.frame - (newest.frame if newest.beam.speech_end is None else newest.beam.speech_end)
        if state.ending is None and silence < _ENDING_SILENCE_FRAMES:
            return state
        hypothesis = self._final_hypotheses(newest, end_of_sentence=True)[0]
        if state.ending is not None:
            return state if hypothesis.text == state.ending else self._take_back_ending(state, events)
        sentence_end = self.beams.sentence_end_log_prob(newest.beam)
        probability = logistic(newest.rules.end_odds.log_odds(silence, sentence_end))
        threshold = state.options.ending_threshold
        if threshold is None or probability < threshold or self._is_noise(newest, hypothesis):
            return state
        if not state.speech_started:
            events.append(SpeechStarted(self._speech_start(newest, hypothesis.words)))
        events.append(UtteranceEnding(state.utterance, hypothesis, probability))
        return replace(state, speech_started=True, ending=hypothesis.text)

    def _take_back_ending(self, state: UtteranceState, events: list[UtteranceEvent]) -> UtteranceState:
        state = replace(state, ending=None, last_partial=_UNSHOWN)
        if state.confirmed:
            session = _SessionStep(state, next_frame=0, events=events)
            self._emit_partials([session])
            return session.state
        events.append(Partial(state.utterance, Hypothesis((), 0.0), 0))
        return replace(state, last_partial=("", 0))

    @property
    def _starts_confirmed(self) -> bool:
        return self.beams.config.min_partial_sharpness == 0

    def _confirm(self, state: UtteranceState) -> UtteranceState:
        """Confirm the utterance if its words, with or without the last, which may be open, are sharp enough."""
        checked = (state.frame - state.start_frame) % COMMIT_INTERVAL_FRAMES == 0
        if state.confirmed or not checked or state.beam.speech_start is None:
            return state
        hypothesis = self._best_hypothesis(state)
        without_last = replace(hypothesis, words=hypothesis.words[:-1])
        confirmed = any(
            len(part.words) >= CONFIRMING_WORDS and part.sharpness >= self.beams.config.min_partial_sharpness
            for part in (hypothesis, without_last)
        )
        return replace(state, confirmed=confirmed)

    def _speech_start(self, state: UtteranceState, words: Sequence[Word] = ()) -> int:
        """Return the frame at which the best beam first had a word, or at which the first of ``words`` begins."""
        start = state.beam.speech_start
        first = words[0].start_frame if start is None else start - self.beams.hypothesis_builder.lead_frames
        return max(first, state.start_frame)

    def _best_hypothesis(self, state: UtteranceState) -> Hypothesis:
        """The best hypothesis so far, with the committed words as they were when they were committed."""
        (hypothesis,) = self.beams.hypotheses(state.beam, final=False, count=1)
        return _with_committed(hypothesis, state)

    def _emit_partials(self, sessions: Sequence[_SessionStep]) -> None:
        """Emit the partials that have changed.

        The rescorer is asked about them, too, so that few of their words change when they are committed.
        """
        hypotheses = [self._best_hypothesis(session.state) for session in sessions if self.rescorer is None]
        if self.rescorer is not None:
            work = [self._unfinished(session.state) for session in sessions]
            for session, (entry, context) in zip(sessions, self.rescorer.best_partials(work), strict=True):
                session.state = replace(session.state, context=context)
                hypothesis = self.beams.hypothesis_builder.build(entry)
                hypotheses.append(_with_committed(hypothesis, session.state))
        for session, hypothesis in zip(sessions, hypotheses, strict=True):
            session.state = _show(session.state, hypothesis, session.events)

    def _unfinished(self, state: UtteranceState) -> Unfinished:
        assert state.context is not None
        entries = self.beams.nbest(state.beam, final=False, count=PARTIAL_CANDIDATES)
        return Unfinished(state.context, entries, [word.text for word in state.committed])

    def _finish(
        self, state: UtteranceState, events: list[UtteranceEvent], *, end_of_sentence: bool
    ) -> UtteranceState:
        best, *others = self._final_hypotheses(
            state, count=max(1, state.options.alternatives), end_of_sentence=end_of_sentence
        )
        if self._is_noise(state, best):
            return self._discard(state, events)
        if state.ending is not None and state.ending != best.text:
            state = self._take_back_ending(state, events)
        if not state.speech_started:
            events.append(SpeechStarted(self._speech_start(state, best.words)))
        alternatives = tuple(other for other in others if other.words)
        events.append(Final(state.utterance, best, alternatives, end_of_sentence))
        words = [word.text for word in best.words]
        context = state.context
        if self.rescorer is not None and context is not None:
            rest = words[len(state.committed) :]
            context = self.rescorer.end_utterance(context, rest, end_of_sentence=end_of_sentence)
        next_state = self._next_utterance(state, state.utterance + 1, () if end_of_sentence else words)
        return replace(next_state, context=context)

    def _final_hypotheses(
        self, state: UtteranceState, *, count: int = 1, end_of_sentence: bool
    ) -> tuple[Hypothesis, ...]:
        """The hypotheses if the utterance ended here, with the committed words in the best one."""
        rescorer, context = self.rescorer, state.context
        candidates = count if rescorer is None else max(count, rescorer.config.candidates)
        entries = self.beams.nbest(state.beam, final=True, count=candidates, end_of_sentence=end_of_sentence)
        if rescorer is not None and context is not None:
            committed = [word.text for word in state.committed]
            entries = rescorer.order(context, entries, committed, end_of_sentence=end_of_sentence)
        best, *others = (self.beams.hypothesis_builder.build(entry) for entry in entries[:count])
        return _with_committed(best, state), *others

    def _is_noise(self, state: UtteranceState, best: Hypothesis) -> bool:
        """Whether an utterance with this best hypothesis has no words, or only words that are not sharp enough."""
        if not best.words:
            return True
        return not state.committed and best.sharpness < self.beams.config.min_utterance_sharpness

    def _discard(self, state: UtteranceState, events: list[UtteranceEvent]) -> UtteranceState:
        """Start over without a final; an empty partial takes back words that were shown."""
        if state.last_partial[0] or state.ending is not None:
            events.append(Partial(state.utterance, Hypothesis((), 0.0), 0))
        return self._next_utterance(state, state.utterance)

    def _next_utterance(
        self, state: UtteranceState, utterance: int, previous_words: Iterable[str] = ()
    ) -> UtteranceState:
        beam = self.beams.initial_state(state.beam.hotwords, frame=state.frame, previous_words=previous_words)
        return UtteranceState(
            state.options,
            state.rules,
            beam,
            utterance,
            start_frame=state.frame,
            confirmed=self._starts_confirmed,
            context=state.context,
        )


def _show(state: UtteranceState, hypothesis: Hypothesis, events: list[UtteranceEvent]) -> UtteranceState:
    """Emit a partial with the words to show of a hypothesis, if it differs from the last one."""
    count = words_to_show(len(hypothesis.words), len(state.committed), state.options.stability)
    hypothesis = replace(hypothesis, words=hypothesis.words[:count])
    partial = (hypothesis.text, len(state.committed))
    if partial == state.last_partial:
        return state
    events.append(Partial(state.utterance, hypothesis, len(state.committed)))
    return replace(state, last_partial=partial)


def _begin_step(state: UtteranceState, frames: int) -> _SessionStep:
    """Skip the rows of a chunk that were decoded from look-ahead."""
    skipped = min(state.frames_ahead, frames)
    return _SessionStep(replace(state, frames_ahead=state.frames_ahead - skipped), next_frame=skipped)


def _next_check(session: _SessionStep) -> int | None:
    """The row before which the search stops to check the evidence of speech; ``None`` once it is confirmed."""
    state = session.state
    if state.confirmed:
        return None
    done = (state.frame - state.start_frame) % COMMIT_INTERVAL_FRAMES
    return session.next_frame + COMMIT_INTERVAL_FRAMES - done


def _commit_margin(stability: StabilityConfig) -> float:
    return math.inf if stability.commit_margin is None else stability.commit_margin


def _with_committed(hypothesis: Hypothesis, state: UtteranceState) -> Hypothesis:
    """Replace the first words by the committed ones and clip all words to the utterance so far.

    A path that has become the best one may have the committed words at other times, and its next word where they
    were: later words begin no earlier than the committed ones end.
    """
    words = list(state.committed)
    for word in hypothesis.words[len(words) :]:
        start = max(word.start_frame, words[-1].end_frame if words else state.start_frame)
        end = max(min(word.end_frame, state.frame), start + 1)
        words.append(replace(word, start_frame=start, end_frame=end))
    return Hypothesis(tuple(words), hypothesis.score)
