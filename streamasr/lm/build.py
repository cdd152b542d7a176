"""Text in, ``lm.bin`` and ``unigrams.txt`` out; and how well a model predicts a text."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import kenlm

from streamasr.errors import ConfigError, DataError
from streamasr.lm.arpa import write_arpa
from streamasr.lm.corpus import SPECIALS, choose_vocabulary, encode, read_sentences
from streamasr.lm.kenlm_binary import MAX_ORDER, MIN_ORDER, binary_size, write_kenlm_binary
from streamasr.lm.kneser_ney import estimate
from streamasr.lm.ngrams import count_ngrams
from streamasr.lm.prune import choose, entropy_scores, prune, threshold_for_size

MODEL_FILE, UNIGRAMS_FILE = "lm.bin", "unigrams.txt"
BYTES_PER_MB = 1_000_000

Report = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class LmConfig:
    """How to build a language model."""

    language: str = "en"
    """What the text is normalised as, and what a word is: in Mandarin a character."""
    order: int = 3
    """Words in the longest n-gram."""
    max_words: int = 100_000
    """Size of the vocabulary, the most frequent words first."""
    min_count: int = 1
    """A word seen less often is not in the vocabulary."""
    max_mb: float = 25.0
    """Megabytes (10⁶ bytes) that ``lm.bin`` may take; entropy pruning makes it fit."""
    prune_threshold: float | None = None
    """Fixed relative-entropy threshold (nats a word) in place of the one that ``max_mb`` asks for."""
    weights: tuple[float, ...] | None = None
    """What each source of text weighs, in any unit; ``None`` pools them all, each word weighing the same."""

    def __post_init__(self) -> None:
        if not MIN_ORDER <= self.order <= MAX_ORDER:
            raise ConfigError(f"order must be {MIN_ORDER} to {MAX_ORDER}, got {self.order}")
        for name in ("max_words", "min_count", "max_mb"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name} must be positive, got {getattr(self, name)}")
        if self.prune_threshold is not None and self.prune_threshold < 0:
            raise ConfigError(f"prune_threshold must not be negative, got {self.prune_threshold}")
        if self.weights is not None and not (self.weights and min(self.weights) > 0):
            raise ConfigError("weights must be positive, one for each source of text")


@dataclass(frozen=True, slots=True)
class Perplexity:
    """How well a model predicts a text. Out-of-vocabulary words are counted apart, not scored."""

    perplexity: float
    """Per scored word and end of sentence; infinite for a text without a known word."""
    words: int
    oov_words: int

    @property
    def oov_rate(self) -> float:
        return self.oov_words / self.words if self.words else 0.0


def build_lm(
    sources: Sequence[Sequence[Path]],
    out: Path,
    config: LmConfig,
    *,
    arpa: Path | None = None,
    report: Report = print,
) -> Path:
    """Build ``out/lm.bin`` and ``out/unigrams.txt`` (one word a line) from the text of ``sources``.

    Args:
        sources: the files of each source of text, of the kinds that
            :mod:`~streamasr.lm.corpus` reads.
        out: a folder, made where it is missing.
        arpa: also write the pruned model as ARPA text to this file.
        report: is told in one line what each stage gave.

    Returns:
        The path of the binary.

    Raises:
        DataError: a source cannot be read or holds no words, or its vocabulary alone exceeds ``max_mb``.
        ConfigError: there are not as many weights as sources.
    """
    weights = config.weights
    if weights is None:
        sources, weights = [[path for paths in sources for path in paths]], (1.0,)
    if len(weights) != len(sources):
        raise ConfigError(f"expected a weight for each of {len(sources)} sources of text, got {len(weights)}")
    language = config.language
    everything = (sentence for paths in sources for sentence in _sentences(paths, language))
    words = choose_vocabulary(everything, max_words=config.max_words, min_count=config.min_count)
    corpus = encode((_sentences(paths, language) for paths in sources), words)
    report(f"text: {len(corpus.ids)} tokens, vocabulary: {len(words) - len(SPECIALS)} words")
    tables = count_ngrams(corpus, config.order)
    report(f"n-grams seen: {_counts_text([len(table) for table in tables])}")
    model = estimate(words, tables, [weight / sum(weights) for weight in weights])
    scores = entropy_scores(model)
    word_bytes = sum(len(word.encode()) for word in words)

    def size_of(counts: Sequence[int]) -> int:
        return binary_size(counts, word_bytes)

    threshold = config.prune_threshold
    if threshold is None:
        threshold = threshold_for_size(model, scores, size_of, int(config.max_mb * BYTES_PER_MB))
    model = prune(model, choose(model, scores, threshold))
    report(f"n-grams kept: {_counts_text(model.counts)} at threshold {threshold:.3g}")
    out.mkdir(parents=True, exist_ok=True)
    write_kenlm_binary(model, out / MODEL_FILE)
    (out / UNIGRAMS_FILE).write_text(
        "".join(f"{word}\n" for word in words[len(SPECIALS) :]), encoding="utf-8"
    )
    if arpa is not None:
        write_arpa(model, arpa)
    report(f"{out / MODEL_FILE}: {size_of(model.counts) / BYTES_PER_MB:.1f} MB")
    return out / MODEL_FILE


def perplexity(model: Path, sentences: Iterable[str]) -> Perplexity:
    """Measure the KenLM model (binary or ARPA) in the file ``model`` on normalised ``sentences``.

    Raises:
        DataError: the file is missing or is no KenLM model.
    """
    try:
        lm = kenlm.Model(str(model))
    except OSError as error:
        raise DataError(f"{model}: not a KenLM model: {error}") from None
    log10, scored, words, oov_words = 0.0, 0, 0, 0
    for sentence in sentences:
        words += len(sentence.split())
        for value, _, unknown in lm.full_scores(sentence):
            oov_words += unknown
            if not unknown:
                log10 += value
                scored += 1
    return Perplexity(10 ** (-log10 / scored) if scored > 0 else math.inf, words, oov_words)


def _sentences(paths: Iterable[Path], language: str) -> Iterator[str]:
    for path in paths:
        yield from read_sentences(path, language)


def _counts_text(counts: Iterable[int]) -> str:
    return ", ".join(f"{count} {k}-grams" for k, count in enumerate(counts, start=1))
