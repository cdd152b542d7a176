"""Select the sentences to synthesise: sentences with rare words and numbers, no word too often."""

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
from streamasr.text import normalise_english, symbols_to_spell_out


@dataclass(frozen=True, kw_only=True)
class ScriptConfig:
    """How sentences are selected from English texts."""

    seed: int = 1
    """Seed of the selection."""
    numbers: float = 0.15
    """Share of generated sentences that are full of numbers, from 0 to 1."""
    shortest_words: int = 3
    """Fewest words in a sentence."""
    longest_words: int = 24
    """Most words in a sentence."""
    min_count: int = 3
    """A sentence is skipped if one of its words is rarer than this in the texts: such words are often misspelt."""
    repeats: int = 3
    """A sentence is taken only if at least one of its words has been taken fewer times than this."""
    rarity: float = 6.0
    """Preference for rare words: the weight of a sentence is the mean surprisal of its words to this power; 0 gives
    all sentences the same weight."""
    candidates: int = 50_000
    """Number of sentences to draw from the texts, by weight, as candidates."""

    def __post_init__(self) -> None:
        if not 0 <= self.numbers <= 1:
            raise ConfigError(f"numbers must be a share from 0 to 1, got {self.numbers}")
        if not 0 < self.shortest_words <= self.longest_words:
            raise ConfigError(
                "shortest_words must be positive and not above longest_words, "
                f"got {self.shortest_words} and {self.longest_words}"
            )
        if min(self.min_count, self.repeats, self.candidates) <= 0:
            raise ConfigError("min_count, repeats and candidates must be positive")


def script_lines(texts: Sequence[Path], config: ScriptConfig) -> Iterator[str]:
    """Yield lines to synthesise, as they are written in the texts, until no candidates are left.

    The texts are read twice and are not kept in memory. The same texts and configuration give the same lines in the
    same order.

    Args:
        texts: files with one sentence per line, plain or gzipped, or manifests.
        config: the settings.

    Raises:
        DataError: a text cannot be read, or no sentence in the texts is suitable.
    """
    lines = _limit_repeats(_weighted_sample(texts, config), config)
    rng = np.random.default_rng((config.seed, 1))
    first = next(lines, None)
    if first is None:
        raise DataError(f"{', '.join(map(str, texts))}: no sentence is suitable for synthesis")
    line: str | None = first
    while line is not None:
        if rng.random() < config.numbers:
            yield number_sentence(rng)
        else:
            yield line
            line = next(lines, None)


def _weighted_sample(texts: Sequence[Path], config: ScriptConfig) -> list[str]:
    """Draw sentences by weight, without replacement, in random order (Efraimidis and Spirakis 2006)."""
    counts: Counter[str] = Counter()
    for text in texts:
        for line in read_text(text):
            counts.update(normalise_english(line).split())
    total = counts.total()
    rng = np.random.default_rng((config.seed, 0))

    def keyed() -> Iterator[tuple[float, str]]:
        for text in texts:
            for line in read_text(text):
                words = normalise_english(line).split()
                wrong_length = not config.shortest_words <= len(words) <= config.longest_words
                if (
                    wrong_length
                    or symbols_to_spell_out(line)
                    or min(counts[word] for word in words) < config.min_count
                ):
                    continue
                surprisal = sum(math.log2(total / counts[word]) for word in set(words)) / len(set(words))
                yield math.log(rng.random()) / max(surprisal, 1.0) ** config.rarity, line.strip()

    return [line for _, line in heapq.nlargest(config.candidates, keyed())]


def _limit_repeats(lines: Sequence[str], config: ScriptConfig) -> Iterator[str]:
    """Yield the lines that have a word taken fewer than ``config.repeats`` times so far."""
    taken: Counter[str] = Counter()
    for line in lines:
        words = set(normalise_english(line).split())
        if min(taken[word] for word in words) < config.repeats:
            taken.update(words)
            yield line
