"""CTC prefix beam search with a language model, frame by frame, its state a value.

The search is pyctcdecode 0.5.0's ``decode_beams`` (a prefix beam search after Hannun et al. 2014 with KenLM
scores at word ends and a penalty on word beginnings that no known word has), so that one step a chunk gives
what it gives for the whole utterance. ``docs/decoder-internals.md`` lists where it differs and why. Knows tokens and
words; does not know what an utterance is, when it ends, or where the log-probs come from.

Shape suffixes: T encoder frames, V tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from math import exp, log, log1p
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamasr.config import DecoderConfig
from streamasr.decoding.hypothesis import Hotword, Hypothesis
from streamasr.decoding.tokens import TokenList
from tests.decoding.oracle.context import Context, ContextScorer, extends, joined
from tests.decoding.oracle.hotwords import HotwordScorer
from tests.decoding.oracle.language_model import LanguageModel
from tests.decoding.oracle.paths import Path
from tests.decoding.oracle.readings import hypotheses_of, read_final, read_open
from tests.decoding.oracle.state import Beam, BeamState, narrowed, undominated

LOG_PROB_FLOOR = log(1e-15)
"""No token is less probable than this; pyctcdecode's own floor."""


class Frame(NamedTuple):
    """What one frame offers."""

    tokens: list[tuple[int, float]]
    """Ids worth trying with their log-probs, rising ids."""
    best: int
    """The most probable of them."""


@dataclass(slots=True, eq=False)
class _Candidate:
    """A beam of the next frame while paths are still being added to it."""

    context: Context
    part: str
    token: int
    score: float
    path_score: float
    part_score: float
    source: Beam
    """The beam of this frame that the best path comes from …"""
    place: int
    """… and its place among them."""
    log_prob: float
    total: float = 0.0


