"""What a decoder says: words with times and confidences, in encoder frames since the stream began."""

from __future__ import annotations

from dataclasses import dataclass, field

from streamasr.decoding.confidence import Evidence
from streamasr.text import join_words

NO_EVIDENCE = Evidence(share=1.0, mean_log_prob=0.0, characters=1)
"""Of a word that nobody doubts."""


@dataclass(frozen=True, slots=True)
class Word:
    """A recognised word. Frames are half-open, ``[start_frame, end_frame)``, counted over the stream."""

    text: str
    start_frame: int
    end_frame: int
    confidence: float
    """Estimated probability that the word is right, 0 to 1."""
    evidence: Evidence = field(default=NO_EVIDENCE, compare=False, repr=False)
    """What the confidence was made of."""


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """One reading of an utterance. ``score`` is the beam's total log score (natural log, LM included)."""

    words: tuple[Word, ...]
    score: float

    @property
    def text(self) -> str:
        """The words as they are written: one space between, none between Chinese characters."""
        return join_words(word.text for word in self.words)

    @property
    def confidence(self) -> float:
        """The mean of the words' confidences: the share of them to expect right. 0 where there is no word."""
        if not self.words:
            return 0.0
        return sum(word.confidence for word in self.words) / len(self.words)


@dataclass(frozen=True, slots=True)
class Hotword:
    """A word or phrase to listen for. ``boost`` is in natural-log units, as pyctcdecode's hotword weight."""

    text: str
    boost: float


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """The first word of an utterance began at ``frame``."""

    frame: int


@dataclass(frozen=True, slots=True)
class Partial:
    """The utterance so far: the first ``committed_words`` words never change again, the rest may."""

    utterance: int
    hypothesis: Hypothesis
    committed_words: int


@dataclass(frozen=True, slots=True)
class Final:
    """A finished utterance; ``alternatives`` holds further readings, best first, the text itself left out."""

    utterance: int
    hypothesis: Hypothesis
    alternatives: tuple[Hypothesis, ...]
    ends_sentence: bool = True
    """Whether the sentence ends here, too; it goes on where an utterance was split for its length."""


UtteranceEvent = SpeechStarted | Partial | Final
