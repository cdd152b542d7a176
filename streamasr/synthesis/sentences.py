"""Which sentences are worth saying: those with rare words and numbers, none said too often. Makes no sound."""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from streamasr.errors import ConfigError, DataError
from streamasr.lm.corpus import read_text
from streamasr.synthesis.numbers import number_sentence
from streamasr.text import normalise_english, unspeakable


@dataclass(frozen=True, kw_only=True)
class ScriptConfig:
    """What the voice reads. English."""

    seed: int = 1
    numbers: float = 0.15
    """Share of made-up sentences full of numbers."""
    shortest_words: int = 3
    longest_words: int = 24
    min_count: int = 3
    """Sentences with a word rarer than this in the texts are passed over: it is as often a misspelling."""
    repeats: int = 3
    """A sentence is taken only if one of its words has been taken fewer times than this."""
    rarity: float = 6.0
    """How strongly rare words are preferred: a sentence weighs its words' mean surprisal to this power; 0: not."""
    candidates: int = 50_000
    """Sentences of the texts, drawn by weight, that are looked at."""

    def __post_init__(self) -> None:
        if not 0 <= self.numbers <= 1:
            raise ConfigError(f"numbers is a share from 0 to 1, got {self.numbers}")
        if not 0 < self.shortest_words <= self.longest_words:
            raise ConfigError(
                f"sentences of {self.shortest_words} to {self.longest_words} words are asked for: "
                "the shortest must be positive and not above the longest"
            )
        if min(self.min_count, self.repeats, self.candidates) <= 0:
            raise ConfigError("min_count, repeats and candidates must be positive")


def script(texts: Sequence[Path], config: ScriptConfig) -> Iterator[str]:
    """Lines to read aloud, as written in the texts, until the candidates are used up.

    The texts (a sentence a line, plain or gzipped, or manifests) are read twice and not kept in memory. The same
    texts and configuration give the same lines in the same order.

    Raises:
        DataError: a text cannot be read, or holds no sentence that will do.
    """
    lines = _covering(_weighted(texts, config), config)
    draw = np.random.default_rng((config.seed, 1))
    first = next(lines, None)
    if first is None:
        raise DataError(f"{', '.join(map(str, texts))}: no sentence that a voice could read")
    line: str | None = first
    while line is not None:
        if draw.random() < config.numbers:
            yield number_sentence(draw)
        else:
            yield line
            line = next(lines, None)


def _weighted(texts: Sequence[Path], config: ScriptConfig) -> list[str]:
    """Weighted sampling without replacement, in the order drawn (Efraimidis and Spirakis 2006)."""
    counts: Counter[str] = Counter()
    for text in texts:
        for line in read_text(text):
            counts.update(normalise_english(line).split())
    total = counts.total()
    draw = np.random.default_rng((config.seed, 0))

    def keyed() -> Iterator[tuple[float, str]]:
        for text in texts:
            for line in read_text(text):
                words = normalise_english(line).split()
                short_or_long = not config.shortest_words <= len(words) <= config.longest_words
                if (
                    short_or_long
                    or unspeakable(line)
                    or min(counts[word] for word in words) < config.min_count
                ):
                    continue
                surprisal = sum(math.log2(total / counts[word]) for word in set(words)) / len(set(words))
                yield math.log(draw.random()) / max(surprisal, 1.0) ** config.rarity, line.strip()

    return [line for _, line in heapq.nlargest(config.candidates, keyed())]


def _covering(lines: Sequence[str], config: ScriptConfig) -> Iterator[str]:
    said: Counter[str] = Counter()
    for line in lines:
        words = set(normalise_english(line).split())
        if min(said[word] for word in words) < config.repeats:
            said.update(words)
            yield line
