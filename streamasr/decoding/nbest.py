"""Build hypotheses, with word times and confidences, from the entries of the native core's n-best lists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from streamasr.config import ModelConfig
from streamasr.decoding import _native
from streamasr.decoding.confidence import (
    ConfidenceEstimator,
    WordFeatures,
    confidence_estimator,
    uncalibrated_confidence,
)
from streamasr.decoding.hypothesis import Hypothesis, Word

NBestEntry = _native.NBestEntry
"""One text of an n-best list: ``words`` and ``score`` (natural log)."""
TimedWord = _native.TimedWord
"""A word of an n-best entry.

``tokens`` are those of its best path, each with ``start_frame``, ``end_frame`` (half-open, frames of the stream) and
``max_log_prob``, its log-prob at its best frame; ``mean_log_prob`` is their mean; ``start_frame`` and ``end_frame``
are those of the first and of the last token. ``posterior`` is the word's posterior probability over the n-best list
(Wessel et al. 2001): the probability of the texts that have the same word within 5 frames of the same time, 0 to 1.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class HypothesisBuilder:
    """Converts n-best entries to hypotheses."""

    lead_frames: int = 0
    """A word begins this long before its first token …"""
    trail_frames: int = 0
    """… and ends this long after its last one."""
    confidence: ConfidenceEstimator = uncalibrated_confidence

    @classmethod
    def from_config(cls, config: ModelConfig, frame_ms: float) -> HypothesisBuilder:
        """Return the builder for the model that ``config`` describes, with frames of ``frame_ms`` milliseconds."""
        return cls(
            lead_frames=round(config.decoder.word_lead_ms / frame_ms),
            trail_frames=round(config.decoder.word_trail_ms / frame_ms),
            confidence=confidence_estimator(config.confidence),
        )

    def build(self, entry: NBestEntry) -> Hypothesis:
        """Return the hypothesis of ``entry``."""
        words = entry.words
        tokens = [(word.start_frame, word.end_frame) for word in words]
        spans = word_spans(tokens, self.lead_frames, self.trail_frames)
        return Hypothesis(
            tuple(self._word(word, *span) for word, span in zip(words, spans, strict=True)), entry.score
        )

    def _word(self, word: TimedWord, start_frame: int, end_frame: int) -> Word:
        text = word.text
        features = WordFeatures(word.posterior, word.mean_log_prob, len(text))
        return Word(text, start_frame, end_frame, self.confidence(features), features)


def word_spans(
    tokens: Sequence[tuple[int, int]], lead_frames: int, trail_frames: int
) -> list[tuple[int, int]]:
    """Estimate where words begin and end from where their tokens do.

    A CTC model emits a token in one or two frames of its sound, mostly late ones. So a word begins ``lead_frames``
    before its first token, but not before the tokens of the previous word end; and it ends ``trail_frames`` after its
    last token, or where the next word begins.

    Args:
        tokens: half-open frames of the tokens of each word, from the first to the last one; ascending.
        lead_frames: not negative.
        trail_frames: not negative.

    Returns:
        Half-open frames of each word; ascending, none empty. The first may begin before frame 0, and the last may
        end after the newest frame.
    """
    if not tokens:
        return []
    starts = [tokens[0][0] - lead_frames]
    starts += [max(start - lead_frames, previous) for (_, previous), (start, _) in pairwise(tokens)]
    ends = [
        min(end + trail_frames, next_start)
        for (_, end), next_start in zip(tokens[:-1], starts[1:], strict=True)
    ]
    return list(zip(starts, [*ends, tokens[-1][1] + trail_frames], strict=True))
