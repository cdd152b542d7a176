"""Convert English to written form: capitals for *I* and at the start of sentences, digits for numbers from ten on.

text2num finds the numbers in runs of words that may be parts of numbers, each run by itself. So the words before a
run never change its written form, and a run is stable as soon as any other word follows. No punctuation is added.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from text_to_num import find_numbers

from streamasr.formatting import WrittenWord
from streamasr.formatting.english_reading import read_english

_SCALES = "hundred thousand million billion trillion"
_NUMBERS = f"""
    zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
    eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety {_SCALES}
    first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth
    fifteenth sixteenth seventeenth eighteenth nineteenth twentieth thirtieth fortieth fiftieth sixtieth seventieth
    eightieth ninetieth hundredth thousandth millionth
"""
_BETWEEN = "and point a o oh"
"""Words that may be part of a number, but mostly are not."""
_RUN = frozenset((*_NUMBERS.split(), *_BETWEEN.split()))
_SCALE = frozenset(_SCALES.split())
_I = frozenset(("i", "i'm", "i've", "i'll", "i'd"))

SPELT_BELOW = 10
"""Smaller numbers stay words unless they are digits of a sequence."""
SEQUENCE = 3
"""This many single digits in a row are a sequence, as in a code or a telephone number."""
CENTURIES = range(15, 21)
"""One of these before a number from 10 to 99 makes a year: nineteen eighty four."""
_GROUPED_FROM = 10_000


@dataclass(frozen=True, slots=True)
class _Token:
    """A word in the form that text2num takes."""

    word: str

    def text(self) -> str:
        return self.word

    def nt_separated(self, _previous: _Token) -> bool:
        return False

    def not_a_number_part(self) -> bool:
        return False


@dataclass(frozen=True, slots=True)
class _Number:
    """Words ``[start, end)`` of a run and the digits that replace them."""

    start: int
    end: int
    text: str
    value: float
    vague: bool = False
    """Whether it is a scale alone, as in *a million* and *hundredth*, which often means many."""

    @property
    def digit(self) -> bool:
        """Whether it is one word for one digit."""
        return self.end - self.start == 1 and len(self.text) == 1

    @property
    def small(self) -> bool:
        return self.value < SPELT_BELOW and ("." not in self.text)


class EnglishFormatter:
    """See :class:`streamasr.formatting.Formatter`."""

    def write(self, words: Sequence[str], *, begins_sentence: bool) -> list[WrittenWord]:
        """Return ``words`` with digits and capitals."""
        pieces: list[WrittenWord] = []
        for numeric, group in groupby(words, key=_RUN.__contains__):
            run = list(group)
            pieces += _with_digits(run) if numeric else [WrittenWord(word, 1) for word in run]
        pieces = [WrittenWord(_capital(p.text), p.num_words) if p.text in _I else p for p in pieces]
        if begins_sentence and pieces:
            pieces[0] = WrittenWord(_capital(pieces[0].text), pieces[0].num_words)
        return pieces

    def read(self, text: str) -> str:
        """Return ``text`` as it is spoken; see :func:`streamasr.formatting.english_reading.read_english`."""
        return read_english(text)

    def stable_count(self, words: Sequence[str]) -> int:
        """Count all words but the run of number words at the end."""
        count = len(words)
        while count and words[count - 1] in _RUN:
            count -= 1
        return count


FORMATTER = EnglishFormatter()


def _capital(word: str) -> str:
    return word[:1].upper() + word[1:]


def _with_digits(run: list[str]) -> Iterator[WrittenWord]:
    at = 0
    for number in _in_digits(_years(_numbers(run), run)):
        yield from (WrittenWord(word, 1) for word in run[at : number.start])
        yield WrittenWord(_grouped(number), number.end - number.start)
        at = number.end
    yield from (WrittenWord(word, 1) for word in run[at:])


def _numbers(run: list[str]) -> list[_Number]:
    """Return the numbers that text2num finds; *a hundred and five* includes its article."""
    numbers = []
    for found in find_numbers([_Token(word) for word in run], "en", threshold=0):
        start, end = found.start, found.end
        bare = run[start].removesuffix("th") in _SCALE
        vague = bare and end - start == 1
        article = bare and start > 0 and run[start - 1] == "a"
        numbers.append(_Number(start - article, end, found.text, found.value, vague))
    return numbers


def _years(numbers: list[_Number], run: list[str]) -> list[_Number]:
    joined: list[_Number] = []
    for number in numbers:
        previous = joined[-1] if joined else None
        if previous is not None and previous.value in CENTURIES and previous.end - previous.start == 1:
            between = run[previous.end : number.start]
            full = not between and number.text.isdigit() and 10 <= number.value <= 99
            oh = between in (["oh"], ["o"]) and number.digit
            spoken_o = not between and run[previous.end] == "o" and len(number.text) == 2
            if full or oh or spoken_o:
                year = 100 * previous.value + number.value
                joined[-1] = _Number(previous.start, number.end, f"{year:.0f}", year)
                continue
        joined.append(number)
    return joined


def _in_digits(numbers: Iterable[_Number]) -> Iterator[_Number]:
    """Keep numbers from ten on and sequences of digits."""
    sequences: list[list[_Number]] = []
    for number in numbers:
        last = sequences[-1][-1] if sequences else None
        if last is not None and last.digit and number.digit and last.end == number.start:
            sequences[-1].append(number)
        else:
            sequences.append([number])
    for sequence in sequences:
        if len(sequence) >= SEQUENCE or not (sequence[0].small or sequence[0].vague):
            yield from sequence


def _grouped(number: _Number) -> str:
    if number.text.isdigit() and number.value >= _GROUPED_FROM and not number.text.startswith("0"):
        return f"{int(number.text):,}"
    return number.text
