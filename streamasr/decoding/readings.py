"""From the native core's readings to hypotheses: words with times and confidences.

Knows what a reading tells of each word: the frames and best log-probs of its tokens on the best path, and the
share of all readings' probability that says it at that time. Searches nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from streamasr.config import ModelConfig
from streamasr.decoding import _native
from streamasr.decoding.confidence import Estimate, Evidence, estimator, uncalibrated
from streamasr.decoding.hypothesis import Hypothesis, Word

Reading = _native.Reading
"""One text: ``words`` and ``score`` (natural log)."""
HeardWord = _native.HeardWord
"""A word of a reading.

``tokens`` are those of its best path, each with ``start_frame``, ``end_frame`` (half-open, frames of the stream)
and ``log_prob`` at its best frame; ``mean_log_prob`` is their mean; ``start_frame`` and ``end_frame`` are the first
token's and the last one's. ``share`` is the share of the readings' probability in which the same word is said
within 5 frames of the same time, 0 to 1.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Telling:
    """How a model's readings are told."""

    lead_frames: int = 0
    """A word begins so long before its first token …"""
    trail_frames: int = 0
    """… and ends so long after its last one."""
    confidence: Estimate = uncalibrated

    def hypothesis(self, reading: Reading) -> Hypothesis:
        """The words of ``reading`` with times and confidences."""
        heard = reading.words
        tokens = [(word.start_frame, word.end_frame) for word in heard]
        spans = word_spans(tokens, self.lead_frames, self.trail_frames)
        return Hypothesis(
            tuple(self._word(word, *span) for word, span in zip(heard, spans, strict=True)), reading.score
        )

    def _word(self, word: HeardWord, start_frame: int, end_frame: int) -> Word:
        text = word.text
        evidence = Evidence(word.share, word.mean_log_prob, len(text))
        return Word(text, start_frame, end_frame, self.confidence(evidence), evidence)


def telling_of(config: ModelConfig, frame_ms: float) -> Telling:
    """How the readings of the model that ``config`` describes are told, its frames ``frame_ms`` milliseconds long."""
    return Telling(
        lead_frames=round(config.decoder.word_lead_ms / frame_ms),
        trail_frames=round(config.decoder.word_trail_ms / frame_ms),
        confidence=estimator(config.confidence),
    )


def word_spans(
    tokens: Sequence[tuple[int, int]], lead_frames: int, trail_frames: int
) -> list[tuple[int, int]]:
    """Where words begin and end, from where their tokens do.

    CTC holds a token for a frame or two somewhere in its sound, mostly late. So a word begins ``lead_frames`` before
    its tokens, but not before those of the word before it are over; and it ends ``trail_frames`` after them, or
    where the next word begins.

    Args:
        tokens: half-open frames, from the first token's first to the last one's last, of every word; rising.
        lead_frames: not negative, like the next one.
        trail_frames: see above.

    Returns:
        Half-open frames of every word, rising, none empty. The first may begin before frame 0, and the last may
        end after what has been heard.
    """
    if not tokens:
        return []
    starts = [tokens[0][0] - lead_frames]
    starts += [max(start - lead_frames, before) for (_, before), (start, _) in pairwise(tokens)]
    ends = [
        min(end + trail_frames, next_start)
        for (_, end), next_start in zip(tokens[:-1], starts[1:], strict=True)
    ]
    return list(zip(starts, [*ends, tokens[-1][1] + trail_frames], strict=True))
