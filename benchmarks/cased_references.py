"""Restore the capitals and marks of bare transcripts of books from the printed text.

    python benchmarks/cased_references.py dev-librispeech/manifest.jsonl books > dev-librispeech-cased.jsonl

Each file or folder in ``books`` is one book: plain text or (X)HTML, for example from Standard Ebooks or Project
Gutenberg. Its name becomes the source of the transcripts found in it. A transcript is found if the book has the same
letters in the same order; hyphens, apostrophes and the spaces of compounds may differ. *Mr.* and other abbreviations
are read as the language's rules read them.

Prints one JSON object for each transcript found, with ``id``, ``text`` and ``source``. A line on standard error names
each of the others. *Chapter Seven*, which a book has in figures, is written like this, and a dash comes after a
heading, as the book has no mark there.
"""

from __future__ import annotations

import argparse
import difflib
import html
import itertools
import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from streamasr.manifest import read_manifest
from streamasr.punctuation.base import capital
from streamasr.punctuation.labels import Labeller

SUFFIXES = (".txt", ".htm", ".html", ".xhtml")
FEWEST_WORDS = 3
"""Words at the beginning and at the end that must be alike."""
LONGEST_DIFFERENCE = 30
"""Letters that may differ between them."""
LEAST_LIKENESS = 0.75
"""Of two spellings of a word, from 0 to 1."""
SMALL_WORDS = frozenset(("a", "an", "and", "in", "of", "on", "or", "the", "to"))
"""Words without a capital in a title."""
_ABBREVIATIONS = {"mr": "mister", "mrs": "missus", "dr": "doctor"}
_HIDDEN = re.compile(r"<(head|style|script)\b.*?</\1>", re.DOTALL)
_BLOCK_END = re.compile(r"</(?:p|h\d|div|header|section|li|td|blockquote)>|<br\s*/?>", re.IGNORECASE)
_TAG = re.compile(r"<[^>]*>")
_INVISIBLE = str.maketrans("", "", "\u2060\u200b\u00ad\ufeff_")
_UNITS = "one|two|three|four|five|six|seven|eight|nine"
_TENS = "twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety"
_CHAPTER = re.compile(
    rf"(chapter (?:[a-z]+teen|ten|eleven|twelve|(?:{_TENS}) (?:{_UNITS})|{_TENS}|{_UNITS})) "
)


class Book(NamedTuple):
    """A book, prepared for the search."""

    source: str
    text: str
    letters: str
    """Its letters in lower case, with abbreviations in full."""
    places: list[int]
    """The place in ``text`` of each of the letters."""


def read_book(path: Path) -> Book:
    """Read a book: a file, or the files of a folder."""
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.suffix in SUFFIXES)
    text = "\n\n".join(_plain(file) for file in files)
    letters: list[str] = []
    places: list[int] = []
    for match in re.finditer(r"[^\W\d_]+", text):
        word = match[0].lower()
        if text[match.end() : match.end() + 1] == "." and word in _ABBREVIATIONS:
            word = _ABBREVIATIONS[word]
        for at, letter in enumerate(word):
            letters.append(letter)
            places.append(match.start() + min(at, len(match[0]) - 1))
    return Book(path.stem if path.is_file() else path.name, text, "".join(letters), places)


def _plain(file: Path) -> str:
    """The text of a file without its markup; two line ends come after a paragraph and a heading."""
    data = file.read_bytes()
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    if file.suffix != ".txt":
        text = re.sub(r"\s+", " ", _HIDDEN.sub(" ", text))
        text = html.unescape(_TAG.sub("", _BLOCK_END.sub("\n\n", text)))
    return text.replace("\r\n", "\n").translate(_INVISIBLE)


def find(words: Sequence[str], book: Book) -> str | None:
    """Return the passage of a book that has these words, written as in the book; ``None`` if there is none."""
    spelt = [_letters(word) for word in words]
    start = book.letters.find("".join(spelt))
    if start < 0:
        return None
    ends = list(itertools.accumulate((len(word) for word in spelt), initial=start))
    parts: list[str] = []
    for word, (first, end) in zip(words, itertools.pairwise(ends), strict=True):
        places = book.places[first:end]
        between = book.text[places[-1] + 1 : book.places[end] if end < len(book.places) else None]
        parts += [_written(word, book.text, places), _marks(between, last=end == ends[-1])]
    return re.sub(r"\s+", " ", "".join(parts)).strip()


