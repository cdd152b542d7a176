"""Turn transcripts into token ids as a recipe specifies, and token ids into text.

Decoding needs only the token list, which names the encoder's outputs. Dividing transcripts into word pieces is done
by SentencePiece and needed only in training.
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
    """Turns transcripts into token ids."""

    tokens: TokenList
    rules: TextRules
    """Text rules of the language."""
    pieces: Any = None
    """The SentencePiece processor; ``None`` for character tokens."""
    model: Path | None = None
    """The file of the SentencePiece processor."""

    @property
    def separator(self) -> int | None:
        """The id to put between two utterances of a row; ``None`` if the tokens themselves mark word starts."""
        return self.tokens.separator if self.tokens.kind == "letters" else None

    def normalise(self, text: str) -> str:
        """Normalise a transcript to text that the model can output."""
        return self.rules.normalise(text)

    def encode(self, text: str) -> list[int]:
        """Normalise a transcript and return its token ids.

        Raises:
            DataError: the transcript has digits or symbols that must be written as spoken, or characters outside the
                tokens.
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
        """Return why a transcript cannot be used for training; ``None`` if it can."""
        try:
            return None if self.encode(text) else f"the transcript is empty ({text!r})"
        except DataError as error:
            return error.message

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text that the token ids spell."""
        return self.tokens.decode(ids)

    def save(self, folder: Path) -> None:
        """Write ``tokens.txt``, and ``tokenizer.model`` for word pieces."""
        self.tokens.save(folder / TOKENS_FILE)
        if self.model is not None:
            shutil.copyfile(self.model, folder / TOKENIZER_FILE)


def build_tokenizer(recipe: TrainConfig) -> Tokenizer:
    """Build the tokenizer of a recipe.

    Raises:
        ConfigError: the recipe's token file is missing or of another kind; the message says what is expected.
        ModelError: the file is not a token list.
        DataError: a manifest from which characters are collected cannot be read.
    """
    config, rules = recipe.tokens, text_rules(recipe.language)
    if config.kind == "pieces":
        assert config.file is not None
        processor = load_sentencepiece(config.file)
        return Tokenizer(sentencepiece_tokens(processor), rules, processor, config.file)
    if config.kind == "collected":
        if not recipe.data.manifests:
            raise ConfigError(
                "tokens.kind: collected needs data.manifests; with shards, set tokens.file to the file that "
                "`streamasr tokens characters` makes"
            )
        texts = (utterance.text for path in recipe.data.manifests for utterance in read_manifest(path))
        characters = sorted(count_characters(texts, rules))
        return Tokenizer(TokenList.of_characters(characters, separator=config.separator), rules)
    if config.file is None:
        return Tokenizer(TokenList.of_characters(config.characters, separator=config.separator), rules)
    if not config.file.is_file():
        raise ConfigError(
            f"tokens.file: {config.file}: no such file; `streamasr tokens characters` makes one"
        )
    tokens = TokenList.load(config.file)
    if tokens.kind == "pieces":
        raise ConfigError(
            f"tokens.file: {config.file} lists word pieces; set tokens.kind to pieces and tokens.file to their model"
        )
    return Tokenizer(tokens, rules)


def load_sentencepiece(path: Path) -> Any:
    """Load the SentencePiece processor of a ``tokenizer.model``.

    Raises:
        ConfigError: the file is missing or is not a SentencePiece model.
    """
    import sentencepiece

    if not path.is_file():
        raise ConfigError(f"tokens.file: {path}: no such file; `streamasr tokens train` makes one")
    try:
        return sentencepiece.SentencePieceProcessor(model_file=str(path))
    except (RuntimeError, OSError) as error:
        raise ConfigError(f"tokens.file: {path}: not a SentencePiece model ({error})") from None


def sentencepiece_tokens(processor: Any) -> TokenList:
    """Return the token list of a SentencePiece model: the same ids, with the blank in place of the unknown piece.

    Raises:
        ConfigError: the unknown piece is not piece 0, or there are control pieces, which have no sound.
    """
    names = [processor.id_to_piece(number) for number in range(processor.get_piece_size())]
    control = [name for number, name in enumerate(names) if processor.is_control(number)]
    if processor.unk_id() != 0 or control:
        raise ConfigError(
            f"the SentencePiece model must have <unk> as piece 0 and no control pieces, got {control}; "
            "`streamasr tokens train` makes such models"
        )
    return TokenList((BLANK, *names[1:]))
