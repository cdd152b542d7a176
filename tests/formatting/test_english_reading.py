"""Test that written English is read as it is spoken, and numbers as the words that are written as these numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamasr.formatting import formatter_for
from streamasr.formatting.english_reading import read_english
from streamasr.text import normalise_english

ENGLISH = formatter_for("en")


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("O’Brien", "o'brien"),
        ("Jean-Luc", "jean luc"),
        ("café", "cafe"),
        ("Søren Kierkegaard", "soren kierkegaard"),
        ("Łódź", "lodz"),
        ("'tis", "'tis"),
    ],
)
def test_names_keep_their_letters(written: str, spoken: str) -> None:
    assert normalise_english(read_english(written)) == spoken


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("NASA", "NASA"),
        ("BBC News", "B B C News"),
        ("TV", "T V"),
        ("U.S.A.", "U.S.A."),
        ("PhD", "PhD"),
        ("B2B", "B two B"),
        ("MP3", "M P three"),
        ("H2O", "H two O"),
        ("R2-D2", "R two - D two"),
        ("COVID-19", "COVID- nineteen"),
        ("iPhone15", "iPhone fifteen"),
        ("5G", "five G"),
        ("i18n", "i eighteen n"),
        ("Big4", "Big four"),
        ("AT&T", "A T and T"),
        ("R&D", "R and D"),
    ],
)
def test_capitals_without_a_vowel_and_letters_beside_digits_are_spelled(written: str, spoken: str) -> None:
    assert read_english(written) == spoken


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("Dr. Smith", "doctor Smith"),
        ("DR. DRE", "doctor DRE"),
        ("Mr. & Mrs. Smith", "mister and missus Smith"),
        ("St John’s", "saint John’s"),
        ("12 Elm Dr.", "twelve Elm drive"),
        ("Main St", "Main street"),
        ("Col. Mustard", "colonel Mustard"),
        ("the col", "the col"),
        ("first dr", "first dr"),
        ("Strand", "Strand"),
    ],
)
def test_titles_are_words(written: str, spoken: str) -> None:
    assert read_english(written) == spoken


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("1984", "nineteen eighty four"),
        ("1905", "nineteen oh five"),
        ("1066", "one thousand sixty six"),
        ("1,984", "one thousand nine hundred eighty four"),
        ("90210", "nine zero two one zero"),
        ("100000", "one hundred thousand"),
        ("1,000,000", "one million"),
        ("99999999999", " ".join(["nine"] * 11)),
        ("007", "zero zero seven"),
        ("3.14", "three point one four"),
        ("1.2.3", "one point two point three"),
        ("1st", "first"),
        ("22ND", "twenty second"),
        ("90s", "nineties"),
        ("1960s", "nineteen sixties"),
        ("10:30", "ten thirty"),
        ("7:05", "seven oh five"),
        ("24/7", "twenty four / seven"),
        ("50%", "fifty percent"),
        ("$1", "one dollar"),
        ("£3 million", "three million pounds"),
        ("C++", "C plus plus"),
        ("C#", "C sharp"),
        ("joe@example.com", "joe at example dot com"),
        ("٣", "three"),
    ],
)
def test_digits_and_symbols_are_words(written: str, spoken: str) -> None:
    assert read_english(written) == spoken


@given(st.integers(10, 9_999))
def test_a_number_is_read_as_words_that_are_written_as_this_number(number: int) -> None:
    spoken = ENGLISH.read(str(number)).split()
    assert [piece.text for piece in ENGLISH.write(spoken, begins_sentence=False)] == [str(number)]


@given(st.text(max_size=64))
def test_any_text_can_be_read_and_no_digit_stays(written: str) -> None:
    assert not any(map(str.isdecimal, read_english(written)))