def find_similar(words: Sequence[str], book: Book) -> str | None:
    """Return the passage of a book that begins and ends with these words; what is between may be written otherwise.

    Numbers in digits and the spelling of one word (*colour*) may differ; such a word is spelt as in ``words``.
    """
    beginning = _longest(lambda count: book.letters.find(_letters("".join(words[:count]))), len(words))
    ending = _longest(lambda count: book.letters.find(_letters("".join(words[-count:]))), len(words))
    if beginning is None or ending is None:
        return None
    (count, start), (count_behind, end) = beginning, ending
    between = words[count : len(words) - count_behind]
    first = start + len(_letters("".join(words[:count])))
    if not between or not 0 <= end - first <= LONGEST_DIFFERENCE:
        return None
    before, behind = find(words[:count], book), find(words[len(words) - count_behind :], book)
    written = book.text[book.places[first] : book.places[end - 1] + 1] if end > first else ""
    gap = book.text[book.places[first - 1] + 1 : book.places[end]]
    if len(between) == 1 and len(written.split()) == 1:
        likeness = difflib.SequenceMatcher(None, between[0], written.lower()).ratio()
        if likeness < LEAST_LIKENESS:
            return None
        gap = gap.replace(written, capital(between[0]) if written[0].isupper() else between[0])
    return re.sub(r"\s+", " ", f"{before}{gap}{behind}")


def _longest(place: Callable[[int], int], limit: int) -> tuple[int, int] | None:
    """The largest number of words that ``place`` finds, and their place; at least ``FEWEST_WORDS``."""
    found = None
    for count in range(FEWEST_WORDS, limit):
        at = place(count)
        if at < 0:
            break
        found = count, at
    return found


def _letters(word: str) -> str:
    return "".join(letter for letter in word if letter.isalpha())


def _written(word: str, text: str, places: Sequence[int]) -> str:
    """A word with the capitals of the book; an abbreviation as in the book."""
    if len(set(places)) < len(places):
        return text[places[0] : places[-1] + 1]
    letters = iter(places)
    return "".join(text[next(letters)] if letter.isalpha() else letter for letter in word)


def _marks(between: str, *, last: bool) -> str:
    """What stands between two words. Behind the last one, as far as it belongs to it."""
    between = re.sub(r"(?<!\w)['’‘](?!\w)|['’‘](?=\s)|^['’‘]", "", between)
    if last:
        return re.split(r"\n\s*\n|\s|(?<=\W)[\"“‘(]|$", between, maxsplit=1)[0]
    if re.search(r"\n\s*\n", between) and not re.search(r"[.,;:?!—-]", between):
        return " — "
    return between or " "


def _as_title(found: str) -> str:
    """A passage with its heading in capitals written as a title."""
    heading, dash, text = found.partition(" — ")
    if not dash or heading != heading.upper():
        return found
    words = heading.lower().split()
    title = (word if at and word in SMALL_WORDS else capital(word) for at, word in enumerate(words))
    return f"{' '.join(title)}{dash}{text}"


def restore(text: str, books: Sequence[Book], labeller: Labeller) -> tuple[str, str] | None:
    """Return a transcript with capitals and marks, and its source; ``None`` if no book has it."""
    chapter = _CHAPTER.match(text)
    rest = text[chapter.end() :] if chapter else text
    for book in books:
        found = find(rest.split(), book) or find_similar(rest.split(), book)
        if found is None:
            continue
        found = _as_title(found)
        if chapter:
            found = " ".join(capital(word) for word in chapter[1].split()) + " — " + found
        words = [label.word for label in labeller.label(found)]
        if words == text.split():
            return found, book.source
        print(f"{book.source}: {found!r} is read as {' '.join(words)!r}", file=sys.stderr)
    return None


def main() -> None:
    """Print the transcripts found."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("manifest", type=Path)
    parser.add_argument("books", type=Path, help="folder with a file or folder for each book")
    args = parser.parse_args()
    books = [read_book(path) for path in sorted(args.books.iterdir())]
    labeller = Labeller("en")
    for utterance in read_manifest(args.manifest):
        restored = restore(utterance.text, books, labeller)
        name = utterance.audio.stem
        if restored is None:
            print(f"not found: {name} {utterance.text}", file=sys.stderr)
        else:
            text, source = restored
            print(json.dumps({"id": name, "text": text, "source": source}, ensure_ascii=False))


if __name__ == "__main__":
    main()
