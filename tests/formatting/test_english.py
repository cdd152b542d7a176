"""Test the written form of English: digits, capitals, and which words are stable."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamasr.errors import ConfigError
from streamasr.formatting import formatter_for

ENGLISH = formatter_for("en")
NUMBERS = (
    "zero one two three five ten eleven nineteen twenty thirty ninety hundred thousand million first second "
    "twentieth hundredth and point a o oh"
)
WORDS = st.lists(st.sampled_from([*NUMBERS.split(), "i", "i'm", "men", "of", "the", "o'clock"]), max_size=14)


def written(text: str, *, begins_sentence: bool = False) -> str:
    return " ".join(piece.text for piece in ENGLISH.write(text.split(), begins_sentence=begins_sentence))


@pytest.mark.parametrize(
    ("spoken", "expected"),
    [
        ("twenty five men", "25 men"),
        ("a hundred and five people", "105 people"),
        ("five thousand two hundred and six", "5206"),
        ("one hundred thousand", "100,000"),
        ("the twenty first of may", "the 21st of may"),
        ("three point one four", "3.14"),
        ("ninety nine point nine", "99.9"),
        ("nineteen eighty four", "1984"),
        ("in nineteen oh five", "in 1905"),
        ("nineteen o five", "1905"),
        ("twenty twenty four", "2024"),
        ("fifteen hundred men", "1500 men"),
        ("twenty one twenty two", "21 22"),
        ("nine one one", "9 1 1"),
    ],
)
def test_numbers_from_ten_on_are_digits(spoken: str, expected: str) -> None:
    assert written(spoken) == expected


@pytest.mark.parametrize(
    "spoken",
    [
        "one of them",
        "no one knows",
        "the second world war",
        "two and three",
        "a hundred",
        "a million times",
        "hundreds of thousands",
        "point five",
        "oh no",
        "a",
        "",
    ],
)
def test_small_numbers_and_vague_ones_stay_words(spoken: str) -> None:
    assert written(spoken) == spoken


def test_capitals_of_i_and_of_sentences() -> None:
    assert written("i think i'll go", begins_sentence=True) == "I think I'll go"
    assert written("and i'm in") == "and I'm in"
    assert written("it is", begins_sentence=True) == "It is"
    assert written("ten of us", begins_sentence=True) == "10 of us"


@given(WORDS, st.booleans())
def test_every_word_is_in_one_piece(words: list[str], begins: bool) -> None:
    pieces = ENGLISH.write(words, begins_sentence=begins)
    assert sum(piece.num_words for piece in pieces) == len(words)
    assert all(piece.text and piece.num_words > 0 for piece in pieces)


@given(WORDS, WORDS, st.booleans())
def test_later_words_do_not_change_the_written_form_of_stable_words(
    words: list[str], more: list[str], begins: bool
) -> None:
    stable = ENGLISH.stable_count(words)
    alone = ENGLISH.write(words[:stable], begins_sentence=begins)
    assert ENGLISH.write([*words, *more], begins_sentence=begins)[: len(alone)] == alone


def test_words_are_stable_once_another_word_than_a_number_follows() -> None:
    assert ENGLISH.stable_count(["there", "were", "twenty"]) == 2
    assert ENGLISH.stable_count(["there", "were", "twenty", "men"]) == 4


def test_languages_without_rules_are_refused() -> None:
    with pytest.raises(ConfigError, match="no rules for writing the language 'zh'; there are rules for en"):
        formatter_for("zh")
