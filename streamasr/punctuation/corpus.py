"""Read written text, and arrange it as streams of words in which utterances end."""

from __future__ import annotations

import gzip
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from streamasr.errors import DataError
from streamasr.punctuation.base import END_MARKS, MARKS, Boundary
from streamasr.punctuation.features import MAX_NGRAMS, number_words, word_features
from streamasr.punctuation.labels import OPEN, Casing, LabelledWord, Labeller, casing_of
from streamasr.punctuation.sizes import PAUSE_STEPS_MS
from streamasr.textfile import ENCODING

HELD_OUT_SHARE = 50
"""One line in this many is held out for validation, chosen by a hash of the line."""
VOCABULARY_MIN_COUNT = 4
"""A word must occur this often to be in the vocabulary."""
MIXED_MIN_COUNT = 2
"""A mixed spelling must occur this often to be in the list."""


def read_lines(paths: Iterable[Path]) -> Iterator[str]:
    """Yield the lines of text files, plain or ``.gz``.

    Raises:
        DataError: a file cannot be read, or is not UTF-8.
    """
    for path in paths:
        try:
            with (
                gzip.open(path, "rt", encoding=ENCODING)
                if path.suffix == ".gz"
                else path.open(encoding=ENCODING) as file
            ):
                yield from (line.strip() for line in file)
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: not UTF-8 text: {error.reason} at byte {error.start}") from None
        except (OSError, EOFError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else error
            raise DataError(f"{path}: cannot be read: {reason}") from None


@dataclass
class Corpus:
    """Labelled lines as arrays. Words are numbers into ``words``."""

    words: list[str] = field(default_factory=list)
    lines: list[tuple[NDArray[np.int32], NDArray[np.int8], NDArray[np.int8]]] = field(default_factory=list)
    """For each line the words, marks and casings; casings are ``OPEN`` where the mark before decides."""

    @property
    def num_words(self) -> int:
        """Number of words in all lines."""
        return sum(len(line[0]) for line in self.lines)


def build_corpora(lines: Iterable[str], language: str) -> tuple[Corpus, Corpus, dict[str, str]]:
    """Return the lines to train on, those held out, with the same ``words``, and the list of mixed words.

    Raises:
        DataError: the text has no capitals or no marks, or too few lines.
    """
    labeller = Labeller(language)
    numbers: dict[str, int] = {}
    train, held_out = Corpus(), Corpus()
    spellings: Counter[tuple[str, str]] = Counter()
    for line in lines:
        labelled = labeller.label(line)
        if not labelled:
            continue
        corpus = held_out if zlib.crc32(line.encode()) % HELD_OUT_SHARE == 0 else train
        if corpus is train:
            spellings.update((word.word, word.written) for word in labelled if not word.begins_sentence)
        corpus.lines.append(
            (
                np.array([numbers.setdefault(word.word, len(numbers)) for word in labelled], dtype=np.int32),
                np.array([word.mark for word in labelled], dtype=np.int8),
                np.array([_casing_label(word) for word in labelled], dtype=np.int8),
            )
        )
    train.words = held_out.words = list(numbers)
    if not train.lines or not held_out.lines:
        raise DataError(f"the text has too few lines: expected several hundred, got {len(train.lines)}")
    seen = {int(mark) for line in train.lines for mark in line[1]}
    if missing := [MARKS[mark] for mark in range(1, len(MARKS)) if mark not in seen]:
        raise DataError(f"the text has no {' and no '.join(missing)}; use text with its capitals and marks")
    return train, held_out, _mixed_words(spellings)


def _casing_label(word: LabelledWord) -> int:
    if word.begins_sentence and word.casing in (Casing.LOWER, Casing.CAPITAL):
        return OPEN
    return word.casing


def _mixed_words(spellings: Counter[tuple[str, str]]) -> dict[str, str]:
    total: Counter[str] = Counter()
    for (word, _), count in spellings.items():
        total[word] += count
    return {
        word: written
        for (word, written), count in sorted(spellings.items())
        if count >= MIXED_MIN_COUNT and 2 * count > total[word] and casing_of(written) == Casing.MIXED
    }


def build_vocabulary(corpus: Corpus, word_rows: int) -> list[str]:
    """Return the most frequent words, the first one most often, as many as ``word_rows`` hold."""
    counts = np.bincount(np.concatenate([line[0] for line in corpus.lines]), minlength=len(corpus.words))
    order = np.argsort(-counts, kind="stable")[: word_rows - 1]
    return [corpus.words[at] for at in order if counts[at] >= VOCABULARY_MIN_COUNT]


def feature_table(
    words: Sequence[str], vocabulary: Sequence[str], word_rows: int, ngram_rows: int
) -> NDArray[np.int32]:
    """Return the features [V, F] of all words, of -1 where a word has fewer; END and CUT are the last two rows."""
    numbers = number_words(vocabulary)
    table = np.full((len(words) + len(Boundary), 1 + MAX_NGRAMS), -1, dtype=np.int32)
    for at, word in enumerate(words):
        rows = word_features(word, numbers, word_rows, ngram_rows)
        table[at, : len(rows)] = rows
    for at in range(len(Boundary)):
        table[len(words) + at, 0] = word_rows + ngram_rows + at
    return table


@dataclass(frozen=True)
class TokenStream:
    """One stream of N tokens: words and boundary tokens."""

    ids: NDArray[np.int32]
    marks: NDArray[np.int8]
    """Labels; ``OPEN`` at boundary tokens."""
    casings: NDArray[np.int8]
    pauses: NDArray[np.int8]
    """Steps of the pause before each word, from 1; 0 where it is not known."""


LINE_ENDS, SENTENCE_ENDS, COMMA_ENDS, WORD_ENDS, WORD_CUTS = 0.6, 0.25, 0.02, 0.003, 0.02
"""How often an utterance ends after a line, a sentence, a comma, any word; and how often it is cut after a word."""
NO_PAUSES = 0.5
"""Share of the blocks of words whose pauses are not known."""
_PAUSE_BLOCK = 256
_PAUSES = {"": (0.90, 0.06, 0.03, 0.01), ",": (0.45, 0.25, 0.2, 0.1), ".": (0.15, 0.2, 0.3, 0.35)}
"""Probabilities of the pause steps after a word, by its mark; the end of an utterance is a long pause."""


def token_stream(corpus: Corpus, look_ahead: int, rng: np.random.Generator) -> TokenStream:
    """Join the lines in random order, and end utterances at random places with ``look_ahead`` boundary tokens.

    A recogniser's utterances do not end where sentences do; streams made so teach the network both.
    """
    order = rng.permutation(len(corpus.lines))
    ids = np.concatenate([corpus.lines[at][0] for at in order])
    marks = np.concatenate([corpus.lines[at][1] for at in order])
    casings = np.concatenate([corpus.lines[at][2] for at in order])
    line_end = np.zeros(len(ids), dtype=bool)
    line_end[np.cumsum([len(corpus.lines[at][0]) for at in order]) - 1] = True
    stops = np.isin(marks, [MARKS.index(mark) for mark in END_MARKS])
    commas = marks == MARKS.index(",")
    draw = rng.random(len(ids))
    threshold = np.full(len(ids), WORD_ENDS)
    threshold[commas], threshold[stops], threshold[line_end] = COMMA_ENDS, SENTENCE_ENDS, LINE_ENDS
    ends = draw < threshold
    cuts = ~ends & (rng.random(len(ids)) < WORD_CUTS)
    marks = np.where(ends & ~stops, OPEN, marks).astype(np.int8)

    pauses = _draw_pauses(ends, stops, commas, rng)
    repeats = 1 + look_ahead * (ends | cuts)
    at_word = np.cumsum(repeats) - repeats
    total = int(repeats.sum())
    all_ids = np.empty(total, dtype=np.int32)
    all_ids[:] = np.repeat(np.where(ends, len(corpus.words), len(corpus.words) + 1), repeats)
    all_ids[at_word] = ids
    result = []
    for values, filler in ((marks, OPEN), (casings, OPEN), (pauses, 0)):
        spread = np.full(total, filler, dtype=np.int8)
        spread[at_word] = values
        result.append(spread)
    return TokenStream(all_ids, *result)


def _draw_pauses(
    ends: NDArray[np.bool_], stops: NDArray[np.bool_], commas: NDArray[np.bool_], rng: np.random.Generator
) -> NDArray[np.int8]:
    """Return the step of the pause before each word, drawn by what is before it."""
    draw = rng.random(len(ends))
    steps = np.ones(len(ends), dtype=np.int8)
    for where, mark in ((~stops & ~commas, ""), (commas, ","), (stops, ".")):
        edges = np.cumsum(_PAUSES[mark])[:-1]
        steps[where] += np.searchsorted(edges, draw[where]).astype(np.int8)
    steps[ends] = len(PAUSE_STEPS_MS)
    before = np.roll(steps, 1)
    blocks = -(-len(ends) // _PAUSE_BLOCK)
    known = np.repeat(rng.random(blocks) >= NO_PAUSES, _PAUSE_BLOCK)[: len(ends)]
    return np.where(known, before, 0).astype(np.int8)
