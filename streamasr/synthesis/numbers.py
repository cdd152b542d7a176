"""Generate English sentences that are full of spoken numbers, which books rarely contain and captions often do.

Numbers are written as they are spoken: ``forty two``, not ``42``.
"""

from __future__ import annotations

import numpy as np

LARGEST = 999_999_999
"""The largest number that :func:`cardinal` spells."""

_ONES = (
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
_MONTHS = (
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
)
_THINGS = (
    "people",
    "houses",
    "tickets",
    "boxes",
    "letters",
    "miles",
    "kilometres",
    "days",
    "weeks",
    "minutes",
    "pages",
    "votes",
    "children",
    "bottles",
    "percent",
    "degrees",
    "grams",
    "litres",
)
_TEMPLATES = (
    "there were {count} {things} and only {small} of them were left",
    "we counted {count} {things} in {year}",
    "it costs {money} or {money} with delivery",
    "the meeting on {month} {ordinal} begins at {time}",
    "please call {digits} before {time}",
    "on the {ordinal} of {month} {year} the {ordinal} train left at {time}",
    "the temperature fell from {small} to {small} point {digit} degrees",
    "flight {digits} leaves from gate {small} at {time}",
    "the answer is {count} divided by {small}",
    "turn to page {hundreds} chapter {small}",
    "{small} plus {small} makes {small}",
    "the room is number {digits} on the {ordinal} floor",
)


def cardinal(number: int, *, with_and: bool = False) -> str:
    """Spell a cardinal: ``342`` is ``three hundred forty two``, or with ``with_and`` ``three hundred and forty two``.

    Raises:
        ValueError: ``number`` is negative or above :data:`LARGEST`.
    """
    if not 0 <= number <= LARGEST:
        raise ValueError(f"expected a number from 0 to {LARGEST}, got {number}")
    if number < len(_ONES):
        return _ONES[number]
    if number < 100:
        tens, ones = divmod(number, 10)
        return _TENS[tens - 2] + (f" {_ONES[ones]}" if ones else "")
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


def number_sentence(rng: np.random.Generator) -> str:
    """Generate a normalised sentence with numbers."""
    with_and = bool(rng.integers(2))
    sentence = str(rng.choice(_TEMPLATES))
    while (start := sentence.find("{")) >= 0:
        end = sentence.index("}")
        filled = _fill_slot(sentence[start + 1 : end], rng, with_and)
        sentence = sentence[:start] + filled + sentence[end + 1 :]
    return sentence


def _fill_slot(kind: str, rng: np.random.Generator, with_and: bool) -> str:
    match kind:
        case "count":
            return cardinal(int(10 ** rng.uniform(1, 6.5)), with_and=with_and)
        case "hundreds":
            return cardinal(int(rng.integers(100, 1000)), with_and=with_and)
        case "small":
            return cardinal(int(rng.integers(0, 100)))
        case "digit":
            return cardinal(int(rng.integers(0, 10)))
        case "digits":
            zero = "oh" if rng.integers(2) else "zero"
            digits = rng.integers(0, 10, size=rng.integers(3, 8))
            return " ".join(zero if digit == 0 else _ONES[digit] for digit in digits)
        case "year":
            return year(int(rng.integers(1700, 2030)))
        case "ordinal":
            return ordinal(int(rng.integers(1, 32)))
        case "month":
            return str(rng.choice(_MONTHS))
        case "things":
            return str(rng.choice(_THINGS))
        case "time":
            return clock(int(rng.integers(1, 13)), int(rng.integers(0, 60)))
        case "money":
            return f"{cardinal(int(rng.integers(2, 900)), with_and=with_and)} dollars {_cents(rng)}".strip()
        case other:
            raise AssertionError(f"unknown slot {other!r} in a template")


def _cents(rng: np.random.Generator) -> str:
    return f"and {cardinal(int(rng.integers(2, 100)))} cents" if rng.integers(2) else ""
