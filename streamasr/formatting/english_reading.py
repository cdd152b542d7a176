"""Spell written English as it is spoken: digits, abbreviations, initials and symbols become words.

Where :mod:`streamasr.formatting.english` writes digits, this is the inverse: *1984* is read as the words that are
written as *1984*. Names keep their letters, case and apostrophes.
"""

from __future__ import annotations

import re
import unicodedata

from streamasr.formatting.english_numbers import LARGEST, ONES, cardinal, clock, ordinal, year

_TITLES = {
    "mr": "mister", "mrs": "missus", "dr": "doctor", "prof": "professor", "st": "saint", "jr": "junior",
    "sr": "senior",
}  # fmt: skip
"""Read as words with or without a full stop, if they begin with a capital."""
_DOTTED = {
    "capt": "captain", "col": "colonel", "gen": "general", "lt": "lieutenant", "sgt": "sergeant", "rev": "reverend",
    "gov": "governor", "sen": "senator", "mt": "mount", "ft": "fort", "vs": "versus",
}  # fmt: skip
"""Read as words only before a full stop."""
_STREETS = {"dr": "drive", "st": "street"}
"""What these mean at the end of a name of several words."""
_CURRENCIES = {
    "$": ("dollar", "dollars"),
    "€": ("euro", "euros"),
    "£": ("pound", "pounds"),
    "¥": ("yen", "yen"),
}
_SYMBOLS = {"&": "and", "%": "percent", "@": "at", "+": "plus", "=": "equals", "°": "degrees"}
_YEARS = range(1500, 2100)
"""Numbers of four digits without a comma that are read as years, as they are written."""
_CODE_DIGITS = 5
"""From this many digits without commas on, a number is read digit by digit, unless it is round."""

_ABBREVIATION = re.compile(r"(?<![^\W_])([A-Za-z]{2,4})(\.?)(?![^\W_])")
_AT_DIGITS = re.compile(r"(?<![^\W\d_])[A-Za-z]{1,3}(?=\d)|(?<=\d)[A-Za-z]{1,3}(?![^\W\d_])")
_AT_AMPERSAND = re.compile(r"(?<![^\W_])[A-Z]{1,3}(?=\s?&\s?[A-Z])|(?<=&)[A-Z]{1,3}(?![^\W_])")
_CAPITALS = re.compile(r"(?<![^\W_])[A-Z]+(?![^\W_])")
_VOWEL = re.compile(r"[AEIOUY]", re.IGNORECASE)
_DOT = re.compile(r"(?<=[a-z])\.(?=[a-z]{2})")
_DIGITS = r"\d{1,3}(?:,\d{3})+(?!\d)|\d+"
_MONEY = re.compile(rf"([$€£¥])\s?({_DIGITS})((?:\.\d+)?)(?:\s(hundred|thousand|million|billion)\b)?")
_TIME = re.compile(r"(?<![\d:.,])([01]?\d|2[0-3]):([0-5]\d)(?![\d:])")
_ORDINAL = re.compile(rf"(?<![\d.,])({_DIGITS})(?:st|nd|rd|th)(?![^\W_])", re.IGNORECASE)
_PLURAL = re.compile(rf"(?<![\d.,])({_DIGITS})['’]?s(?![^\W_])")
_NUMBER = re.compile(rf"(?<!\d)({_DIGITS})((?:\.\d+)*)")


def read_english(text: str) -> str:
    """Return ``text`` with words for everything that is spoken but not written with letters.

    - ``BBC`` is ``B B C``, but capitals with a vowel are one word: ``NASA``; ``B2B`` is ``B two B``;
    - ``Dr. Smith`` is ``doctor Smith``, and ``Elm St`` is ``Elm street``;
    - ``1984`` is ``nineteen eighty four``, ``90s`` is ``nineties``, ``3.14`` is ``three point one four``, ``22nd`` is
      ``twenty second``, ``10:30`` is ``ten thirty``, ``007`` is ``zero zero seven``;
    - ``$5`` is ``five dollars``, ``R&D`` is ``R and D``, ``C++`` is ``C plus plus``, ``x.com`` is ``x dot com``.

    Other punctuation stays, for the normaliser of the language to remove.
    """
    text = unicodedata.normalize("NFKC", text)
    text = _ABBREVIATION.sub(_abbreviation, text)
    text = _ORDINAL.sub(lambda found: f" {_ordinal(found[1])} ", text)
    text = _PLURAL.sub(lambda found: f" {_plural(_number(found[1], ''))} ", text)
    text = _AT_DIGITS.sub(_short_letters, text)
    text = _AT_AMPERSAND.sub(_letters, text)
    text = _CAPITALS.sub(_initials, text)
    text = _DOT.sub(" dot ", text)
    text = _MONEY.sub(_money, text)
    text = _TIME.sub(lambda found: f" {clock(int(found[1]), int(found[2]))} ", text)
    text = _NUMBER.sub(lambda found: f" {_number(found[1], found[2])} ", text)
    text = re.sub(r"(?<=[^\W\d_])#", " sharp ", text)
    text = "".join(f" {_SYMBOLS[c]} " if c in _SYMBOLS else c for c in text)
    return " ".join(text.split())


def _abbreviation(found: re.Match[str]) -> str:
    word, dot = found[1].lower(), found[2]
    is_last = not found.string[found.end() :].strip()
    if word in _STREETS and is_last and found.string[: found.start()].strip() and found[1][0].isupper():
        return _STREETS[word]
    if word in _TITLES and found[1][0].isupper():
        return f"{_TITLES[word]} "
    return f"{_DOTTED[word]} " if dot and word in _DOTTED else found[0]


def _letters(found: re.Match[str]) -> str:
    return f" {' '.join(found[0])} "


def _short_letters(found: re.Match[str]) -> str:
    """Read letters beside a digit one by one, unless they look like a word: ``MP3``, but ``Big4``."""
    return (
        _letters(found)
        if len(found[0]) == 1 or found[0].isupper() or not _VOWEL.search(found[0])
        else found[0]
    )


def _initials(found: re.Match[str]) -> str:
    return found[0] if _VOWEL.search(found[0]) else " ".join(found[0])


def _money(found: re.Match[str]) -> str:
    one, many = _CURRENCIES[found[1]]
    number, scale = _number(found[2], found[3]), found[4]
    unit = one if number == "one" and not scale else many
    return f" {number} {scale or ''} {unit} "


def _ordinal(digits: str) -> str:
    value = int(digits.replace(",", ""))
    return ordinal(value) if value <= LARGEST else _one_by_one(digits)


def _plural(spoken: str) -> str:
    if spoken.endswith("y"):
        return spoken.removesuffix("y") + "ies"
    return spoken + ("es" if spoken.endswith("x") else "s")


def _number(digits: str, decimals: str) -> str:
    """Read ``digits``, which may have commas, and ``decimals`` such as ``.5`` or ``.1.2``."""
    value = int(digits.replace(",", ""))
    is_code = "," not in digits and len(digits) >= _CODE_DIGITS and value % 1_000
    if value > LARGEST or is_code or (digits.startswith("0") and len(digits) > 1):
        whole = _one_by_one(digits)
    elif value in _YEARS and "," not in digits and not decimals:
        whole = year(value)
    else:
        whole = cardinal(value)
    return " point ".join((whole, *map(_one_by_one, decimals.split(".")[1:])))


def _one_by_one(digits: str) -> str:
    return " ".join(ONES[int(digit)] for digit in digits if digit != ",")
