"""Generate English sentences that are full of spoken numbers, which books rarely contain and captions often do.

Numbers are written as they are spoken: ``forty two``, not ``42``.
"""

from __future__ import annotations

import numpy as np

from streamasr.formatting.english_numbers import ONES, cardinal, clock, ordinal, year

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
            return " ".join(zero if digit == 0 else ONES[digit] for digit in digits)
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
