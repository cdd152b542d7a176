"""Choose the words of finals with a neural language model, among the best texts of the beam search.

The search decides with an n-gram model, which sees two or three words. The network sees the whole utterance, and the
ones before it. It is asked about a few dozen texts instead of every beam at every frame ("n-best rescoring", Mikolov
et al. 2010): when the utterance ends, and before that whenever words could be committed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

import numpy as np

from streamasr.config import RescoringConfig
from streamasr.decoding.beam import CommitRules
from streamasr.decoding.nbest import NBestEntry
from streamasr.decoding.neural_lm import NeuralLanguageModel, TextState

COMMIT_WORDS = 4_000
"""Before a commit, log-probs are relative to this many of the most frequent words: it takes a fifth of the time."""
RIVAL_MARGIN = 3.0
"""A text further behind than this (natural log) in the search is not asked about before the utterance ends."""
PARTIAL_CANDIDATES = 8
"""How many texts it is asked about for a partial."""

Text = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rescorer:
    """Scores texts of one model's sessions. Immutable; serves all sessions from any thread.

    A context is the state after the utterances before and the committed words of this one.
    """

    lm: NeuralLanguageModel
    config: RescoringConfig

    def commit_rules(self, margin: float) -> CommitRules:
        """Return which beams count when words are committed.

        Args:
            margin: beams further below the best one than this (natural log) do not.
        """
        return CommitRules(margin, RIVAL_MARGIN, self.config.candidates)

    def gains(
        self, context: TextState, texts: Sequence[Text], known: Mapping[Text, float]
    ) -> dict[Text, float]:
        """Return the weighted log-prob of each text after the context.

        Args:
            context: the state after the committed words.
            texts: different texts.
            known: gains of some texts after the same context.
        """
        unknown = [text for text in texts if text not in known]
        gains = {text: known[text] for text in texts if text in known}
        if unknown:
            log_probs = self.lm.log_probs(context, unknown, frequent_words=COMMIT_WORDS)
            gains |= zip(unknown, (self.config.weight * log_probs).tolist(), strict=True)
        return gains

    def best_partial(
        self,
        context: TextState,
        entries: Sequence[NBestEntry],
        committed: Sequence[str],
        known: Mapping[Text, float],
    ) -> NBestEntry:
        """Return the best entry of a search that goes on.

        Only entries with as many words as the first one are compared. The last word does not count: it may be open.

        Args:
            context: the state after the committed words.
            entries: from :meth:`streamasr.decoding.beam.BeamDecoder.nbest`, best first.
            committed: the committed words, with which the first entry begins.
            known: gains of some texts after the same context.
        """
        first = entries[0]
        texts = [tuple(word.text for word in entry.words) for entry in entries]
        rivals = [
            (entry, text[len(committed) : -1])
            for entry, text in zip(entries, texts, strict=True)
            if len(text) == len(texts[0])
            and text[: len(committed)] == tuple(committed)
            and entry.score > first.score - RIVAL_MARGIN
        ]
        different = list(dict.fromkeys(text for _, text in rivals))
        if len(different) < 2:
            return first
        gains = self.gains(context, different, known)
        return max(rivals, key=lambda rival: rival[0].score + gains[rival[1]])[0]

    def order(
        self,
        context: TextState,
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
            context: the state after the committed words.
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
        after = self.lm.advance(context, rests[0][:shared])
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


def _shared_words(texts: Sequence[Sequence[str]]) -> int:
    """Return the number of words with which all texts begin."""
    first, last = min(map(list, texts)), max(map(list, texts))
    pairs = zip(first, last, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
