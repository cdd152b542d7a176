"""Make confidences probabilities: label a model's words right or wrong, fit a logistic regression, measure it.

The regression has three features (see :mod:`streamasr.decoding.confidence`) and is fitted by Newton's method with
a small ridge. What it is worth is measured across utterances: fitted on one half, measured on the other, and the
other way round. Knows log-probs and references; prints and draws nothing.

Shape suffixes: N words, F features with a constant in front.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from streamasr.config import ConfidenceConfig
from streamasr.decoding.confidence import FEATURES, WordFeatures, confidence_estimator
from streamasr.decoding.hypothesis import Final
from streamasr.decoding.utterance import UtteranceDecoder
from streamasr.errors import DataError
from streamasr.evaluation.tuning import Recording
from streamasr.scoring import align
from streamasr.text import TextRules

BINS = 10
"""Confidences are compared with the share of right words in so many bins of equal width (Guo et al. 2017)."""
FOLDS = 2
"""An utterance's words are in one fold together."""
RIDGE = 1.0
"""Weight of the squared weights, of features scaled to unit variance, beside the sum of log losses."""
_NEWTON_STEPS = 50
_CONVERGED = 1e-8
_LEAST_WORDS = 50
"""Fewer right or wrong words fit nothing worth having."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A word that the model said."""

    utterance: int
    features: WordFeatures
    right: bool


@dataclass(frozen=True, slots=True)
class Bin:
    """The words whose confidences lie between two bounds."""

    low: float
    high: float
    words: int
    confidence: float
    """Their mean; 0 without a word."""
    right: float
    """The share of them that is right; 0 without a word."""


@dataclass(frozen=True, slots=True)
class Reliability:
    """What confidences are worth."""

    bins: tuple[Bin, ...]
    error: float
    """Expected calibration error: the mean distance of confidence and share of right words over the bins."""
    entropy_gain: float
    """Normalised cross entropy (NIST): 1 knows every word, 0 knows no more than the share of right ones."""
    order: float
    """How often a right word has more confidence than a wrong one (area under the ROC curve); 0.5 is chance."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """The weights that the words give, and what they are worth on words that gave other weights."""

    config: ConfidenceConfig
    words: int
    right: int
    before: Reliability
    """Of the model's own confidences."""
    after: Reliability
    """Of those that the folds gave each other."""


def answers_of(decoder: UtteranceDecoder, recordings: Iterable[Recording], rules: TextRules) -> list[Answer]:
    """Every word that ``decoder`` says, right where the alignment with the reference has the same word.

    Words are compared as ``rules`` normalise them, as references are.
    """
    options = replace(decoder.default_options(), partials=False)
    spaced = decoder.beams.tokens.kind != "characters"
    answers: list[Answer] = []
    for number, recording in enumerate(recordings):
        state, events = decoder.step(decoder.initial_state(options), recording.log_probs_TV)
        _, last = decoder.flush(state)
        finals = [event for event in (*events, *last) if isinstance(event, Final)]
        words = [word for final in finals for word in final.hypothesis.words]
        reference = recording.reference.split() if spaced else list(recording.reference.replace(" ", ""))
        pairs = align(reference, [rules.normalise(word.text) for word in words])
        rights = [said == heard for said, heard in pairs if heard is not None]
        answers += [Answer(number, word.features, right) for word, right in zip(words, rights, strict=True)]
    return answers


def calibrate(answers: Sequence[Answer], current: ConfidenceConfig) -> Calibration:
    """Fit weights to ``answers`` and compare them with the ``current`` ones.

    Raises:
        DataError: too few right words, or too few wrong ones.
    """
    right_N = np.array([answer.right for answer in answers], dtype=bool)
    if min(right_N.sum(), (~right_N).sum()) < _LEAST_WORDS:
        raise DataError(
            f"too little to calibrate on: {right_N.sum()} right and {(~right_N).sum()} wrong words, "
            f"at least {_LEAST_WORDS} of each are needed; give more utterances"
        )
    fold_N = np.array([answer.utterance for answer in answers]) % FOLDS
    held_out_N = np.zeros(len(answers))
    for fold in range(FOLDS):
        rest = [answer for answer, its in zip(answers, fold_N, strict=True) if its != fold]
        held_out_N[fold_N == fold] = _estimates(answers, fit(rest))[fold_N == fold]
    return Calibration(
        config=fit(answers),
        words=len(answers),
        right=int(right_N.sum()),
        before=reliability(_estimates(answers, current), right_N),
        after=reliability(held_out_N, right_N),
    )


