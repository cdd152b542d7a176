"""The token list: what each column of the log-probs stands for.

Knows the file format and how tokens become words; knows no probabilities. Everything that asks what a token
does to a word goes through :class:`TokenList`: it adds :attr:`~TokenList.pieces` to the open word, and where
:attr:`~TokenList.starts` says so, it finishes the word before it first. Three kinds of list are told apart by
what they hold:

* letters and ``<space>``, the separator: a word is what stands between two separators;
* word pieces, as SentencePiece makes them: ``▁`` in front begins a word, and ``▁`` alone is a separator;
* neither of them: every character is a word of its own, as in Mandarin.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from streamasr.errors import ConfigError, ModelError
from streamasr.text import join_words

BLANK = "<blank>"
"""How ``tokens.txt`` writes the CTC blank."""
UNKNOWN = "<unk>"
"""How a list of word pieces writes a piece for what none of the others spells; it adds nothing to a word."""
SEPARATOR = "<space>"
"""How ``tokens.txt`` writes the separator between words."""
WORD_START = "▁"
"""What a word piece begins with that begins a word (U+2581)."""

Kind = Literal["letters", "pieces", "characters"]


@dataclass(frozen=True)
class TokenList:
    """The tokens of a model; a token's place is its id.

    Attributes:
        tokens: every token as ``tokens.txt`` writes it.
        kind: ``letters`` with a separator, word ``pieces``, or ``characters`` that are words.
        pieces: what each token adds to a word: nothing for the blank and for the separator.
        starts: whether a token finishes the word before it.
        blank: id of the blank.
        separator: id of the token that only finishes words; ``None`` where there is none.
        unknown: id of the piece that spells nothing; ``None`` where there is none.

    Raises:
        ModelError: no blank, a repeated token, or one that cannot be part of a word.
    """

    tokens: tuple[str, ...]
    kind: Kind = field(init=False, repr=False, compare=False)
    pieces: tuple[str, ...] = field(init=False, repr=False, compare=False)
    starts: tuple[bool, ...] = field(init=False, repr=False, compare=False)
    blank: int = field(init=False, repr=False, compare=False)
    separator: int | None = field(init=False, repr=False, compare=False)
    unknown: int | None = field(init=False, repr=False, compare=False)
    _ids: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.tokens.count(BLANK) != 1:
            raise ModelError(f"the token list needs {BLANK} exactly once, found {self.tokens.count(BLANK)}")
        ids = {token: number for number, token in enumerate(self.tokens)}
        if len(ids) != len(self.tokens):
            repeated = sorted({token for token in self.tokens if self.tokens.count(token) > 1})
            raise ModelError(f"the token list repeats {', '.join(map(repr, repeated))}")
        kind: Kind = "characters"
        if any(token.startswith(WORD_START) for token in self.tokens):
            kind = "pieces"
        elif SEPARATOR in ids:
            kind = "letters"
        for number, token in enumerate(self.tokens):
            _check(token, number, kind)
        separator = WORD_START if kind == "pieces" else SEPARATOR
        silent = (BLANK, SEPARATOR, UNKNOWN)
        values: dict[str, object] = {
            "kind": kind,
            "pieces": tuple("" if t in silent else t.removeprefix(WORD_START) for t in self.tokens),
            "starts": tuple(
                t != BLANK and (kind == "characters" or t == SEPARATOR or t.startswith(WORD_START))
                for t in self.tokens
            ),
            "blank": ids[BLANK],
            "separator": ids.get(separator),
            "unknown": ids.get(UNKNOWN),
            "_ids": ids,
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.tokens)

    @classmethod
    def of_characters(cls, characters: Iterable[str], *, separator: bool = True) -> TokenList:
        """Blank, the separator where one is wanted, then ``characters`` in their order."""
        return cls((BLANK, *([SEPARATOR] if separator else []), *characters))

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
        special = {BLANK: "", SEPARATOR: " "}
        front = WORD_START if self.kind == "characters" else ""
        return [special[token] if token in special else front + token for token in self.tokens]

    def encode(self, text: str) -> list[int]:
        """Ids that spell ``text``; of word pieces as few as will do.

        Raises:
            ConfigError: a character that no token stands for; the message names it.
        """
        ids: list[int] = []
        for word in self._words(text):
            if ids and self.kind == "letters":
                ids.append(self._ids[SEPARATOR])
            spelt, stuck = self._spell_word(word)
            if stuck is not None:
                raise ConfigError(f"{' '.join(text.split())!r}: this model has no token for {stuck!r}")
            ids.extend(spelt)
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """The text that ``ids`` spell as they stand: nothing is collapsed, blanks vanish."""
        spaced = "".join(f" {self.pieces[i]}" if self.starts[i] else self.pieces[i] for i in ids)
        return join_words(spaced.split())

    def spell(self, text: str) -> str:
        """``text`` as this model can write it: words one space apart, in upper or lower case if only that fits.

        Raises:
            ConfigError: no case of it can be spelt; the message names the first character that cannot.
        """
        for attempt in (text, text.lower(), text.upper()):
            words = self._words(attempt)
            if all(self._spell_word(word)[1] is None for word in words):
                return " ".join(words)
        self.encode(text.lower())
        raise AssertionError("unreachable: encode has just refused the text")

    def _words(self, text: str) -> list[str]:
        words = text.split()
        return [character for word in words for character in word] if self.kind == "characters" else words

    def _spell_word(self, word: str) -> tuple[list[int], str | None]:
        """The fewest tokens that spell ``word``, or the first character at which every spelling gets stuck."""
        if self.kind == "pieces":
            word = WORD_START + word
        spellings: list[list[int] | None] = [[], *[None] * len(word)]
        for end in range(1, len(word) + 1):
            first = 0 if self.kind == "pieces" else end - 1
            for start in range(first, end):
                before, token = spellings[start], self._ids.get(word[start:end])
                best = spellings[end]
                if before is not None and token is not None and (best is None or len(before) + 1 < len(best)):
                    spellings[end] = [*before, token]
        whole = spellings[-1]
        if whole is not None:
            return whole, None
        reached = max(place for place, spelling in enumerate(spellings) if spelling is not None)
        return [], word[reached:].removeprefix(WORD_START)[:1]


def _check(token: str, number: int, kind: Kind) -> None:
    """Refuse a token that cannot stand in a list of this kind."""
    if (
        token == BLANK
        or (token == SEPARATOR and kind == "letters")
        or (token == UNKNOWN and kind == "pieces")
    ):
        return
    if kind != "pieces":
        if len(token) != 1 or token.isspace():
            raise ModelError(f"token {number} is {token!r}; expected {BLANK}, {SEPARATOR} or one character")
        return
    special = token.startswith("<") and token.endswith(">")
    if not token or special or WORD_START in token[1:] or any(c.isspace() for c in token):
        raise ModelError(
            f"token {number} is {token!r}; expected {BLANK} or a word piece, with {WORD_START} in front where "
            "a word begins"
        )


def collapse(ids: Sequence[int], blank: int) -> list[int]:
    """CTC's rule: repeats become one, then blanks go (Graves et al. 2006, section 3.1)."""
    return [
        number
        for place, number in enumerate(ids)
        if number != blank and (place == 0 or number != ids[place - 1])
    ]
