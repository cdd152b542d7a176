"""Tokens from text: the characters of a script, or word pieces that SentencePiece finds. Knows no audio."""

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
    """How to find word pieces."""

    size: int = 512
    """Tokens in all, the blank included."""
    method: Literal["bpe", "unigram"] = "bpe"
    """Byte-pair encoding (Sennrich et al. 2016) or the unigram model (Kudo 2018)."""
    max_sentences: int = 1_000_000
    """Of more text than this, so many sentences are drawn; SentencePiece holds them in memory."""

    def __post_init__(self) -> None:
        for name in ("size", "max_sentences"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name} must be positive, got {getattr(self, name)}")


MAX_SENTENCE_BYTES = 16_384
"""SentencePiece leaves out longer sentences."""


def count_characters(texts: Iterable[str], rules: TextRules) -> Counter[str]:
    """How often each character, spaces left out, stands in ``texts`` once they are normalised.

    Raises:
        DataError: there is none.
    """
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(rules.normalise(text))
    counts.pop(" ", None)
    if not counts:
        raise DataError(f"the text holds no character of {rules.language!r} after normalisation")
    return counts


def train_sentencepiece(texts: Iterable[str], rules: TextRules, config: SentencePieceConfig) -> bytes:
    """Train SentencePiece on ``texts``, normalised first; the bytes of its ``tokenizer.model``.

    The unknown piece is number 0, whose place the CTC blank takes; there are no control pieces, no second
    normaliser, and every character of the text is a piece. The same text gives the same pieces.

    Raises:
        DataError: the texts hold no word.
        ConfigError: SentencePiece cannot make so many, or so few, pieces of them; the message is its own.
    """
    import sentencepiece

    sentences = _counted(filter(None, map(rules.normalise, texts)))
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


def _counted(sentences: Iterable[str]) -> Iterator[str]:
    """``sentences``, refused where there is none."""
    number = 0
    for number, sentence in enumerate(sentences, start=1):  # noqa: B007 - counted
        yield sentence
    if not number:
        raise DataError("the text holds no word after normalisation; expected one sentence a line")
