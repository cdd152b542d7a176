"""Spell English numbers as they are spoken: cardinals, ordinals, years and times of day."""

from __future__ import annotations

LARGEST = 999_999_999
"""The largest number that :func:`cardinal` spells."""

ONES = (
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
)
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_SCALES = ((1_000_000, "million"), (1_000, "thousand"), (100, "hundred"))
_ORDINALS = {
    "one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth", "nine": "ninth",
    "twelve": "twelfth",
}  # fmt: skip


def cardinal(number: int, *, with_and: bool = False) -> str:
    """Spell a cardinal: ``342`` is ``three hundred forty two``, or with ``with_and`` ``three hundred and forty two``.

    Raises:
        ValueError: ``number`` is negative or above :data:`LARGEST`.
    """
    if not 0 <= number <= LARGEST:
        raise ValueError(f"expected a number from 0 to {LARGEST}, got {number}")
    if number < len(ONES):
        return ONES[number]
    if number < 100:
        tens, ones = divmod(number, 10)
        return _TENS[tens - 2] + (f" {ONES[ones]}" if ones else "")
    scale, name = next((scale, name) for scale, name in _SCALES if number >= scale)
    count, rest = divmod(number, scale)
    spoken = f"{cardinal(count, with_and=with_and)} {name}"
    if not rest:
        return spoken
    joint = " and " if with_and and rest < 100 else " "
    return spoken + joint + cardinal(rest, with_and=with_and)


def ordinal(number: int) -> str:
    """Spell an ordinal: ``23`` is ``twenty third``."""
    *front, last = cardinal(number).split()
    regular = last[:-1] + "ieth" if last.endswith("y") else last + "th"
    return " ".join((*front, _ORDINALS.get(last, regular)))


def year(number: int) -> str:
    """Spell a year: ``1984`` is ``nineteen eighty four``, ``1905`` is ``nineteen oh five``, and ``2007`` is
    ``two thousand seven``.
    """
    century, rest = divmod(number, 100)
    if century % 10 == 0 and rest < 10:
        return cardinal(number)
    if rest == 0:
        return f"{cardinal(century)} hundred"
    return f"{cardinal(century)} {'oh ' if rest < 10 else ''}{cardinal(rest)}"


def clock(hour: int, minute: int) -> str:
    """Spell a time of day: ``(7, 5)`` is ``seven oh five``, ``(7, 0)`` is ``seven o'clock``."""
    if minute == 0:
        return f"{cardinal(hour)} o'clock"
    return f"{cardinal(hour)} {'oh ' if minute < 10 else ''}{cardinal(minute)}"
