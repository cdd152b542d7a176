"""Score transcripts: edits, word and character error rates, bootstrap intervals."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

H = TypeVar("H", bound=Hashable)

_ERROR = 1 << 32
"""A cell of the distance table counts errors above this bit and insertions below it, so that one minimum
orders by both: of the alignments with the fewest errors, the one with the fewest insertions is chosen."""

BOOTSTRAP_DRAWS = 1_000
BOOTSTRAP_SEED = 20_240_229
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Edits:
    """Edits from a reference to a hypothesis; ``length`` is the reference's number of words or characters."""

    substitutions: int = 0
    insertions: int = 0
    deletions: int = 0
    length: int = 0

    def __add__(self, other: Edits) -> Edits:
        return Edits(
            self.substitutions + other.substitutions,
            self.insertions + other.insertions,
            self.deletions + other.deletions,
            self.length + other.length,
        )

    @property
    def errors(self) -> int:
        """The number of edits."""
        return self.substitutions + self.insertions + self.deletions

    @property
    def rate(self) -> float:
        """Errors per item of the reference; the number of errors if the reference is empty."""
        return self.errors / max(1, self.length)


@dataclass(frozen=True, slots=True)
class ErrorRates:
    """Word and character edits of a set of utterances."""

    words: Edits
    characters: Edits

    @property
    def wer(self) -> float:
        """Word error rate, as a fraction."""
        return self.words.rate

    @property
    def cer(self) -> float:
        """Character error rate, spaces included, as a fraction."""
        return self.characters.rate


@dataclass(frozen=True, slots=True)
class Interval:
    """A ratio and the bounds of its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


def count_edits(reference: Sequence[Hashable], hypothesis: Sequence[Hashable]) -> Edits:
    """Count the edits (Levenshtein) from ``reference`` to ``hypothesis``.

    Takes time proportional to the product of the lengths, and memory proportional to the hypothesis.
    """
    *_, last_M = _distance_rows(reference, hypothesis)
    errors, insertions = divmod(int(last_M[-1]), _ERROR)
    deletions = insertions + len(reference) - len(hypothesis)
    return Edits(errors - insertions - deletions, insertions, deletions, len(reference))


def _distance_rows(
    reference: Sequence[Hashable], hypothesis: Sequence[Hashable]
) -> Iterator[NDArray[np.int64]]:
    """Yield the rows of the distance table, from the empty reference on; column j is for the first j items."""
    ids: dict[Hashable, int] = {}
    reference_ids = [ids.setdefault(item, len(ids)) for item in reference]
    hypothesis_M = np.array([ids.setdefault(item, len(ids)) for item in hypothesis], dtype=np.int64)
    # Insertions are a running minimum after the cost of j insertions is subtracted from column j.
    insertions_M = np.arange(len(hypothesis) + 1, dtype=np.int64) * (_ERROR + 1)
    row_M = insertions_M
    yield row_M
    for item in reference_ids:
        best_M = row_M + _ERROR
        best_M[1:] = np.minimum(best_M[1:], row_M[:-1] + np.where(hypothesis_M == item, 0, _ERROR))
        row_M = np.minimum.accumulate(best_M - insertions_M) + insertions_M
        yield row_M


def align(reference: Sequence[H], hypothesis: Sequence[H]) -> list[tuple[H | None, H | None]]:
    """Align two sequences: (reference item, hypothesis item) pairs with the edits of :func:`count_edits`.

    ``(a, b)`` is a hit or a substitution, ``(a, None)`` a deletion, ``(None, b)`` an insertion; both sides keep
    their order. Time and memory are the product of the lengths.
    """
    table_NM = np.stack(list(_distance_rows(reference, hypothesis)))
    pairs: list[tuple[H | None, H | None]] = []
    i, j = len(reference), len(hypothesis)
    while i or j:
        here = table_NM[i, j]
        if i and j:
            differ = reference[i - 1] != hypothesis[j - 1]
            if here == table_NM[i - 1, j - 1] + (_ERROR if differ else 0):
                i, j = i - 1, j - 1
                pairs.append((reference[i], hypothesis[j]))
                continue
        if i and here == table_NM[i - 1, j] + _ERROR:
            i -= 1
            pairs.append((reference[i], None))
        else:
            j -= 1
            pairs.append((None, hypothesis[j]))
    return pairs[::-1]


def word_edits(reference: str, hypothesis: str) -> Edits:
    """Count the edits between the words of two texts."""
    return count_edits(reference.split(), hypothesis.split())


def character_edits(reference: str, hypothesis: str) -> Edits:
    """Count the edits between the characters of two texts, including single spaces between words."""
    return count_edits(" ".join(reference.split()), " ".join(hypothesis.split()))


def score(pairs: Iterable[tuple[str, str]]) -> ErrorRates:
    """Error rates of (reference, hypothesis) pairs, compared without normalisation."""
    words, characters = Edits(), Edits()
    for reference, hypothesis in pairs:
        words += word_edits(reference, hypothesis)
        characters += character_edits(reference, hypothesis)
    return ErrorRates(words, characters)


def bootstrap_ratio(
    numerators: ArrayLike,
    denominators: ArrayLike,
    *,
    draws: int = BOOTSTRAP_DRAWS,
    seed: int = BOOTSTRAP_SEED,
) -> Interval:
    """The ratio of two sums over utterances, with its percentile bootstrap interval (Bisani and Ney 2004).

    Utterances are sampled with replacement, ``draws`` times; the same input gives the same interval.
    """
    top_N = np.asarray(numerators, dtype=np.float64)
    bottom_N = np.asarray(denominators, dtype=np.float64)
    if top_N.shape != bottom_N.shape or top_N.ndim != 1 or not top_N.size:
        raise ValueError(f"expected two equally long lists, got shapes {top_N.shape} and {bottom_N.shape}")
    rng = np.random.default_rng(seed)
    ratios = np.empty(draws)
    for draw in range(draws):
        chosen_N = rng.integers(0, top_N.size, size=top_N.size)
        ratios[draw] = top_N[chosen_N].sum() / max(bottom_N[chosen_N].sum(), 1e-9)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(ratios, [tail, 1 - tail])
    return Interval(float(top_N.sum() / max(bottom_N.sum(), 1e-9)), float(low), float(high))
