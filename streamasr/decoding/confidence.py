"""Estimate the probability that a recognised word is right.

Without calibration a confidence only ranks words. With it, the confidence is the probability given by a logistic
regression over three features of the word (Platt 1999, with several features). ``streamasr model calibrate`` fits
the weights (:mod:`streamasr.evaluation.calibration`) and stores them in the model folder.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import exp, log

from streamasr.config import ConfidenceConfig

_MIN_POSTERIOR = 1e-4
"""Posteriors are clipped to this distance from 0 and 1, so that their log-odds are bounded."""

FEATURES = ("share", "sharpness", "length")
"""The features' names in :class:`~streamasr.config.ConfidenceConfig`: posterior, mean log-prob, length."""


@dataclass(frozen=True, slots=True)
class WordFeatures:
    """What the confidence of a word is computed from."""

    posterior: float
    """Probability of the n-best hypotheses that have the word at its time, relative to all of them; 0 to 1."""
    mean_log_prob: float
    """Mean over the word's tokens on the best path, each at its best frame (natural log)."""
    num_characters: int

    @property
    def vector(self) -> tuple[float, float, float]:
        """The values of :data:`FEATURES`: log-odds of the posterior, mean log-prob, log of the length."""
        posterior = min(max(self.posterior, _MIN_POSTERIOR), 1 - _MIN_POSTERIOR)
        return log(posterior / (1 - posterior)), self.mean_log_prob, log(self.num_characters)


ConfidenceEstimator = Callable[[WordFeatures], float]
"""Computes a confidence, 0 to 1."""


def confidence_estimator(config: ConfidenceConfig) -> ConfidenceEstimator:
    """Return the estimator that ``config`` describes."""
    if config.method == "uncalibrated":
        return uncalibrated_confidence
    weights = config.share, config.sharpness, config.length

    def estimate(features: WordFeatures) -> float:
        score = config.bias + sum(w * x for w, x in zip(weights, features.vector, strict=True))
        return logistic(score)

    return estimate


def uncalibrated_confidence(features: WordFeatures) -> float:
    """Multiply the word's posterior by its sharpness.

    Sharpness is the geometric mean of the word's token probabilities, each at its best frame.
    """
    return features.posterior * min(1.0, exp(features.mean_log_prob))


def logistic(score: float) -> float:
    """1 / (1 + exp(-score)) without overflow."""
    if score >= 0:
        return 1 / (1 + exp(-score))
    return exp(score) / (1 + exp(score))