def fit(answers: Sequence[Answer]) -> ConfidenceConfig:
    """The weights under which the answers are most probable, the ridge taken off."""
    features_NF = np.array([(1.0, *answer.features.vector) for answer in answers])
    right_N = np.array([answer.right for answer in answers], dtype=np.float64)
    mean_F, scale_F = features_NF.mean(axis=0), features_NF.std(axis=0)
    mean_F[0], scale_F[0] = 0.0, 1.0
    scale_F[scale_F == 0] = 1.0
    features_NF = (features_NF - mean_F) / scale_F
    ridge_F = np.full(features_NF.shape[1], RIDGE)
    ridge_F[0] = 0.0
    weights_F = np.zeros(features_NF.shape[1])
    for _ in range(_NEWTON_STEPS):
        guess_N = 1 / (1 + np.exp(-features_NF @ weights_F))
        slope_F = features_NF.T @ (right_N - guess_N) - ridge_F * weights_F
        curve_FF = (features_NF.T * (guess_N * (1 - guess_N))) @ features_NF + np.diag(ridge_F)
        step_F = np.linalg.solve(curve_FF, slope_F)
        weights_F = weights_F + step_F
        if np.abs(step_F).max() < _CONVERGED:
            break
    weights_F = weights_F / scale_F
    bias = float(weights_F[0] - weights_F[1:] @ mean_F[1:])
    named = dict(zip(FEATURES, weights_F[1:].tolist(), strict=True))
    return ConfidenceConfig(
        method="logistic",
        bias=round(bias, 4),
        share=round(named["share"], 4),
        sharpness=round(named["sharpness"], 4),
        length=round(named["length"], 4),
    )


def reliability(confidence_N: NDArray[np.float64], right_N: NDArray[np.bool_]) -> Reliability:
    """What confidences are worth, given which words are right; both kinds of words must occur."""
    place_N = np.minimum((confidence_N * BINS).astype(int), BINS - 1)
    bins = []
    for place in range(BINS):
        chosen_N = place_N == place
        count = int(chosen_N.sum())
        bins.append(
            Bin(
                place / BINS,
                (place + 1) / BINS,
                count,
                float(confidence_N[chosen_N].mean()) if count else 0.0,
                float(right_N[chosen_N].mean()) if count else 0.0,
            )
        )
    total = len(right_N)
    share = right_N.mean()
    prior = -(share * np.log2(share) + (1 - share) * np.log2(1 - share))
    sure_N = np.clip(np.where(right_N, confidence_N, 1 - confidence_N), 1e-6, 1.0)
    return Reliability(
        bins=tuple(bins),
        error=sum(b.words * abs(b.confidence - b.right) for b in bins) / total,
        entropy_gain=float((prior + np.log2(sure_N).mean()) / prior),
        order=_order(confidence_N, right_N),
    )


def _order(confidence_N: NDArray[np.float64], right_N: NDArray[np.bool_]) -> float:
    """The area under the ROC curve, from ranks; equal confidences share their mean rank (Mann and Whitney 1947)."""
    ranks_N = np.empty(len(confidence_N))
    order = np.argsort(confidence_N, kind="stable")
    first = 0
    for _, group in groupby(order, key=lambda place: confidence_N[place]):
        places = list(group)
        ranks_N[places] = first + (len(places) + 1) / 2
        first += len(places)
    right = int(right_N.sum())
    return float((ranks_N[right_N].sum() - right * (right + 1) / 2) / (right * (len(right_N) - right)))


def _estimates(answers: Sequence[Answer], config: ConfidenceConfig) -> NDArray[np.float64]:
    estimate = confidence_estimator(config)
    return np.array([estimate(answer.features) for answer in answers])
