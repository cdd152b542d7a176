"""How probable it is that a word is right: from what was heard of it to a number between 0 and 1.

Uncalibrated, a confidence only orders words. Calibrated, it is the probability of a logistic regression over three
features of a word (Platt 1999, with more than one score), whose weights ``streamasr model calibrate`` fits and
writes to the model folder. Knows no beams and no reference; :mod:`streamasr.evaluation.calibration` fits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import exp, log

from streamasr.config import ConfidenceConfig

_NEARLY = 1e-4
"""Shares nearer to 0 or 1 count as this near: log-odds need a bound."""

FEATURES = ("share", "sharpness", "length")
"""What the features are called in :class:`~streamasr.config.ConfidenceConfig`, in their order."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was heard of a word when its confidence was estimated."""

    share: float
    """Of the readings' probability, that says the word at its time; 0 to 1."""
    mean_log_prob: float
    """Of its tokens on the best path, each at its best frame."""
    characters: int

    @property
    def features(self) -> tuple[float, float, float]:
        """The numbers that :data:`FEATURES` names."""
        share = min(max(self.share, _NEARLY), 1 - _NEARLY)
        return log(share / (1 - share)), self.mean_log_prob, log(self.characters)


Estimate = Callable[[Evidence], float]
"""From evidence to a probability."""


def estimator(config: ConfidenceConfig) -> Estimate:
    """The estimate that ``config`` describes."""
    if config.method == "uncalibrated":
        return uncalibrated
    weights = config.share, config.sharpness, config.length

    def estimate(evidence: Evidence) -> float:
        score = config.bias + sum(w * x for w, x in zip(weights, evidence.features, strict=True))
        return logistic(score)

    return estimate


def uncalibrated(evidence: Evidence) -> float:
    """The share of the readings that say the word, times how sharply it was heard.

    Sharpness is the geometric mean of the word's token probabilities, each at its best frame.
    """
    return evidence.share * min(1.0, exp(evidence.mean_log_prob))


def logistic(score: float) -> float:
    """1 / (1 + exp(-score)), for scores of any size."""
    if score >= 0:
        return 1 / (1 + exp(-score))
    return exp(score) / (1 + exp(score))
