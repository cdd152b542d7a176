"""Turn written text into bare words with the labels that a punctuation model learns.

``!`` counts as a full stop before a capital and as a comma before a lower-case word; ``;`` and ``:`` count as commas,
and as full stops at the end of a line.
A dash, ``...`` or a full stop before a lower-case word leaves the mark open: it is neither learnt nor scored. Quotes
and brackets are dropped.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import IntEnum
from typing import NamedTuple

from streamasr.errors import ConfigError
from streamasr.formatting import Formatter, formatter_for
from streamasr.punctuation.base import MARKS, capital
from streamasr.text import symbols_to_spell_out, text_rules

OPEN = -1
"""The label of a mark that is neither learnt nor scored."""
_NONE, _STOP, _COMMA, _QUESTION = range(len(MARKS))

_APOSTROPHES = str.maketrans("’‘", "''")
_QUOTES = re.compile(r"[\"“”„«»()\[\]{}¿¡]")
_SINGLE_QUOTE = re.compile(r"(?<!\w)'(?=[^\W\d_a-z])|(?<=[.,?!;:])'(?!\w)")
"""A quote inside a quote, as far as it is not an apostrophe: before a capital, or after a mark."""
_DASH = re.compile(r"\s+[-–—]+\s+|[–—]|--+")
_TRAILING = re.compile(r"[^\w]*$")
_INITIALS = re.compile(r"(?:[^\W\d_]\.)+[^\w]*$")


class Casing(IntEnum):
    """How the letters of a word are written."""

    LOWER = 0
    CAPITAL = 1
    UPPER = 2
    MIXED = 3
    """As in *McDonald*; a model has a list of these words."""


class LabelledWord(NamedTuple):
    """A bare word and what was written in its place."""

    word: str
    mark: int
    """Index into ``MARKS``, or ``OPEN``."""
    casing: Casing
    written: str
    """The word with its capitals."""
    begins_sentence: bool
    """Whether it is the first word, or follows a mark that ends a sentence."""


class Labeller:
    """Labels the lines of one language.

    Args:
        language: a BCP 47 tag. Digits are spelt out by the language's rules; without rules, lines with digits or
            symbols are left out.
    """

    def __init__(self, language: str) -> None:
        self._normalise: Callable[[str], str] = text_rules(language).normalise
        self._formatter: Formatter | None
        try:
            self._formatter = formatter_for(language)
        except ConfigError:
            self._formatter = None

    def label(self, line: str) -> list[LabelledWord]:
        """Return the words of a line; none if the line cannot be spelt out."""
        text = _DASH.sub(" - ", _SINGLE_QUOTE.sub("", _QUOTES.sub(" ", line.translate(_APOSTROPHES))))
        if self._formatter is not None:
            text = self._formatter.read(text)
        elif symbols_to_spell_out(text):
            return []
        pieces: list[tuple[str, str, str]] = []
        for chunk in text.split():
            words = self._normalise(chunk).split()
            trailing = _TRAILING.search(chunk)
            marks = trailing[0] if trailing else ""
            if not words:
                if pieces:
                    pieces[-1] = (*pieces[-1][:2], pieces[-1][2] + (marks or "-"))
                continue
            if _INITIALS.match(chunk):
                marks = marks.removeprefix(".") or "initials"
            written = _find_written(chunk, words)
            pieces += [(word, cased, "") for word, cased in zip(words, written, strict=True)]
            pieces[-1] = (*pieces[-1][:2], marks)
        return list(_labelled(pieces))


def _labelled(pieces: list[tuple[str, str, str]]) -> list[LabelledWord]:
    result = []
    begins = True
    for at, (word, written, marks) in enumerate(pieces):
        following = pieces[at + 1][1] if at + 1 < len(pieces) else None
        mark = _mark(marks, ends=following is None or not following[0].islower(), last=following is None)
        result.append(LabelledWord(word, mark, casing_of(written), written, begins))
        begins = MARKS[mark] in (".", "?") if mark != OPEN else False
    return result


def _mark(marks: str, *, ends: bool, last: bool) -> int:
    if marks == "initials":
        return _STOP if last else _NONE
    if "?" in marks:
        return _QUESTION
    if "!" in marks:
        return _STOP if ends else _COMMA
    if "-" in marks:
        return OPEN
    if "." in marks:
        return _STOP if ends else OPEN
    if any(mark in marks for mark in ",;:"):
        return _STOP if last else _COMMA
    return _NONE


def _find_written(chunk: str, words: list[str]) -> list[str]:
    """Return each word as it is written in ``chunk``; as it is, if it is not found there."""
    lower, at, written = chunk.lower(), 0, []
    for word in words:
        start = lower.find(word, at)
        if start < 0 or len(lower) != len(chunk):
            written.append(word)
        else:
            at = start + len(word)
            written.append(chunk[start:at])
    return written


def casing_of(written: str) -> Casing:
    """Return the casing of a written word. A single capital letter is ``CAPITAL``; *NASA's* is ``UPPER``."""
    if written == written.lower():
        return Casing.LOWER
    stem = written.removesuffix("'s")
    if len(stem) > 1 and stem == stem.upper():
        return Casing.UPPER
    letters = written.lstrip("'")
    if letters[0].isupper() and letters[1:] == letters[1:].lower():
        return Casing.CAPITAL
    return Casing.MIXED


def apply_casing(word: str, casing: Casing, mixed: dict[str, str]) -> str:
    """Write ``word`` with a casing; mixed words that are not in the list get a capital."""
    match casing:
        case Casing.LOWER:
            return word
        case Casing.UPPER:
            stem = word.removesuffix("'s")
            return stem.upper() + word[len(stem) :]
        case Casing.MIXED if word in mixed:
            return mixed[word]
    return capital(word)
