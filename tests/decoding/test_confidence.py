"""Test that confidences are probabilities that grow with the evidence."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamasr.config import ConfidenceConfig
from streamasr.decoding.confidence import WordFeatures, confidence_estimator, logistic

WORDS = st.builds(
    WordFeatures,
    posterior=st.floats(0, 1),
    mean_log_prob=st.floats(-40, 0),
    num_characters=st.integers(1, 64),
)
FITTED = ConfidenceConfig(method="logistic", bias=-0.5, share=0.8, sharpness=0.7, length=0.3)


@given(WORDS)
def test_every_estimate_is_a_probability(features: WordFeatures) -> None:
    for config in (ConfidenceConfig(), FITTED):
        assert 0 <= confidence_estimator(config)(features) <= 1


@given(WORDS, WORDS)
def test_a_higher_posterior_or_sharpness_never_lowers_the_confidence(
    one: WordFeatures, other: WordFeatures
) -> None:
    if one.posterior <= other.posterior and one.mean_log_prob <= other.mean_log_prob:
        other = WordFeatures(other.posterior, other.mean_log_prob, one.num_characters)
        for config in (ConfidenceConfig(), FITTED):
            assert confidence_estimator(config)(one) <= confidence_estimator(config)(other)


def test_uncalibrated_is_the_posterior_times_the_sharpness() -> None:
    assert confidence_estimator(ConfidenceConfig())(WordFeatures(0.5, math.log(0.8), 4)) == pytest.approx(0.4)


def test_logistic_weights_the_features() -> None:
    features = WordFeatures(posterior=0.9, mean_log_prob=-0.2, num_characters=5)
    score = -0.5 + 0.8 * math.log(9) - 0.7 * 0.2 + 0.3 * math.log(5)
    assert confidence_estimator(FITTED)(features) == pytest.approx(1 / (1 + math.exp(-score)))


def test_logistic_of_any_number() -> None:
    assert logistic(-1e6) == 0
    assert logistic(1e6) == 1
    assert logistic(0) == 0.5
