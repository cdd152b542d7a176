"""The token list: what each column of the log-probs stands for.

Knows the file format and how letters become words; knows no probabilities. Tokens are single characters, one
of them the blank and one the separator between words. Everything that asks what a token does to a word goes
through :class:`TokenList`, so that word pieces can join it there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from streamasr.errors import ConfigError, ModelError

BLANK = "<blank>"
"""How ``tokens.txt`` writes the CTC blank."""
SEPARATOR = "<space>"
"""How ``tokens.txt`` writes the separator between words."""


@dataclass(frozen=True)
class TokenList:
    """The tokens of a model; a token's place is its id.

    Attributes:
        tokens: every token as ``tokens.txt`` writes it.
        pieces: what each token adds to a text: nothing for the blank, one space for the separator.
        blank: id of the blank.
        separator: id of the separator.

    Raises:
        ModelError: no blank, no separator, a repeated token, or one that is not a single visible character.
    """

    tokens: tuple[str, ...]
    pieces: tuple[str, ...] = field(init=False, repr=False, compare=False)
    blank: int = field(init=False, repr=False, compare=False)
    separator: int = field(init=False, repr=False, compare=False)
    _ids: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for special in (BLANK, SEPARATOR):
            if self.tokens.count(special) != 1:
                raise ModelError(
                    f"the token list needs {special} exactly once, found {self.tokens.count(special)}"
                )
        for number, token in enumerate(self.tokens):
            if token not in (BLANK, SEPARATOR) and (len(token) != 1 or token.isspace()):
                raise ModelError(
                    f"token {number} is {token!r}; expected {BLANK}, {SEPARATOR} or one character"
                )
        pieces = tuple({BLANK: "", SEPARATOR: " "}.get(token, token) for token in self.tokens)
        ids = {piece: number for number, piece in enumerate(pieces) if piece}
        if len(ids) != len(pieces) - 1:
            repeated = sorted({piece for piece in pieces if pieces.count(piece) > 1})
            raise ModelError(f"the token list repeats {', '.join(map(repr, repeated))}")
        object.__setattr__(self, "pieces", pieces)
        object.__setattr__(self, "blank", self.tokens.index(BLANK))
        object.__setattr__(self, "separator", self.tokens.index(SEPARATOR))
        object.__setattr__(self, "_ids", ids)

    def __len__(self) -> int:
        return len(self.tokens)

    @classmethod
    def of_characters(cls, characters: Iterable[str]) -> TokenList:
        """Blank, separator, then ``characters`` in their order."""
        return cls((BLANK, SEPARATOR, *characters))

    @classmethod
    def load(cls, path: Path) -> TokenList:
        """Read ``tokens.txt``: UTF-8, one token a line, the line's number from 0 its id.

        Raises:
            ModelError: the file is missing or not a token list; the message names the file.
        """
        try:
            return cls(tuple(path.read_text(encoding="utf-8").splitlines()))
        except FileNotFoundError:
            raise ModelError(f"{path}: no such file; a model folder needs its token list") from None
        except UnicodeDecodeError as error:
            raise ModelError(f"{path}: not UTF-8 ({error})") from None
        except ModelError as error:
            raise ModelError(f"{path}: {error.message}") from None

    def save(self, path: Path) -> None:
        """Write ``tokens.txt``; :meth:`load` reads an equal list back."""
        path.write_text("".join(f"{token}\n" for token in self.tokens), encoding="utf-8")

    @property
    def labels(self) -> list[str]:
        """The labels from which ``pyctcdecode.Alphabet.build_alphabet`` makes the same alphabet."""
        return list(self.pieces)

    def encode(self, text: str) -> list[int]:
        """Ids that spell ``text``, one space between words.

        Raises:
            ConfigError: a character that no token stands for; the message names it.
        """
        text = " ".join(text.split())
        try:
            return [self._ids[character] for character in text]
        except KeyError as error:
            raise ConfigError(f"{text!r}: this model has no token for {error.args[0]!r}") from None

    def decode(self, ids: Iterable[int]) -> str:
        """The text that ``ids`` spell as they stand: nothing is collapsed, blanks vanish."""
        return " ".join("".join(self.pieces[number] for number in ids).split())

    def spell(self, text: str) -> str:
        """``text`` as this model can write it: single spaces, in upper or lower case if only that fits.

        Raises:
            ConfigError: no case of it can be spelt; the message names the first character that cannot.
        """
        text = " ".join(text.split())
        for attempt in (text, text.lower(), text.upper()):
            if all(character in self._ids for character in attempt):
                return attempt
        self.encode(text.lower())
        raise AssertionError("unreachable: encode has just refused the text")


def collapse(ids: Sequence[int], blank: int) -> list[int]:
    """CTC's rule: repeats become one, then blanks go (Graves et al. 2006, section 3.1)."""
    return [
        number
        for place, number in enumerate(ids)
        if number != blank and (place == 0 or number != ids[place - 1])
    ]
