"""Confidences: between 0 and 1, rising with what speaks for a word, and as the configuration weighs it."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamasr.config import ConfidenceConfig
from streamasr.decoding.confidence import Evidence, estimator, logistic

EVIDENCE = st.builds(
    Evidence,
    share=st.floats(0, 1),
    mean_log_prob=st.floats(-40, 0),
    characters=st.integers(1, 64),
)
FITTED = ConfidenceConfig(method="logistic", bias=-0.5, share=0.8, sharpness=0.7, length=0.3)


@given(EVIDENCE)
def test_every_estimate_is_a_probability(evidence):
    for config in (ConfidenceConfig(), FITTED):
        assert 0 <= estimator(config)(evidence) <= 1


@given(EVIDENCE, EVIDENCE)
def test_more_evidence_never_makes_less_confident(one, other):
    if one.share <= other.share and one.mean_log_prob <= other.mean_log_prob:
        other = Evidence(other.share, other.mean_log_prob, one.characters)
        for config in (ConfidenceConfig(), FITTED):
            assert estimator(config)(one) <= estimator(config)(other)


def test_uncalibrated_is_the_share_times_the_sharpness():
    assert estimator(ConfidenceConfig())(Evidence(0.5, math.log(0.8), 4)) == pytest.approx(0.4)


def test_logistic_weighs_the_features():
    evidence = Evidence(share=0.9, mean_log_prob=-0.2, characters=5)
    score = -0.5 + 0.8 * math.log(9) - 0.7 * 0.2 + 0.3 * math.log(5)
    assert estimator(FITTED)(evidence) == pytest.approx(1 / (1 + math.exp(-score)))


def test_logistic_of_any_number():
    assert logistic(-1e6) == 0
    assert logistic(1e6) == 1
    assert logistic(0) == 0.5
