"""Decode log-probs into hypotheses with CTC prefix beam search and a language model.

The search is that of pyctcdecode 0.5.0's ``decode_beams`` (prefix beam search after Hannun et al. 2014, with KenLM
scores at the ends of words and a penalty for partial words outside the lexicon), in steps: one call per chunk gives
the result of one call for the whole utterance. ``docs/decoder-internals.md`` lists the differences and their
reasons. The native core (``native/search.cpp``) does the work; this module is its interface.

Shape suffixes: T encoder frames, V tokens.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamasr.config import DecoderConfig
from streamasr.decoding import _native
from streamasr.decoding.endpoint import EndpointDecision, EndpointRules
from streamasr.decoding.hotwords import Hotwords, compile_hotwords
from streamasr.decoding.hypothesis import Hotword, Hypothesis
from streamasr.decoding.language_model import LanguageModel, weights_of
from streamasr.decoding.nbest import HypothesisBuilder, NBestEntry
from streamasr.decoding.tokens import TokenList

LogProbs = NDArray[np.floating[Any]]
BeamState = _native.State
CommitRules = _native.CommitRules
"""The state of a search between two frames: an immutable value of ``bytes`` bytes.

Its size is bounded by its text and by ``max_path_tokens``.

* ``frame``: frames of the stream so far, including those before this search.
* ``speech_start``: the first frame of the first word when the best beam first had one; ``None`` before.
* ``speech_end``: the frame after the last token of the best beam's words; ``None`` before.
* ``hotwords``: the compiled hotwords.
* ``committed``, ``committed_words``: the words with which every best hypothesis begins from now on, and their number.
* ``blank_log_prob``: log-prob of the frames in which only blank was possible; it is part of every beam's score.
* ``beams``: for inspection, best first: text of the finished words, the partial word, the last token, log-prob of all
  paths, log-prob of the best path, score of the finished words, score of the partial word.
