"""From the native core's readings to hypotheses: words with times and confidences.

Knows what a reading tells of each word: the frames and best log-probs of its tokens on the best path, and the
share of all readings' probability that says it at that time. Searches nothing.
"""

from __future__ import annotations

from math import exp

from streamasr.decoding import _native
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


def hypothesis_of(reading: Reading) -> Hypothesis:
    """The words of ``reading`` with times and confidences."""
    words = tuple(
        Word(word.text, word.start_frame, word.end_frame, confidence_of(word)) for word in reading.words
    )
    return Hypothesis(words, reading.score)


def confidence_of(word: HeardWord) -> float:
    """The share of the readings that say the word, times how sharply it was said, 0 to 1.

    Sharpness is the geometric mean of the word's token probabilities, each at its best frame.
    """
    return word.share * min(1.0, exp(word.mean_log_prob))
