"""Test edit counts, error rates and their intervals."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamasr.scoring import Edits, align, bootstrap_ratio, character_edits, count_edits, score, word_edits


def _slow_distance(a: str, b: str) -> int:
    """The textbook table, for comparison."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        previous, row = row, [i]
        for j, y in enumerate(b, start=1):
            row.append(min(previous[j] + 1, row[j - 1] + 1, previous[j - 1] + (x != y)))
    return row[-1]


@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected"),
    [
        ("a b c", "a b c", Edits(0, 0, 0, 3)),
        ("a b c", "a x c", Edits(1, 0, 0, 3)),
        ("a b c", "a c", Edits(0, 0, 1, 3)),
        ("a b", "a b c d", Edits(0, 2, 0, 2)),
        ("", "a", Edits(0, 1, 0, 0)),
        ("a b", "", Edits(0, 0, 2, 2)),
        ("a b", "b a", Edits(2, 0, 0, 2)),
        ("the cat sat", "cat sat down now", Edits(0, 2, 1, 3)),
    ],
)
def test_known_edits(reference: str, hypothesis: str, expected: Edits) -> None:
    assert word_edits(reference, hypothesis) == expected


@given(st.text("ab c", max_size=12), st.text("ab c", max_size=12))
def test_fewest_edits_that_explain_both_lengths(a: str, b: str) -> None:
    edits = count_edits(a, b)
    assert edits.errors == _slow_distance(a, b)
    assert min(edits.substitutions, edits.insertions, edits.deletions) >= 0
    assert edits.length - edits.deletions + edits.insertions == len(b)


@given(st.text("ab c", max_size=12), st.text("ab c", max_size=12))
def test_an_alignment_keeps_both_texts_and_has_the_fewest_edits(a: str, b: str) -> None:
    pairs = align(a, b)
    assert "".join(x for x, _ in pairs if x is not None) == a
    assert "".join(y for _, y in pairs if y is not None) == b
    found = Edits(
        sum(x is not None and y is not None and x != y for x, y in pairs),
        sum(x is None for x, _ in pairs),
        sum(y is None for _, y in pairs),
        len(a),
    )
    assert found == count_edits(a, b)


def test_an_alignment_pairs_the_words() -> None:
    pairs = align(["the", "cat", "sat"], ["cat", "sat", "down", "now"])
    assert pairs == [("the", None), ("cat", "cat"), ("sat", "sat"), (None, "down"), (None, "now")]


def test_characters_count_one_space_between_words() -> None:
    assert character_edits("ab  cd", "abcd") == Edits(0, 0, 1, 5)


def test_rates_weigh_utterances_by_length() -> None:
    rates = score([("a b c d", "a b c d"), ("a", "b")])
    assert rates.wer == pytest.approx(1 / 5)
    assert rates.cer == pytest.approx(1 / 8)
    assert score([]).wer == 0.0


def test_an_empty_reference_counts_errors() -> None:
    assert score([("", "a b")]).wer == 2.0


def test_bootstrap_holds_the_ratio_and_repeats_exactly() -> None:
    rng = np.random.default_rng(0)
    length = rng.integers(5, 20, size=200)
    errors = rng.binomial(length, 0.2)
    interval = bootstrap_ratio(errors, length)
    assert interval.value == errors.sum() / length.sum()
    assert interval.low < interval.value < interval.high
    assert interval.high - interval.low < 0.06
    assert interval == bootstrap_ratio(errors, length)
    assert interval != bootstrap_ratio(errors, length, seed=1)


def test_bootstrap_of_one_utterance_has_no_width() -> None:
    interval = bootstrap_ratio([1], [4])
    assert (interval.low, interval.value, interval.high) == (0.25, 0.25, 0.25)


@pytest.mark.parametrize(("top", "bottom"), [([], []), ([1], [1, 2])])
def test_bootstrap_refuses_empty_or_unequal_lists(top: list[int], bottom: list[int]) -> None:
    with pytest.raises(ValueError, match="equally long"):
        bootstrap_ratio(top, bottom)
