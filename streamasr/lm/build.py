"""Build ``lm.bin`` and ``unigrams.txt`` from text, and measure the perplexity of a model."""

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
from streamasr.lm.prune import entropy_scores, prune, select_ngrams, threshold_for_size

MODEL_FILE, UNIGRAMS_FILE = "lm.bin", "unigrams.txt"
BYTES_PER_MB = 1_000_000

Report = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class LmConfig:
    """Settings for building a language model."""

    language: str = "en"
    """Language of the text, which determines its normalisation and its words (in Mandarin, characters)."""
    order: int = 3
    """Number of words in the longest n-grams."""
    max_words: int = 100_000
    """Size of the vocabulary; the most frequent words are taken."""
    min_count: int = 1
    """Words that occur less often are left out of the vocabulary."""
    max_mb: float = 25.0
    """Largest size of ``lm.bin`` in megabytes (10⁶ bytes), which entropy pruning achieves."""
    prune_threshold: float | None = None
    """A relative-entropy threshold (nats per word) to prune with; ``None`` takes the one that gives ``max_mb``."""
    weights: tuple[float, ...] | None = None
    """Weight of each source of text, in any unit; ``None`` counts all sources as one text."""

    def __post_init__(self) -> None:
        if not MIN_ORDER <= self.order <= MAX_ORDER:
            raise ConfigError(f"order must be {MIN_ORDER} to {MAX_ORDER}, got {self.order}")
        for name in ("max_words", "min_count", "max_mb"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name} must be positive, got {getattr(self, name)}")
        if self.prune_threshold is not None and self.prune_threshold < 0:
            raise ConfigError(f"prune_threshold must not be negative, got {self.prune_threshold}")
        if self.weights is not None and not (self.weights and min(self.weights) > 0):
            raise ConfigError("weights must be positive, with one weight for each source of text")


@dataclass(frozen=True, slots=True)
class Perplexity:
    """The perplexity of a text. Out-of-vocabulary words are counted but not scored."""

    perplexity: float
    """Perplexity per scored word and end of sentence; infinite for a text without words in the vocabulary."""
    words: int
    """Number of words of the text."""
    oov_words: int
    """Number of out-of-vocabulary words."""

    @property
    def oov_rate(self) -> float:
        """Share of out-of-vocabulary words."""
        return self.oov_words / self.words if self.words else 0.0


def build_lm(
    sources: Sequence[Sequence[Path]],
    out: Path,
    config: LmConfig,
    *,
    arpa: Path | None = None,
    report: Report = print,
) -> Path:
    """Build ``out/lm.bin`` and ``out/unigrams.txt`` (one word per line) from text.

    Args:
        sources: the files of each source of text, in the formats that :mod:`~streamasr.lm.corpus` reads.
        out: the folder to write to; it is created if it does not exist.
        config: the settings.
        arpa: a file to which the pruned model is also written as ARPA text.
        report: called with one line of text about the result of each stage.

    Returns:
        The path of ``lm.bin``.

    Raises:
        DataError: a source cannot be read or has no words, or the vocabulary alone exceeds ``max_mb``.
        ConfigError: the number of weights differs from the number of sources.
    """
    weights = config.weights
    if weights is None:
        sources, weights = [[path for paths in sources for path in paths]], (1.0,)
    if len(weights) != len(sources):
        raise ConfigError(f"expected a weight for each of {len(sources)} sources of text, got {len(weights)}")
    language = config.language
    sentences = (sentence for paths in sources for sentence in _sentences(paths, language))
    words = choose_vocabulary(sentences, max_words=config.max_words, min_count=config.min_count)
    corpus = encode((_sentences(paths, language) for paths in sources), words)
    report(f"text: {len(corpus.ids)} tokens, vocabulary: {len(words) - len(SPECIALS)} words")
    tables = count_ngrams(corpus, config.order)
    report(f"n-grams seen: {_counts_text([len(table) for table in tables])}")
    model = estimate(words, tables, [weight / sum(weights) for weight in weights])
    scores = entropy_scores(model)
    word_bytes = sum(len(word.encode()) for word in words)

    def file_size(counts: Sequence[int]) -> int:
        return binary_size(counts, word_bytes)

    threshold = config.prune_threshold
    if threshold is None:
        threshold = threshold_for_size(model, scores, file_size, int(config.max_mb * BYTES_PER_MB))
    model = prune(model, select_ngrams(model, scores, threshold))
    report(f"n-grams kept: {_counts_text(model.counts)} at threshold {threshold:.3g}")
    out.mkdir(parents=True, exist_ok=True)
    write_kenlm_binary(model, out / MODEL_FILE)
    (out / UNIGRAMS_FILE).write_text(
        "".join(f"{word}\n" for word in words[len(SPECIALS) :]), encoding="utf-8"
    )
    if arpa is not None:
        write_arpa(model, arpa)
    report(f"{out / MODEL_FILE}: {file_size(model.counts) / BYTES_PER_MB:.1f} MB")
    return out / MODEL_FILE


def perplexity(model: Path, sentences: Iterable[str]) -> Perplexity:
    """Measure the perplexity of a KenLM model.

    Args:
        model: a file, binary or ARPA.
        sentences: normalised sentences.

    Raises:
        DataError: the file is missing or is not a KenLM model.
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
