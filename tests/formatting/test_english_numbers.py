"""Test the spelling of numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamasr.formatting.english_numbers import LARGEST, cardinal, clock, ordinal, year
from streamasr.text import normalise_english


@pytest.mark.parametrize(
    ("number", "spoken"),
    [
        (0, "zero"),
        (13, "thirteen"),
        (40, "forty"),
        (99, "ninety nine"),
        (100, "one hundred"),
        (342, "three hundred forty two"),
        (1_006, "one thousand six"),
        (20_500, "twenty thousand five hundred"),
        (3_000_017, "three million seventeen"),
    ],
)
def test_cardinals(number: int, spoken: str) -> None:
    assert cardinal(number) == spoken


def test_and_goes_before_the_last_two_digits() -> None:
    assert cardinal(342, with_and=True) == "three hundred and forty two"
    assert cardinal(1_006, with_and=True) == "one thousand and six"
    assert cardinal(1_600, with_and=True) == "one thousand six hundred"


@given(st.integers(0, LARGEST))
def test_no_two_neighbouring_numbers_have_the_same_words(number: int) -> None:
    spoken = cardinal(number)
    assert normalise_english(spoken) == spoken
    assert spoken != cardinal((number + 1) % LARGEST)


@pytest.mark.parametrize("number", [-1, LARGEST + 1])
def test_numbers_out_of_range_are_refused(number: int) -> None:
    with pytest.raises(ValueError, match="expected a number from 0 to"):
        cardinal(number)


@pytest.mark.parametrize(
    ("number", "spoken"),
    [(1, "first"), (12, "twelfth"), (20, "twentieth"), (23, "twenty third"), (14, "fourteenth")],
)
def test_ordinals(number: int, spoken: str) -> None:
    assert ordinal(number) == spoken


@pytest.mark.parametrize(
    ("number", "spoken"),
    [
        (1984, "nineteen eighty four"),
        (1905, "nineteen oh five"),
        (1900, "nineteen hundred"),
        (2000, "two thousand"),
        (2007, "two thousand seven"),
        (2026, "twenty twenty six"),
    ],
)
def test_years(number: int, spoken: str) -> None:
    assert year(number) == spoken


def test_times() -> None:
    assert clock(7, 0) == "seven o'clock"
    assert clock(7, 5) == "seven oh five"
    assert clock(12, 45) == "twelve forty five"
