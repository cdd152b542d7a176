"""Make tokens from text: count its characters, or train word pieces with SentencePiece."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from streamasr.errors import ConfigError, DataError
from streamasr.text import TextRules


@dataclass(frozen=True, kw_only=True)
class SentencePieceConfig:
    """Settings for training word pieces."""

    size: int = 512
    """Number of tokens, the blank included."""
    method: Literal["bpe", "unigram"] = "bpe"
    """Byte-pair encoding (Sennrich et al. 2016) or the unigram model (Kudo 2018)."""
    max_sentences: int = 1_000_000
    """Number of sentences to sample if there are more; SentencePiece holds them in memory."""

    def __post_init__(self) -> None:
        for name in ("size", "max_sentences"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name} must be positive, got {getattr(self, name)}")


MAX_SENTENCE_BYTES = 16_384
"""SentencePiece ignores longer sentences."""


def count_characters(texts: Iterable[str], rules: TextRules) -> Counter[str]:
    """Count the characters of the normalised texts, except spaces.

    Raises:
        DataError: the texts have no characters after normalisation.
    """
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(rules.normalise(text))
    counts.pop(" ", None)
    if not counts:
        raise DataError(f"the text has no characters of {rules.language!r} after normalisation")
    return counts


def train_sentencepiece(texts: Iterable[str], rules: TextRules, config: SentencePieceConfig) -> bytes:
    """Normalise ``texts``, train SentencePiece on them and return the bytes of its ``tokenizer.model``.

    The unknown piece is piece 0, which the CTC blank replaces. There are no control pieces, SentencePiece does not
    normalise, and each character of the text is a piece. The same text gives the same pieces.

    Raises:
        DataError: the texts have no words.
        ConfigError: SentencePiece cannot make this number of pieces; the message includes its reason.
    """
    import sentencepiece

    sentences = _require_any(filter(None, map(rules.normalise, texts)))
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=sentences,
            model_writer=model,
            vocab_size=config.size,
            model_type=config.method,
            input_sentence_size=config.max_sentences,
            max_sentence_length=MAX_SENTENCE_BYTES,
            character_coverage=1.0,
            normalization_rule_name="identity",
            unk_id=0,
            bos_id=-1,
            eos_id=-1,
            pad_id=-1,
            num_threads=1,
            minloglevel=2,
        )
    except RuntimeError as error:
        reason = str(error).rsplit("] ", 1)[-1].strip() or str(error)
        raise ConfigError(f"SentencePiece cannot make {config.size} pieces of this text: {reason}") from None
    return model.getvalue()


def _require_any(sentences: Iterable[str]) -> Iterator[str]:
    """Yield the sentences; raise :class:`DataError` if there are none."""
    empty = True
    for sentence in sentences:
        empty = False
        yield sentence
    if empty:
        raise DataError("the text has no words after normalisation; expected one sentence per line")