class BeamDecoder:
    """The search for one model; immutable, serves every session.

    Args:
        tokens: what the columns of the log-probs stand for.
        lm: the language model, or ``None`` for acoustic scores (and hotwords) alone.
        config: widths and weights.
    """

    def __init__(self, tokens: TokenList, lm: LanguageModel | None, config: DecoderConfig) -> None:
        self.tokens = tokens
        self.lm = lm
        self.config = config

    def scorer(self, hotwords: Iterable[Hotword]) -> ContextScorer:
        """The scores of a session with ``hotwords``; may be shared by its searches.

        Raises:
            ConfigError: a hotword that this model cannot spell, or a boost that is no number.
        """
        spelt = tuple(Hotword(self.tokens.spell(hotword.text), hotword.boost) for hotword in hotwords)
        return ContextScorer(self.lm, HotwordScorer(spelt))

    def initial_state(
        self,
        hotwords: Iterable[Hotword] | ContextScorer = (),
        *,
        frame: int = 0,
        after: Iterable[str] = (),
    ) -> BeamState:
        """A search that has heard nothing.

        Args:
            hotwords: what to listen for, or a scorer made from it before.
            frame: frames of the stream that went before.
            after: words said just before, for the language model; empty at the start of a sentence.
        """
        scorer = hotwords if isinstance(hotwords, ContextScorer) else self.scorer(hotwords)
        beam = Beam(scorer.root(after), "", self.tokens.blank, 0.0, 0.0, 0.0, Path())
        return BeamState((beam,), 0.0, True, frame, "", scorer)

    def with_hotwords(self, state: BeamState, hotwords: Iterable[Hotword] | ContextScorer) -> BeamState:
        """``state`` as if its words so far had been heard with ``hotwords``."""
        scorer = hotwords if isinstance(hotwords, ContextScorer) else self.scorer(hotwords)
        contexts = {context: scorer.rescore(context) for context in {beam.context for beam in state.beams}}
        beams = []
        for beam in state.beams:
            if extends(beam.context.text, state.committed):
                context = contexts[beam.context]
                beams.append(beam._replace(context=context, part_score=scorer.score_part(context, beam.part)))
        beams.sort(key=lambda beam: beam.total, reverse=True)
        return replace(state, beams=tuple(beams), scorer=scorer)

    def commit(self, state: BeamState, text: str) -> BeamState:
        """From now on every best reading begins with the words of ``text``.

        Beams that begin otherwise still count as alternatives, but drop out where they would take the lead.

        Raises:
            ValueError: no beam has finished those words.
        """
        beams = state.beams
        if not extends(beams[0].context.text, text):
            beams = tuple(beam for beam in beams if extends(beam.context.text, text))
        if not beams:
            raise ValueError(f"no beam has finished {text!r}")
        return replace(state, beams=beams, committed=text)

    def frames(self, log_probs_TV: NDArray[np.floating[Any]]) -> Iterator[Frame]:
        """Cut log-probs into frames of tokens worth trying.

        Raises:
            ValueError: the shape is not (frames, tokens), or a value is NaN.
        """
        if log_probs_TV.ndim != 2 or log_probs_TV.shape[1] != len(self.tokens):
            raise ValueError(f"expected log-probs (frames, {len(self.tokens)}), got {log_probs_TV.shape}")
        if np.isnan(log_probs_TV).any():
            raise ValueError("the log-probs hold NaN; expected natural logs of probabilities")
        log_probs_TV = np.maximum(log_probs_TV, LOG_PROB_FLOOR)
        best_T = log_probs_TV.argmax(axis=1)
        kept_TV = log_probs_TV >= self.config.token_min_log_prob
        kept_TV[np.arange(len(best_T)), best_T] = True
        ids = np.nonzero(kept_TV)[1].tolist()
        values = log_probs_TV[kept_TV].tolist()
        start = 0
        for best, count in zip(best_T.tolist(), kept_TV.sum(axis=1).tolist(), strict=True):
            end = start + count
            yield Frame(list(zip(ids[start:end], values[start:end], strict=True)), best)
            start = end

    def step(self, state: BeamState, log_probs_TV: NDArray[np.floating[Any]]) -> BeamState:
        """Hear T more frames of natural-log probabilities. Any split of the frames gives the same state."""
        for frame in self.frames(log_probs_TV):
            state = self.advance(state, frame)
        return state

    def advance(self, state: BeamState, frame: Frame) -> BeamState:
        """Hear one frame."""
        blank = self.tokens.blank
        only_blank = len(frame.tokens) == 1 and frame.best == blank
        if only_blank and state.resting:
            return BeamState(
                state.beams,
                state.offset + frame.tokens[0][1],
                True,
                state.frame + 1,
                state.committed,
                state.scorer,
            )
        beams = self._survivors(self._candidates(state, frame), state)
        beams = narrowed(beams, self.config.max_path_tokens)
        return BeamState(beams, state.offset, only_blank, state.frame + 1, state.committed, state.scorer)

    def hypotheses(
        self, state: BeamState, *, final: bool, count: int, end_of_sentence: bool = True
    ) -> tuple[Hypothesis, ...]:
        """The ``count`` best readings with different texts, best first; at least one, which may be empty.

        Args:
            state: a search.
            final: nothing follows: the open word is finished and scored. Otherwise it is shown as it stands.
            count: how many readings at most.
            end_of_sentence: with ``final``, whether the sentence ends here too.
        """
        if final:
            readings = read_final(
                state.beams,
                state.scorer,
                end_of_sentence=end_of_sentence,
                config=self.config,
                committed=state.committed,
            )
        else:
            readings = read_open(state.beams, state.committed)
        return hypotheses_of(readings, count, state.offset)

    def _candidates(self, state: BeamState, frame: Frame) -> list[_Candidate]:
        """Every beam with every token of the frame; paths that spell the same text are summed."""
        blank, pieces, starts = self.tokens.blank, self.tokens.pieces, self.tokens.starts_word
        scorer = state.scorer
        contexts: dict[str, Context] | None = None
        candidates: dict[tuple[Context, str, int], _Candidate] = {}
        for token, log_prob in frame.tokens:
            piece, finishes = pieces[token], starts[token]
            for place, beam in enumerate(state.beams):
                context, part, last, score, path_score, kept_part_score, *_ = beam
                part_score: float | None = kept_part_score
                if token in (blank, last):
                    pass
                elif finishes:
                    if part:
                        if contexts is None:
                            contexts = {known.context.text: known.context for known in state.beams}
                        text = joined(context.text, part)
                        longer = contexts.get(text)
                        if longer is None:
                            longer = contexts[text] = scorer.extend(context, part)
                        context = longer
                    part, part_score = piece, None if piece else 0.0
                else:
                    part += piece
                    part_score = None
                score += log_prob
                path_score += log_prob
                key = (context, part, token)
                same = candidates.get(key)
                if same is None:
                    if part_score is None:
                        part_score = scorer.score_part(context, part)
                    candidates[key] = _Candidate(
                        context, part, token, score, path_score, part_score, beam, place, log_prob
                    )
                    continue
                high, low = (score, same.score) if score > same.score else (same.score, score)
                same.score = high + log1p(exp(low - high))
                if path_score > same.path_score:
                    same.path_score = path_score
                    same.source, same.place = beam, place
        return list(candidates.values())

    def _survivors(self, candidates: list[_Candidate], state: BeamState) -> tuple[Beam, ...]:
        """The candidates worth keeping, best first, each with the path behind it."""
        for candidate in candidates:
            candidate.total = candidate.score + candidate.context.score + candidate.part_score
        best = max(candidates, key=_total)
        if not extends(best.context.text, state.committed):
            candidates = [c for c in candidates if extends(c.context.text, state.committed)]
            best = max(candidates, key=_total)
        worst_kept = best.total + self.config.beam_prune_log_prob
        kept = sorted((c for c in candidates if c.total >= worst_kept), key=_total, reverse=True)
        kept = kept[: self.config.beam_width]
        beams = tuple(self._beam(candidate, state.frame) for candidate in kept)
        return undominated(beams) if self.config.prune_history else beams

    def _beam(self, candidate: _Candidate, frame: int) -> Beam:
        """The beam that ``candidate`` has become after ``frame``."""
        source, token, path = candidate.source, candidate.token, candidate.source.path
        sounds, starts, tokens = (
            bool(self.tokens.pieces[token]),
            self.tokens.starts_word[token],
            source.tokens,
        )
        if token == source.last:
            if sounds:
                path = path.repeat(frame, candidate.log_prob)
        else:
            if path.letters and (starts or sounds):
                tokens = (*tokens, (frame, candidate.place, token if starts else -1))
            if starts:
                path = path.close(source.part)
            if sounds:
                path = path.letter(frame, candidate.log_prob)
        return Beam(
            candidate.context,
            candidate.part,
            token,
            candidate.score,
            candidate.path_score,
            candidate.part_score,
            path,
            tokens,
        )


_total = attrgetter("total")
