"""Choose the words of finals with a neural language model, among the best texts of the beam search.

The search decides with an n-gram model, which sees two or three words. The network sees the whole utterance, and the
ones before it. It is asked about a few dozen texts instead of every beam at every frame ("n-best rescoring", Mikolov
et al. 2010): when the utterance ends, and before that whenever words could be committed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import NamedTuple

import numpy as np

from streamasr.config import RescoringConfig
from streamasr.decoding.beam import CommitRules
from streamasr.decoding.nbest import NBestEntry
from streamasr.decoding.neural_lm import Context, NeuralLanguageModel, TextState

COMMIT_WORDS = 4_000
"""Before a commit, log-probs are relative to this many of the most frequent words: it takes a fifth of the time."""
RIVAL_MARGIN = 3.0
"""A text further behind than this (natural log) in the search is not asked about before the utterance ends."""
PARTIAL_CANDIDATES = 24
"""How many texts it is asked about for a partial, at most."""
PARTIAL_MARGIN = 6.0
"""A text further behind than this is not asked about for a partial. With fewer texts, more shown words change."""

Text = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rescorer:
    """Scores texts of one model's sessions. Immutable; serves all sessions from any thread.

    A context is what comes after the utterances before and the committed words of this one.
    """

    lm: NeuralLanguageModel
    config: RescoringConfig

    def commit_rules(self, margin: float) -> CommitRules:
        """Return which beams count when words are committed.

        Args:
            margin: beams further below the best one than this (natural log) do not.
        """
        return CommitRules(margin, RIVAL_MARGIN, self.config.candidates)

    def initial_context(self) -> Context:
        """Return the context of a new session."""
        return self._context(self.lm.initial_state())

    def end_utterance(self, context: Context, words: Sequence[str], *, end_of_sentence: bool) -> Context:
        """Return the context of the next utterance.

        Args:
            context: that of the utterance.
            words: those of the final after the committed ones.
            end_of_sentence: whether the sentence ends with the utterance.
        """
        return self._context(self.lm.advance(context.state, words, end_of_sentence=end_of_sentence))

    def _context(self, state: TextState) -> Context:
        return Context(state, frequent_words=COMMIT_WORDS)

    def gains(
        self, work: Sequence[tuple[Context, Sequence[Text]]]
    ) -> list[tuple[dict[Text, float], Context]]:
        """Return the weighted log-probs of the texts after each context, and the context with what was read for them.

        Args:
            work: the contexts of several sessions, each with its texts.
        """
        return [
            (dict(zip(texts, (self.config.weight * log_probs).tolist(), strict=True)), context)
            for (_, texts), (log_probs, context) in zip(work, self.lm.read(work), strict=True)
        ]

    def best_partials(self, work: Sequence[Unfinished]) -> list[tuple[NBestEntry, Context]]:
        """Return the best entry of each search that goes on, and the context with what was read to find it."""
        rivals = [search.rivals() for search in work]
        texts = [list(dict.fromkeys(text for _, text in some)) for some in rivals]
        different = [some if len(some) > 1 else [] for some in texts]
        gains = self.gains([(search.context, some) for search, some in zip(work, different, strict=True)])
        best = []
        for some, (found, context) in zip(rivals, gains, strict=True):
            scores = [entry.score + found.get(text, 0.0) for entry, text in some]
            best.append((some[scores.index(max(scores))][0], context))
        return best

    def order(
        self,
        context: Context,
        entries: Sequence[NBestEntry],
        committed: Sequence[str],
        *,
        end_of_sentence: bool,
    ) -> list[NBestEntry]:
        """Return ``entries`` in their new order, by the search's score plus the weighted log-prob of the network.

        Texts without words and texts that do not begin with the committed words go behind the others, in their old
        order; and if the first entry has no words, nothing changes: whether there was speech is not the network's to
        decide.

        Args:
            context: that after the committed words.
            entries: from :meth:`streamasr.decoding.beam.BeamDecoder.nbest`, best first.
            committed: the committed words, with which the first entry is taken to begin.
            end_of_sentence: whether the sentence ends with the utterance.
        """
        if len(entries) < 2 or not entries[0].words:
            return list(entries)
        texts = [[word.text for word in entry.words] for entry in entries]
        allowed = [
            at
            for at, text in enumerate(texts)
            if at == 0 or (text and text[: len(committed)] == [*committed])
        ]
        rests = [texts[at][len(committed) :] for at in allowed]
        shared = _shared_words(rests)
        after = self.lm.advance(context.state, rests[0][:shared])
        log_probs = self.lm.log_probs(
            after, [rest[shared:] for rest in rests], end_of_sentence=end_of_sentence
        )
        scores = [
            entries[at].score + self.config.weight * log_prob
            for at, log_prob in zip(allowed, log_probs, strict=True)
        ]
        best_first = [allowed[place] for place in np.argsort(-np.array(scores), kind="stable")]
        others = sorted(set(range(len(entries))) - set(allowed))
        return [entries[at] for at in (*best_first, *others)]


class Unfinished(NamedTuple):
    """A search that goes on."""

    context: Context
    """That after the committed words."""
    entries: Sequence[NBestEntry]
    """From :meth:`streamasr.decoding.beam.BeamDecoder.nbest`, best first."""
    committed: Sequence[str]
    """The committed words, with which the first entry begins."""

    def rivals(self) -> list[tuple[NBestEntry, Text]]:
        """Return the entries to compare for a partial, each with the words that count.

        They have as many words as the first one, and are not far behind. The last word does not count: it may be
        open.
        """
        first, committed = self.entries[0], tuple(self.committed)
        texts = [tuple(word.text for word in entry.words) for entry in self.entries]
        return [
            (entry, text[len(committed) : -1])
            for entry, text in zip(self.entries, texts, strict=True)
            if entry is first
            or (
                len(text) == len(texts[0])
                and text[: len(committed)] == committed
                and entry.score > first.score - PARTIAL_MARGIN
            )
        ]


def _shared_words(texts: Sequence[Sequence[str]]) -> int:
    """Return the number of words with which all texts begin."""
    first, last = min(map(list, texts)), max(map(list, texts))
    pairs = zip(first, last, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
