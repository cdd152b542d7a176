"""Choose the text of a final with a neural language model, among the best texts of the beam search.

The search decides with an n-gram model, which sees two or three words. The network sees the whole utterance, and the
ones before it. It is asked about a few dozen texts instead of every beam at every frame ("n-best rescoring", Mikolov
et al. 2010).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

import numpy as np

from streamasr.config import RescoringConfig
from streamasr.decoding.nbest import NBestEntry
from streamasr.decoding.neural_lm import NeuralLanguageModel, TextState


@dataclass(frozen=True, slots=True)
class Rescorer:
    """Orders the n-best lists of one model's finals. Immutable; serves all sessions from any thread."""

    lm: NeuralLanguageModel
    config: RescoringConfig

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
            context: the state after the utterances before.
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
        shared = _shared_words([texts[at] for at in allowed])
        after = self.lm.advance(context, texts[0][:shared])
        log_probs = self.lm.log_probs(
            after, [texts[at][shared:] for at in allowed], end_of_sentence=end_of_sentence
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