* ``divergent_tokens``: tokens in which the best paths of the beams differ, shared ones counted once.
"""


class BatchResult(NamedTuple):
    """What :meth:`BeamDecoder.step_batch` returns for a stream."""

    state: BeamState
    next_frame: int
    """The first row of the log-probs that has not been decoded."""
    decision: EndpointDecision
    """Not ``CONTINUE`` if the utterance ends after row ``next_frame - 1``."""
    stable: bool
    """Whether there were new stable words after that row."""


class BeamDecoder:
    """The beam search of one model. Immutable; serves all sessions from any thread.

    Args:
        tokens: the token list of the log-probs.
        lm: the language model; ``None`` for acoustic and hotword scores only.
        config: beam widths and weights.
        hypothesis_builder: makes hypotheses of n-best entries.
    """

    def __init__(
        self,
        tokens: TokenList,
        lm: LanguageModel | None,
        config: DecoderConfig,
        hypothesis_builder: HypothesisBuilder = HypothesisBuilder(),  # noqa: B008
    ) -> None:
        self.tokens = tokens
        self.lm = lm
        self.config = config
        self.hypothesis_builder = hypothesis_builder
        self._search = _native.Search(
            pieces=tokens.pieces,
            starts_word=tokens.starts_word,
            blank=tokens.blank,
            separator=tokens.separator,
            lm=None if lm is None else lm.native,
            config=_native.SearchConfig(
                beam_width=config.beam_width,
                beam_prune_log_prob=config.beam_prune_log_prob,
                token_min_log_prob=config.token_min_log_prob,
                prune_history=config.prune_history,
                charge_empty_last_word=config.charge_empty_last_word,
                max_path_tokens=config.max_path_tokens,
                weights=weights_of(config),
            ),
        )

    def compile_hotwords(self, hotwords: Iterable[Hotword]) -> Hotwords:
        """Compile ``hotwords`` in the model's spelling.

        Raises:
            ConfigError: the model cannot spell a hotword, or a boost is not a finite number.
        """
        return compile_hotwords(Hotword(self.tokens.spell(word.text), word.boost) for word in hotwords)

    def initial_state(
        self,
        hotwords: Iterable[Hotword] | Hotwords = (),
        *,
        frame: int = 0,
        previous_words: Iterable[str] = (),
    ) -> BeamState:
        """Return the state before the first frame.

        Args:
            hotwords: words and phrases to boost.
            frame: frames of the stream before this search.
            previous_words: the words before, for the language model; empty at the start of a sentence.
        """
        return self._search.initial(self._compiled(hotwords), frame, list(previous_words))

    def with_hotwords(self, state: BeamState, hotwords: Iterable[Hotword] | Hotwords) -> BeamState:
        """Return ``state`` with its words rescored under other ``hotwords``."""
        return self._search.with_hotwords(state, self._compiled(hotwords))

    def commit(self, state: BeamState, text: str) -> BeamState:
        """Return a state in which every best hypothesis begins with the words of ``text`` from now on.

        Beams that begin otherwise remain as alternatives, but are dropped when one would become the best.

        Raises:
            ValueError: no beam begins with those words.
        """
        committed = self._search.commit(state, text)
        if committed is None:
            raise ValueError(f"no beam has finished {text!r}")
        return committed

    def stable_text(self, state: BeamState, margin: float = math.inf) -> str:
        """Return the longest sequence of finished words with which all competitive beams begin.

        A beam is competitive if it can still become the best one and is at most ``margin`` (natural log, positive)
        below it.
        """
        return self._search.stable_text(state, margin)

    def sentence_end_log_prob(self, state: BeamState) -> float:
        """Return the natural-log probability that the sentence ends after the words of the best beam.

        It is the language model's alone; 0 without a language model.
        """
        return self._search.sentence_end_log_prob(state)

    def check(self, log_probs_TV: LogProbs) -> None:
        """Refuse invalid log-probs. Without frames, any number of tokens is valid.

        Raises:
            ValueError: the shape is not (frames, tokens), or a value is NaN.
        """
        if log_probs_TV.ndim == 2 and not len(log_probs_TV):
            return
        if log_probs_TV.ndim != 2 or log_probs_TV.shape[1] != len(self.tokens):
            raise ValueError(f"expected log-probs (frames, {len(self.tokens)}), got {log_probs_TV.shape}")
        if np.isnan(log_probs_TV).any():
            raise ValueError("the log-probs hold NaN; expected natural logs of probabilities")

    def prepare(self, log_probs_TV: LogProbs) -> LogProbs:
        """Check the model's log-probs, apply the blank penalty and convert them to the native core's format.

        Raises:
            ValueError: as :meth:`check`.
        """
        self.check(log_probs_TV)
        if not len(log_probs_TV):
            return np.zeros((0, len(self.tokens)), dtype=np.float32)
        dtype = np.float64 if log_probs_TV.dtype == np.float64 else np.float32
        if self.config.blank_penalty:
            log_probs_TV = _penalise_blank(log_probs_TV, self.tokens.blank, self.config.blank_penalty)
        if self.tokens.unknown is not None:
            # It adds no letters: a beam that took it would only lose the frame.
            log_probs_TV = log_probs_TV.copy()
            log_probs_TV[:, self.tokens.unknown] = -np.inf
        return np.ascontiguousarray(log_probs_TV, dtype=dtype)

    def step(self, state: BeamState, log_probs_TV: LogProbs) -> BeamState:
        """Decode T more frames of natural-log probabilities. Any split of the frames gives the same state.

        Raises:
            ValueError: as :meth:`check`.
        """
        return self._search.step(state, self.prepare(log_probs_TV))

    def step_batch(
        self,
        states: Sequence[BeamState],
        log_probs: Sequence[LogProbs],
        next_frames: Sequence[int],
        rules: Sequence[EndpointRules],
        commit_margins: Sequence[float],
        *,
        commit_interval: int,
        commits: bool = True,
        threads: int,
    ) -> list[BatchResult]:
        """Decode chunks of many streams, each until its utterance ends, words are stable or no row is left.

        Args:
            states: one per stream.
            log_probs: one per stream, [T, V], as :meth:`prepare` returns them.
            next_frames: the first row of each to decode.
            rules: the endpoint rules of each.
            commit_margins: the margin of each; see :meth:`stable_text`.
            commit_interval: :meth:`stable_text` is looked for every time an utterance has this many frames more.
            commits: whether it is then committed; otherwise that is left to :meth:`commit_rescored`.
            threads: at most; results do not depend on it.
        """
        results = self._search.step_batch(
            states, log_probs, next_frames, rules, commit_margins, commit_interval, commits, threads
        )
        return [BatchResult(*result) for result in results]

    def rivals(self, state: BeamState, rules: CommitRules) -> list[list[str]]:
        """Return the texts among which rescoring has to choose before words are committed, best first.

        Two beams that agree in all that the search still looks at gain the same from every future frame. The search
        alone would choose the better one; rescoring may prefer the other. Without such beams the list is empty.

        Args:
            state: a search.
            rules: which beams are close enough.

        Returns:
            The finished words of each text after the committed ones.
        """
        return self._search.rivals(state, rules)

    def commit_rescored(
        self, state: BeamState, rules: CommitRules, gains: Sequence[float]
    ) -> tuple[BeamState, NBestEntry] | None:
        """Commit the words that are stable after rescoring.

        Args:
            state: a search.
            rules: as for :meth:`rivals`.
            gains: what rescoring adds to the score (natural log) of each of the rivals.

        Returns:
            The search from now on, and the best text with the committed words, with posteriors among all texts that
            there were; ``None`` if there are no new stable words.

        Raises:
            ValueError: there are not as many gains as rivals.
        """
        return self._search.commit_rescored(state, rules, gains)

    def nbest(
        self, state: BeamState, *, final: bool, count: int, end_of_sentence: bool = True
    ) -> list[NBestEntry]:
        """Return the ``count`` best distinct texts, best first; at least one, which may be empty.

        Args:
            state: a search, which may go on afterwards.
            final: whether the utterance ends here: open words are then finished and scored. Otherwise they are
                listed as they are.
            count: how many texts at most.
            end_of_sentence: with ``final``, whether the sentence ends here too.
        """
        if final:
            return self._search.final_nbest(state, count, end_of_sentence)
        return self._search.partial_nbest(state, count)

    def hypotheses(
        self, state: BeamState, *, final: bool, count: int, end_of_sentence: bool = True
    ) -> tuple[Hypothesis, ...]:
        """Return the n-best list of :meth:`nbest` with word times and confidences."""
        entries = self.nbest(state, final=final, count=count, end_of_sentence=end_of_sentence)
        return tuple(self.hypothesis_builder.build(entry) for entry in entries)

    def _compiled(self, hotwords: Iterable[Hotword] | Hotwords) -> Hotwords:
        return hotwords if isinstance(hotwords, Hotwords) else self.compile_hotwords(hotwords)


def _penalise_blank(log_probs_TV: LogProbs, blank: int, penalty: float) -> LogProbs:
    """Subtract ``penalty`` (natural log) from the blank and renormalise each frame to its sum before."""
    blank_T = log_probs_TV[:, blank]
    penalised_TV: LogProbs = log_probs_TV - np.log1p(np.exp(blank_T) * math.expm1(-penalty))[:, None]
    penalised_TV[:, blank] -= penalty
    return penalised_TV
