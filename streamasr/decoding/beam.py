"""CTC prefix beam search with a language model, its state a value: the native core in Python's clothes.

The search is pyctcdecode 0.5.0's ``decode_beams`` (a prefix beam search after Hannun et al. 2014 with KenLM
scores at word ends and a penalty on word beginnings that no known word has), so that one step a chunk gives
what it gives for the whole utterance. ``docs/decoder-internals.md`` lists where it differs and why;
``native/search.cpp`` is the search itself. Knows tokens and words; does not know what an utterance is, when it
ends, or where the log-probs come from.

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
from streamasr.decoding.endpoint import EndpointRules, Verdict
from streamasr.decoding.hotwords import Hotwords, listen_for
from streamasr.decoding.hypothesis import Hotword, Hypothesis
from streamasr.decoding.language_model import LanguageModel, weights_of
from streamasr.decoding.readings import Reading, Telling
from streamasr.decoding.tokens import TokenList

LogProbs = NDArray[np.floating[Any]]
BeamState = _native.State
"""A search under way: immutable, ``bytes`` long, bounded by its text and ``max_path_tokens`` more tokens.

``frame``: frames of the stream seen so far, those before this search included. ``speech_start``: the first frame
of the first word, as it was when the best beam first had one; ``None`` before. ``committed``: words with which
every reading begins from now on. ``beams``: best first, for inspection: finished words, open word, last token,
log probability of all paths and of the best one, worth of the finished words, worth of the open one.
``open_tokens``: finished tokens of the beams' best paths, each counted once, behind those that all of them share.
"""


class Heard(NamedTuple):
    """What hearing frames came to."""

    state: BeamState
    end: int
    """The first row of the log-probs that has not been heard."""
    verdict: Verdict
    """Not ``GOES_ON`` where the endpoint rules stopped after row ``end - 1``."""
    settled: bool
    """Whether words were committed there, so that the caller may note them."""


class BeamDecoder:
    """The search for one model; immutable, serves every session, from any thread.

    Args:
        tokens: what the columns of the log-probs stand for.
        lm: the language model, or ``None`` for acoustic scores (and hotwords) alone.
        config: widths and weights.
        telling: how readings become hypotheses.
    """

    def __init__(
        self,
        tokens: TokenList,
        lm: LanguageModel | None,
        config: DecoderConfig,
        telling: Telling = Telling(),  # noqa: B008
    ) -> None:
        self.tokens = tokens
        self.lm = lm
        self.config = config
        self.telling = telling
        self._search = _native.Search(
            pieces=tokens.pieces,
            starts=tokens.starts,
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

    def hotwords(self, hotwords: Iterable[Hotword]) -> Hotwords:
        """``hotwords`` as the model spells them, ready to listen for.

        Raises:
            ConfigError: a hotword that this model cannot spell, or a boost that is no number.
        """
        return listen_for(Hotword(self.tokens.spell(hotword.text), hotword.boost) for hotword in hotwords)

    def initial_state(
        self,
        hotwords: Iterable[Hotword] | Hotwords = (),
        *,
        frame: int = 0,
        after: Iterable[str] = (),
    ) -> BeamState:
        """A search that has heard nothing.

        Args:
            hotwords: what to listen for.
            frame: frames of the stream that went before.
            after: words said just before, for the language model; empty at the start of a sentence.
        """
        return self._search.initial(self._ready(hotwords), frame, list(after))

    def with_hotwords(self, state: BeamState, hotwords: Iterable[Hotword] | Hotwords) -> BeamState:
        """``state`` as if its words so far had been heard with ``hotwords``."""
        return self._search.with_hotwords(state, self._ready(hotwords))

    def commit(self, state: BeamState, text: str) -> BeamState:
        """From now on every best reading begins with the words of ``text``.

        Beams that begin otherwise still count as alternatives, but drop out where they would take the lead.

        Raises:
            ValueError: no beam has finished those words.
        """
        committed = self._search.commit(state, text)
        if committed is None:
            raise ValueError(f"no beam has finished {text!r}")
        return committed

    def settled_text(self, state: BeamState, margin: float = math.inf) -> str:
        """The longest run of finished words with which every beam that can still win begins.

        Beams further than ``margin`` (natural log, positive) below the best one count as beaten.
        """
        return self._search.settled(state, margin)

    def check(self, log_probs_TV: LogProbs) -> None:
        """Refuse what cannot be heard; without a frame, any number of tokens will do.

        Raises:
            ValueError: the shape is not (frames, tokens), or a value is NaN.
        """
        if log_probs_TV.ndim == 2 and not len(log_probs_TV):
            return
        if log_probs_TV.ndim != 2 or log_probs_TV.shape[1] != len(self.tokens):
            raise ValueError(f"expected log-probs (frames, {len(self.tokens)}), got {log_probs_TV.shape}")
        if np.isnan(log_probs_TV).any():
            raise ValueError("the log-probs hold NaN; expected natural logs of probabilities")

    def prepared(self, log_probs_TV: LogProbs) -> LogProbs:
        """The model's log-probs as the search takes them; not to be prepared again.

        Raises:
            ValueError: as :meth:`check`.
        """
        self.check(log_probs_TV)
        if not len(log_probs_TV):
            return np.zeros((0, len(self.tokens)), dtype=np.float32)
        dtype = np.float64 if log_probs_TV.dtype == np.float64 else np.float32
        if self.config.blank_penalty:
            log_probs_TV = _with_less_blank(log_probs_TV, self.tokens.blank, self.config.blank_penalty)
        if self.tokens.unknown is not None:
            # It spells nothing: a beam that took it would only lose the frame.
            log_probs_TV = log_probs_TV.copy()
            log_probs_TV[:, self.tokens.unknown] = -np.inf
        return np.ascontiguousarray(log_probs_TV, dtype=dtype)

    def step(self, state: BeamState, log_probs_TV: LogProbs) -> BeamState:
        """Hear T more frames of natural-log probabilities. Any split of the frames gives the same state.

        Raises:
            ValueError: as :meth:`check`.
        """
        return self._search.step(state, self.prepared(log_probs_TV))

    def hear(
        self,
        states: Sequence[BeamState],
        log_probs: Sequence[LogProbs],
        begins: Sequence[int],
        rules: Sequence[EndpointRules],
        commit_margins: Sequence[float],
        *,
        commit_every: int,
        threads: int,
    ) -> list[Heard]:
        """Hear rows of many streams' :meth:`prepared` log-probs, each until something is to be done about it.

        Args:
            states: one a stream.
            log_probs: likewise, [T, V].
            begins: the first row of each to be heard.
            rules: when its utterance ends.
            commit_margins: how far below the best beam another counts as beaten; see :meth:`settled_text`.
            commit_every: :meth:`settled_text` is committed at every so many frames of an utterance.
            threads: at most; the outcome does not depend on them.
        """
        heard = self._search.hear(states, log_probs, begins, rules, commit_margins, commit_every, threads)
        return [Heard(*outcome) for outcome in heard]

    def readings(
        self, state: BeamState, *, final: bool, count: int, end_of_sentence: bool = True
    ) -> list[Reading]:
        """The ``count`` best readings with different texts, best first; at least one, which may be empty.

        Args:
            state: a search; it may go on all the same.
            final: nothing follows: the open word is finished and scored. Otherwise it is shown as it stands.
            count: how many readings at most.
            end_of_sentence: with ``final``, whether the sentence ends here too.
        """
        if final:
            return self._search.read_final(state, count, end_of_sentence)
        return self._search.read_open(state, count)

    def hypotheses(
        self, state: BeamState, *, final: bool, count: int, end_of_sentence: bool = True
    ) -> tuple[Hypothesis, ...]:
        """:meth:`readings`, their words with times and confidences."""
        readings = self.readings(state, final=final, count=count, end_of_sentence=end_of_sentence)
        return tuple(self.telling.hypothesis(reading) for reading in readings)

    def _ready(self, hotwords: Iterable[Hotword] | Hotwords) -> Hotwords:
        return hotwords if isinstance(hotwords, Hotwords) else self.hotwords(hotwords)


def _with_less_blank(log_probs_TV: LogProbs, blank: int, penalty: float) -> LogProbs:
    """The blank ``penalty`` less likely (natural log), all tokens together as likely as before."""
    blank_T = log_probs_TV[:, blank]
    less_TV: LogProbs = log_probs_TV - np.log1p(np.exp(blank_T) * math.expm1(-penalty))[:, None]
    less_TV[:, blank] -= penalty
    return less_TV
