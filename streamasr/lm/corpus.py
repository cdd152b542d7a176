"""Read text files into one long array of word ids.

A source is plain text with one sentence per line, the same compressed with gzip (``.gz``), or a manifest
(``.jsonl``), of which the ``text`` fields are read. Each line is normalised by :mod:`streamasr.text`. In languages
without spaces, such as Mandarin, each character is a word.
"""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from streamasr.errors import DataError
from streamasr.text import text_rules
from streamasr.textfile import ENCODING

UNKNOWN, BEGIN, END = "<unk>", "<s>", "</s>"
SPECIALS = (UNKNOWN, BEGIN, END)
"""The first three entries of each vocabulary, with the ids 0, 1 and 2."""
UNKNOWN_ID, BEGIN_ID, END_ID = range(3)

Ids = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class TextCorpus:
    """Sentences as word ids, each between ``BEGIN_ID`` and ``END_ID``, concatenated in ``ids``."""

    words: tuple[str, ...]
    """The vocabulary; the index of a word is its id."""
    ids: Ids
    source_ends: tuple[int, ...]
    """Position in ``ids`` at which each source of text ends and the next one starts."""

    def __post_init__(self) -> None:
        assert self.words[: len(SPECIALS)] == SPECIALS


def read_sentences(path: Path, language: str = "en") -> Iterator[str]:
    """Yield the normalised sentences of a source, in order, with one space between words; empty ones are left out.

    Raises:
        DataError: as for :func:`read_text`.
    """
    sentence_of = text_rules(language).sentence
    return (sentence for line in read_text(path) if (sentence := sentence_of(line)))


def read_text(path: Path) -> Iterator[str]:
    """Yield the lines of a source as they are written.

    Raises:
        DataError: the file does not exist, is not gzip or not UTF-8, or a line of a manifest is not a JSON object
            with ``text``.
    """
    try:
        yield from _read_lines(path)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: expected UTF-8 text: {error}") from None
    except (OSError, EOFError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from None


def _read_lines(path: Path) -> Iterator[str]:
    if path.suffix == ".gz":
        with gzip.open(path, "rt", encoding=ENCODING) as file:
            yield from file
    else:
        with path.open(encoding=ENCODING) as file:
            yield from _manifest_texts(path, file) if path.suffix == ".jsonl" else file


def _manifest_texts(path: Path, lines: Iterable[str]) -> Iterator[str]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            text = json.loads(line)["text"]
        except (ValueError, RecursionError, KeyError, TypeError):
            text = None
        if not isinstance(text, str):
            raise DataError(f"{path}:{number}: expected a JSON object with a string field 'text'")
        yield text


def choose_vocabulary(sentences: Iterable[str], *, max_words: int, min_count: int) -> tuple[str, ...]:
    """Return the ``max_words`` most frequent words that occur at least ``min_count`` times, in alphabetical order.

    The three special words come first. Ties are broken alphabetically, so the same text gives the same vocabulary.
    """
    counts: Counter[str] = Counter()
    for sentence in sentences:
        counts.update(sentence.split())
    frequent = sorted((-count, word) for word, count in counts.items() if count >= min_count)
    return SPECIALS + tuple(sorted(word for _, word in frequent[:max_words]))


def encode(sources: Iterable[Iterable[str]], words: Sequence[str]) -> TextCorpus:
    """Encode the sentences of each source with the vocabulary ``words``; other words become ``UNKNOWN_ID``.

    Raises:
        DataError: a source has no sentences.
    """
    id_of = {word: index for index, word in enumerate(words)}
    parts: list[Ids] = []
    ends: list[int] = []
    length = 0
    for number, sentences in enumerate(sources, start=1):
        before = length
        for sentence in sentences:
            word_ids = [id_of.get(word, UNKNOWN_ID) for word in sentence.split()]
            parts.append(np.array([BEGIN_ID, *word_ids, END_ID], dtype=np.int32))
            length += len(word_ids) + 2
        if length == before:
            raise DataError(
                f"text source {number} has no words after normalisation; expected one sentence per line"
            )
        ends.append(length)
    return TextCorpus(tuple(words), np.concatenate(parts), tuple(ends))
