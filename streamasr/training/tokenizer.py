"""From transcripts to token ids, as a recipe asks for it; and back. Knows no audio and no model.

The token list says what the encoder's outputs stand for; it alone goes into decoding. How a transcript is cut
into word pieces is SentencePiece's business, and matters in training only.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streamasr.decoding.tokens import BLANK, TokenList
from streamasr.errors import ConfigError, DataError
from streamasr.manifest import read_manifest
from streamasr.text import TextRules, symbols_to_spell_out, text_rules
from streamasr.training.config import TrainConfig
from streamasr.training.vocabulary import count_characters

TOKENS_FILE, TOKENIZER_FILE = "tokens.txt", "tokenizer.model"


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """How a model's transcripts become token ids."""

    tokens: TokenList
    rules: TextRules
    """The language's text."""
    pieces: Any = None
    """The SentencePiece processor, for word pieces."""
    model: Path | None = None
    """Its file."""

    @property
    def separator(self) -> int | None:
        """The id that belongs between two utterances of a row; ``None`` where words begin by themselves."""
        return self.tokens.separator if self.tokens.kind == "letters" else None

    def normalise(self, text: str) -> str:
        """A transcript as the model could write it."""
        return self.rules.normalise(text)

    def encode(self, text: str) -> list[int]:
        """Token ids of a transcript, which is normalised first.

        Raises:
            DataError: it holds what no token stands for, or figures that should be written as spoken.
        """
        symbols = symbols_to_spell_out(text)
        if symbols:
            raise DataError(f"{sorted(symbols)} in {text!r}: write numbers and symbols as they are spoken")
        normal = self.normalise(text)
        if self.pieces is not None:
            ids: list[int] = self.pieces.encode(normal)
            unknown = self.pieces.unk_id()
            if unknown not in ids:
                return ids
        known = set("".join(self.tokens.pieces))
        outside = sorted({character for character in normal if character not in known and character != " "})
        if outside or self.pieces is not None:
            raise DataError(f"characters outside the tokens: {outside} in {text!r}")
        return self.tokens.encode(normal)

    def why_unusable(self, text: str) -> str | None:
        """Why nothing can be learnt from a transcript, in words; ``None`` where something can."""
        try:
            return None if self.encode(text) else f"the transcript is empty ({text!r})"
        except DataError as error:
            return error.message

    def decode(self, ids: Iterable[int]) -> str:
        """The text that ``ids`` spell."""
        return self.tokens.decode(ids)

    def save(self, folder: Path) -> None:
        """Write ``tokens.txt``, and ``tokenizer.model`` for word pieces."""
        self.tokens.save(folder / TOKENS_FILE)
        if self.model is not None:
            shutil.copyfile(self.model, folder / TOKENIZER_FILE)


def build_tokenizer(recipe: TrainConfig) -> Tokenizer:
    """The tokenizer that a recipe asks for.

    Raises:
        ConfigError: the recipe's file is missing or of another kind; the message says what would be right.
        ModelError: the file is no token list.
        DataError: tokens are collected from a manifest that cannot be read.
    """
    config, rules = recipe.tokens, text_rules(recipe.language)
    if config.kind == "pieces":
        assert config.file is not None
        processor = load_sentencepiece(config.file)
        return Tokenizer(sentencepiece_tokens(processor), rules, processor, config.file)
    if config.kind == "collected":
        if not recipe.data.manifests:
            raise ConfigError(
                "tokens.kind: collected reads data.manifests; with shards, name the file that "
                "`streamasr tokens characters` makes"
            )
        texts = (utterance.text for path in recipe.data.manifests for utterance in read_manifest(path))
        characters = sorted(count_characters(texts, rules))
        return Tokenizer(TokenList.of_characters(characters, separator=config.separator), rules)
    if config.file is None:
        return Tokenizer(TokenList.of_characters(config.characters, separator=config.separator), rules)
    if not config.file.is_file():
        raise ConfigError(
            f"tokens.file: {config.file}: no such file; `streamasr tokens characters` collects one"
        )
    tokens = TokenList.load(config.file)
    if tokens.kind == "pieces":
        raise ConfigError(
            f"tokens.file: {config.file} lists word pieces; set tokens.kind and name their model"
        )
    return Tokenizer(tokens, rules)


def load_sentencepiece(path: Path) -> Any:
    """The SentencePiece processor of a ``tokenizer.model``.

    Raises:
        ConfigError: no such file, or not SentencePiece's.
    """
    import sentencepiece

    if not path.is_file():
        raise ConfigError(f"tokens.file: {path}: no such file; `streamasr tokens train` makes one")
    try:
        return sentencepiece.SentencePieceProcessor(model_file=str(path))
    except (RuntimeError, OSError) as error:
        raise ConfigError(f"tokens.file: {path}: not a SentencePiece model ({error})") from None


def sentencepiece_tokens(processor: Any) -> TokenList:
    """The token list of SentencePiece's pieces: their ids stay, the unknown piece's place is the blank's.

    Raises:
        ConfigError: the unknown piece is not piece 0, or there are control pieces: they have no sound.
    """
    names = [processor.id_to_piece(number) for number in range(processor.get_piece_size())]
    control = [name for number, name in enumerate(names) if processor.is_control(number)]
    if processor.unk_id() != 0 or control:
        raise ConfigError(
            f"the SentencePiece model needs <unk> as piece 0 and no control pieces, found {control}; "
            "`streamasr tokens train` makes such a one"
        )
    return TokenList((BLANK, *names[1:]))
