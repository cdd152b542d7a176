"""Decode log-probs with CTC prefix beam search, frame by frame: the readable counterpart of the native core.

The search is that of pyctcdecode 0.5.0's ``decode_beams`` (prefix beam search after Hannun et al. 2014, with KenLM
scores at the ends of words and a penalty for partial words outside the lexicon), in steps.
``docs/decoder-internals.md`` lists the differences and their reasons.

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
from tests.decoding.oracle.history import History, HistoryScorer, joined, starts_with_words
from tests.decoding.oracle.hotwords import HotwordScorer
from tests.decoding.oracle.language_model import LanguageModel
from tests.decoding.oracle.nbest import build_hypotheses, final_nbest, partial_nbest
from tests.decoding.oracle.paths import Path
from tests.decoding.oracle.state import Beam, BeamState, limit_divergence, recombined

LOG_PROB_FLOOR = log(1e-15)
"""Less probable tokens count as this probable, as in pyctcdecode."""


class PrunedFrame(NamedTuple):
    """A frame after pruning of improbable tokens."""

    tokens: list[tuple[int, float]]
    """Ids and log-probs, in ascending order of ids."""
    best_token: int


@dataclass(slots=True, eq=False)
class _Candidate:
    """A beam of the next frame while paths are still being added to it."""

    history: History
    partial_word: str
    token: int
    score: float
    path_score: float
    partial_word_score: float
    source: Beam
    """The beam that the best path comes from."""
    source_index: int
    """Its index among the beams of this frame."""
    log_prob: float
    total: float = 0.0


class BeamDecoder:
    """The beam search of one model; immutable, serves all sessions.

    Args:
        tokens: the token list of the log-probs.
        lm: the language model; ``None`` for acoustic and hotword scores only.
        config: beam widths and weights.
    """

    def __init__(self, tokens: TokenList, lm: LanguageModel | None, config: DecoderConfig) -> None:
        self.tokens = tokens
        self.lm = lm
        self.config = config

    def scorer(self, hotwords: Iterable[Hotword]) -> HistoryScorer:
        """Return the scorer of a session with ``hotwords``; its searches may share it.

        Raises:
            ConfigError: the model cannot spell a hotword, or a boost is not a finite number.
        """
        spelt = tuple(Hotword(self.tokens.spell(hotword.text), hotword.boost) for hotword in hotwords)
        return HistoryScorer(self.lm, HotwordScorer(spelt))

    def initial_state(
        self,
        hotwords: Iterable[Hotword] | HistoryScorer = (),
        *,
        frame: int = 0,
        previous_words: Iterable[str] = (),
    ) -> BeamState:
        """Return the state before the first frame.

        Args:
            hotwords: words and phrases to boost, or a scorer of them.
            frame: frames of the stream before this search.
            previous_words: the words before, for the language model; empty at the start of a sentence.
        """
        scorer = hotwords if isinstance(hotwords, HistoryScorer) else self.scorer(hotwords)
        beam = Beam(scorer.root(previous_words), "", self.tokens.blank, 0.0, 0.0, 0.0, Path())
        return BeamState((beam,), 0.0, True, frame, "", scorer)

    def with_hotwords(self, state: BeamState, hotwords: Iterable[Hotword] | HistoryScorer) -> BeamState:
        """Return ``state`` with its words rescored under other ``hotwords``."""
        scorer = hotwords if isinstance(hotwords, HistoryScorer) else self.scorer(hotwords)
        histories = {history: scorer.rescore(history) for history in {beam.history for beam in state.beams}}
        beams = []
        for beam in state.beams:
            if starts_with_words(beam.history.text, state.committed):
                history = histories[beam.history]
                word_score = scorer.score_partial_word(history, beam.partial_word)
                beams.append(beam._replace(history=history, partial_word_score=word_score))
        beams.sort(key=lambda beam: beam.total, reverse=True)
        return replace(state, beams=tuple(beams), scorer=scorer)

    def commit(self, state: BeamState, text: str) -> BeamState:
        """Return a state in which every best hypothesis begins with the words of ``text`` from now on.

        Beams that begin otherwise remain as alternatives, but are dropped when one would become the best.

        Raises:
            ValueError: no beam begins with those words.
        """
        beams = state.beams
        if not starts_with_words(beams[0].history.text, text):
            beams = tuple(beam for beam in beams if starts_with_words(beam.history.text, text))
        if not beams:
            raise ValueError(f"no beam has finished {text!r}")
        return replace(state, beams=beams, committed=text)

    def frames(self, log_probs_TV: NDArray[np.floating[Any]]) -> Iterator[PrunedFrame]:
        """Prune improbable tokens, frame by frame.

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
            yield PrunedFrame(list(zip(ids[start:end], values[start:end], strict=True)), best)
            start = end

    def step(self, state: BeamState, log_probs_TV: NDArray[np.floating[Any]]) -> BeamState:
        """Decode T more frames of natural-log probabilities. Any split of the frames gives the same state."""
        for frame in self.frames(log_probs_TV):
            state = self.advance(state, frame)
        return state

    def advance(self, state: BeamState, frame: PrunedFrame) -> BeamState:
        """Decode one frame."""
        blank = self.tokens.blank
        only_blank = len(frame.tokens) == 1 and frame.best_token == blank
        if only_blank and state.ends_in_blank:
            return BeamState(
                state.beams,
                state.blank_log_prob + frame.tokens[0][1],
                True,
                state.frame + 1,
                state.committed,
                state.scorer,
            )
        beams = self._prune(self._candidates(state, frame), state)
        beams = limit_divergence(beams, self.config.max_path_tokens)
        return BeamState(
            beams, state.blank_log_prob, only_blank, state.frame + 1, state.committed, state.scorer
        )

    def hypotheses(
        self, state: BeamState, *, final: bool, count: int, end_of_sentence: bool = True
    ) -> tuple[Hypothesis, ...]:
        """Return the ``count`` best distinct texts, best first; at least one, which may be empty.

        Args:
            state: a search.
            final: whether the utterance ends here: open words are then finished and scored.
            count: how many texts at most.
            end_of_sentence: with ``final``, whether the sentence ends here too.
        """
        if final:
            entries = final_nbest(
                state.beams,
                state.scorer,
                end_of_sentence=end_of_sentence,
                config=self.config,
                committed=state.committed,
            )
        else:
            entries = partial_nbest(state.beams, state.committed)
        return build_hypotheses(entries, count, state.blank_log_prob)

    def _candidates(self, state: BeamState, frame: PrunedFrame) -> list[_Candidate]:
        """Extend every beam by every token of the frame; sum the paths that spell the same text."""
        blank, pieces, starts_word = self.tokens.blank, self.tokens.pieces, self.tokens.starts_word
        scorer = state.scorer
        histories: dict[str, History] | None = None
        candidates: dict[tuple[History, str, int], _Candidate] = {}
        for token, log_prob in frame.tokens:
            piece, finishes = pieces[token], starts_word[token]
            for index, beam in enumerate(state.beams):
                history, partial_word, last, score, path_score, kept_word_score, *_ = beam
                partial_word_score: float | None = kept_word_score
                if token in (blank, last):
                    pass
                elif finishes:
                    if partial_word:
                        if histories is None:
                            histories = {known.history.text: known.history for known in state.beams}
                        text = joined(history.text, partial_word)
                        longer = histories.get(text)
                        if longer is None:
                            longer = histories[text] = scorer.extend(history, partial_word)
                        history = longer
                    partial_word, partial_word_score = piece, None if piece else 0.0
                else:
                    partial_word += piece
                    partial_word_score = None
                score += log_prob
                path_score += log_prob
                key = (history, partial_word, token)
                same = candidates.get(key)
                if same is None:
                    if partial_word_score is None:
                        partial_word_score = scorer.score_partial_word(history, partial_word)
                    candidates[key] = _Candidate(
                        history,
                        partial_word,
                        token,
                        score,
                        path_score,
                        partial_word_score,
                        beam,
                        index,
                        log_prob,
                    )
                    continue
                high, low = (score, same.score) if score > same.score else (same.score, score)
                same.score = high + log1p(exp(low - high))
                if path_score > same.path_score:
                    same.path_score = path_score
                    same.source, same.source_index = beam, index
        return list(candidates.values())

    def _prune(self, candidates: list[_Candidate], state: BeamState) -> tuple[Beam, ...]:
        """Make beams of the candidates that survive pruning, best first."""
        for candidate in candidates:
            candidate.total = candidate.score + candidate.history.score + candidate.partial_word_score
        best = max(candidates, key=_total)
        if not starts_with_words(best.history.text, state.committed):
            candidates = [c for c in candidates if starts_with_words(c.history.text, state.committed)]
            best = max(candidates, key=_total)
        threshold = best.total + self.config.beam_prune_log_prob
        kept = sorted((c for c in candidates if c.total >= threshold), key=_total, reverse=True)
        kept = kept[: self.config.beam_width]
        beams = tuple(self._beam(candidate, state.frame) for candidate in kept)
        return recombined(beams) if self.config.prune_history else beams

    def _beam(self, candidate: _Candidate, frame: int) -> Beam:
        """Make a beam of ``candidate``, with its best path after ``frame``."""
        source, token, path = candidate.source, candidate.token, candidate.source.path
        has_letters, starts_word = bool(self.tokens.pieces[token]), self.tokens.starts_word[token]
        tokens = source.tokens
        if token == source.last_token:
            if has_letters:
                path = path.repeat_token(frame, candidate.log_prob)
        else:
            if path.num_tokens and (starts_word or has_letters):
                tokens = (*tokens, (frame, candidate.source_index, token if starts_word else -1))
            if starts_word:
                path = path.finish_word(source.partial_word)
            if has_letters:
                path = path.add_token(frame, candidate.log_prob)
        return Beam(
            candidate.history,
            candidate.partial_word,
            token,
            candidate.score,
            candidate.path_score,
            candidate.partial_word_score,
            path,
            tokens,
        )


_total = attrgetter("total")
