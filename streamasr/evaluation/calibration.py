"""Calibrate word confidences: label a model's words right or wrong, fit a logistic regression, and measure it.

The regression has three features (see :mod:`streamasr.decoding.confidence`) and is fitted by Newton's method with
a small ridge penalty. Its quality is measured by two-fold cross-validation over utterances.

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
"""Number of equal-width bins in which confidence is compared with the share of right words (Guo et al. 2017)."""
FOLDS = 2
"""Folds of the cross-validation; the words of an utterance are in the same fold."""
RIDGE = 1.0
"""Weight of the ridge penalty beside the sum of log losses, for features scaled to unit variance."""
_NEWTON_STEPS = 50
_CONVERGED = 1e-8
_LEAST_WORDS = 50
"""With fewer right or wrong words a fit would be meaningless."""


@dataclass(frozen=True, slots=True)
class LabelledWord:
    """A recognised word, and whether it is right."""

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
    """Their mean confidence; 0 if there are no words."""
    right: float
    """The share of right words; 0 if there are no words."""


@dataclass(frozen=True, slots=True)
class Reliability:
    """Quality of confidences."""

    bins: tuple[Bin, ...]
    error: float
    """Expected calibration error (ECE): mean distance of confidence and share of right words over the bins."""
    entropy_gain: float
    """Normalised cross entropy (NIST): 1 is perfect, 0 is no better than the overall share of right words."""
    roc_auc: float
    """Area under the ROC curve: how often a right word has more confidence than a wrong one; 0.5 is chance."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """Fitted weights, and their cross-validated quality."""

    config: ConfidenceConfig
    words: int
    right: int
    before: Reliability
    """Quality of the model's present confidences."""
    after: Reliability
    """Cross-validated quality of the new ones."""


def label_words(
    decoder: UtteranceDecoder, recordings: Iterable[Recording], rules: TextRules
) -> list[LabelledWord]:
    """Label every word that ``decoder`` recognises: right if the alignment with the reference has the same word.

    Words and references are compared in the normalised form of ``rules``.
    """
    options = replace(decoder.default_options(), partials=False)
    spaced = decoder.beams.tokens.kind != "characters"
    labelled: list[LabelledWord] = []
    for number, recording in enumerate(recordings):
        state, events = decoder.step(decoder.initial_state(options), recording.log_probs_TV)
        _, last = decoder.flush(state)
        finals = [event for event in (*events, *last) if isinstance(event, Final)]
        words = [word for final in finals for word in final.hypothesis.words]
        reference = recording.reference.split() if spaced else list(recording.reference.replace(" ", ""))
        pairs = align(reference, [rules.normalise(word.text) for word in words])
        rights = [expected == recognised for expected, recognised in pairs if recognised is not None]
        labelled += [
            LabelledWord(number, word.features, right) for word, right in zip(words, rights, strict=True)
        ]
    return labelled


def calibrate(words: Sequence[LabelledWord], current: ConfidenceConfig) -> Calibration:
    """Fit weights to ``words`` and compare them with the ``current`` ones.

    Raises:
        DataError: too few right words, or too few wrong ones.
    """
    right_N = np.array([word.right for word in words], dtype=bool)
    if min(right_N.sum(), (~right_N).sum()) < _LEAST_WORDS:
        raise DataError(
            f"not enough words to calibrate: {right_N.sum()} right and {(~right_N).sum()} wrong words, "
            f"at least {_LEAST_WORDS} of each are needed; use more utterances"
        )
    fold_N = np.array([word.utterance for word in words]) % FOLDS
    held_out_N = np.zeros(len(words))
    for fold in range(FOLDS):
        rest = [word for word, its in zip(words, fold_N, strict=True) if its != fold]
        held_out_N[fold_N == fold] = _estimates(words, fit(rest))[fold_N == fold]
    return Calibration(
        config=fit(words),
        words=len(words),
        right=int(right_N.sum()),
        before=reliability(_estimates(words, current), right_N),
        after=reliability(held_out_N, right_N),
    )


def fit(words: Sequence[LabelledWord]) -> ConfidenceConfig:
    """Maximum-likelihood weights with the ridge penalty."""
    features_NF = np.array([(1.0, *word.features.vector) for word in words])
    right_N = np.array([word.right for word in words], dtype=np.float64)
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
    """Measure confidences against right and wrong words; both kinds must occur."""
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
        roc_auc=_roc_auc(confidence_N, right_N),
    )


def _roc_auc(confidence_N: NDArray[np.float64], right_N: NDArray[np.bool_]) -> float:
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


def _estimates(words: Sequence[LabelledWord], config: ConfidenceConfig) -> NDArray[np.float64]:
    estimate = confidence_estimator(config)
    return np.array([estimate(word.features) for word in words])
