"""Test calibration: fitted weights, figures of known confidences, and words labelled by alignment."""

from __future__ import annotations

import math

import numpy as np
import pytest

from streamasr.config import ConfidenceConfig
from streamasr.decoding.confidence import WordFeatures, confidence_estimator
from streamasr.errors import DataError
from streamasr.evaluation.calibration import LabelledWord, calibrate, fit, label_words, reliability
from streamasr.evaluation.reliability_plot import reliability_svg
from streamasr.evaluation.tuning import Recording
from streamasr.text import text_rules
from tests.decoding.synthetic import CHARACTERS, speech, utterance_decoder

TRUE = ConfidenceConfig(method="logistic", bias=0.5, share=0.6, sharpness=1.5, length=0.4)


def random_words(count: int, seed: int = 0) -> list[LabelledWord]:
    """Words with random features, correct with the probability that ``TRUE`` gives."""
    rng = np.random.default_rng(seed)
    estimate = confidence_estimator(TRUE)
    answers = []
    for number in range(count):
        features = WordFeatures(
            posterior=float(rng.beta(2, 1)),
            mean_log_prob=-float(rng.exponential(0.5)),
            num_characters=int(rng.integers(1, 12)),
        )
        answers.append(LabelledWord(number // 10, features, bool(rng.random() < estimate(features))))
    return answers


def test_the_fit_recovers_the_weights_of_the_labels() -> None:
    found = fit(random_words(20_000))
    assert found.method == "logistic"
    for name in ("bias", "share", "sharpness", "length"):
        assert getattr(found, name) == pytest.approx(getattr(TRUE, name), abs=0.15), name


def test_calibrated_confidences_are_probabilities_on_the_other_half() -> None:
    found = calibrate(random_words(4_000), ConfidenceConfig())
    assert found.after.error < 0.05 < found.before.error
    assert found.after.entropy_gain > found.before.entropy_gain
    assert found.words == 4_000 == sum(b.words for b in found.after.bins)


def test_a_constant_feature_keeps_the_weights_finite() -> None:
    answers = [
        LabelledWord(a.utterance, WordFeatures(a.features.posterior, -0.1, 4), a.right)
        for a in random_words(2_000)
    ]
    found = calibrate(answers, ConfidenceConfig())
    assert all(math.isfinite(w) for w in (found.config.bias, found.config.sharpness, found.config.length))
    assert found.after.error < 0.1


def test_too_few_wrong_words_are_refused() -> None:
    answers = [answer for answer in random_words(2_000) if answer.right]
    with pytest.raises(DataError, match="and 0 wrong words"):
        calibrate(answers, ConfidenceConfig())


def test_reliability_of_known_confidences() -> None:
    measured = reliability(np.array([0.95, 0.95, 0.25, 0.25]), np.array([True, True, True, False]))
    assert [b.words for b in measured.bins] == [0, 0, 2, 0, 0, 0, 0, 0, 0, 2]
    assert measured.error == pytest.approx(0.5 * 0.05 + 0.5 * 0.25)
    assert measured.roc_auc == pytest.approx(5 / 6)
    certain = reliability(np.array([1.0, 0.0]), np.array([True, False]))
    assert (certain.error, certain.entropy_gain, certain.roc_auc) == pytest.approx((0, 1, 1))
    ignorant = reliability(np.full(4, 0.75), np.array([True, True, True, False]))
    assert (ignorant.entropy_gain, ignorant.roc_auc) == pytest.approx((0, 0.5))


def test_words_that_match_the_reference_are_right() -> None:
    rng = np.random.default_rng(1)
    recording = Recording(speech("the old man left", rng, confusion=0.0), "the young man left early")
    answers = label_words(utterance_decoder(), [recording, recording], text_rules("en"))
    assert [(a.utterance, a.right) for a in answers[:4]] == [(0, True), (0, False), (0, True), (0, True)]
    assert len(answers) == 8
    assert answers[0].features.num_characters == 3


def test_every_chinese_character_is_a_word() -> None:
    rng = np.random.default_rng(2)
    recording = Recording(speech("今天天气很好", rng, confusion=0.0, tokens=CHARACTERS), "明天天气很好")
    answers = label_words(utterance_decoder(tokens=CHARACTERS), [recording], text_rules("zh"))
    assert [answer.right for answer in answers] == [False, True, True, True, True, True]


def test_the_diagram_draws_every_bin_that_has_words() -> None:
    measured = reliability(np.array([0.95, 0.95, 0.25, 0.25]), np.array([True, True, True, False]))
    svg = reliability_svg("a < b", [("before", measured)])
    assert svg.count("<title>") == 2
    assert "a &lt; b" in svg
    assert "expected calibration error 0.150" in svg
