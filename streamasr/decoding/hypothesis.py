"""Define the decoder's results: words with times and confidences, and the events of utterances.

Times are encoder frames since the stream began.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import exp

from streamasr.decoding.confidence import WordFeatures
from streamasr.text import join_words

CERTAIN = WordFeatures(posterior=1.0, mean_log_prob=0.0, num_characters=1)
"""Features of a word without doubt, for words that do not come from a search."""


@dataclass(frozen=True, slots=True)
class Word:
    """A recognised word. Frames are half-open, ``[start_frame, end_frame)``, counted over the stream."""

    text: str
    start_frame: int
    end_frame: int
    confidence: float
    """Estimated probability that the word is right, 0 to 1."""
    features: WordFeatures = field(default=CERTAIN, compare=False, repr=False)
    """What the confidence was computed from."""


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A possible text of an utterance. ``score`` is its total score, language model included (natural log)."""

    words: tuple[Word, ...]
    score: float

    @property
    def text(self) -> str:
        """The words as they are written: one space between, none between Chinese characters."""
        return join_words(word.text for word in self.words)

    @property
    def confidence(self) -> float:
        """The mean confidence of the words: the expected share of right words. 0 without words."""
        if not self.words:
            return 0.0
        return sum(word.confidence for word in self.words) / len(self.words)

    @property
    def sharpness(self) -> float:
        """The geometric mean of the words' sharpness, 0 to 1: how clearly the encoder recognised them.

        Unlike the confidence it needs no calibration, and words of noise have a low one even where no other words
        are possible. 0 without words.
        """
        if not self.words:
            return 0.0
        return exp(sum(word.features.mean_log_prob for word in self.words) / len(self.words))


@dataclass(frozen=True, slots=True)
class Hotword:
    """A word or phrase to boost. ``boost`` is in natural-log units, as pyctcdecode's hotword weight."""

    text: str
    boost: float


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """The first word of an utterance began at ``frame``."""

    frame: int


@dataclass(frozen=True, slots=True)
class Partial:
    """The utterance so far. The first ``committed_words`` words never change again; the rest may."""

    utterance: int
    hypothesis: Hypothesis
    committed_words: int


@dataclass(frozen=True, slots=True)
class UtteranceEnding:
    """The utterance probably ends here, with this hypothesis; a partial of the utterance takes that back."""

    utterance: int
    hypothesis: Hypothesis
    probability: float


@dataclass(frozen=True, slots=True)
class Final:
    """A finished utterance. ``alternatives`` are the next best hypotheses, best first."""

    utterance: int
    hypothesis: Hypothesis
    alternatives: tuple[Hypothesis, ...]
    ends_sentence: bool = True
    """Whether the sentence ends too. It goes on if the utterance was split for its length."""


UtteranceEvent = SpeechStarted | Partial | UtteranceEnding | Final
