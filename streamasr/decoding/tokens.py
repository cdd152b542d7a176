"""Read and write token lists, and convert between tokens and text.

A token list names the columns of the log-probs. What a token does to the open word is the same for all lists: it
appends its letters (:attr:`~TokenList.pieces`), and if :attr:`~TokenList.starts_word` is true, it finishes the open
word first. There are three kinds of lists, recognised by their tokens:

* letters with the separator ``<space>``: a word is what stands between two separators;
* word pieces, as SentencePiece makes them: a leading ``▁`` begins a word, and ``▁`` alone is a separator;
* characters, in lists with neither of these: every character is a word, as in Mandarin.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from streamasr.errors import ConfigError, ModelError
from streamasr.text import join_words
from streamasr.textfile import read_lines

BLANK = "<blank>"
"""How ``tokens.txt`` writes the CTC blank."""
UNKNOWN = "<unk>"
"""How a list of word pieces writes the unknown piece, which adds no letters."""
SEPARATOR = "<space>"
"""How ``tokens.txt`` writes the separator between words."""
WORD_START = "▁"
"""The first character of a word piece that begins a word (U+2581)."""

Kind = Literal["letters", "pieces", "characters"]


@dataclass(frozen=True)
class TokenList:
    """The tokens of a model; a token's index is its id.

    Attributes:
        tokens: every token as ``tokens.txt`` writes it.
        kind: ``letters`` with a separator, word ``pieces``, or ``characters`` that are words.
        pieces: the letters that each token adds to a word; none for the blank and the separator.
        starts_word: whether a token finishes the open word and begins a new one.
        blank: id of the blank.
        separator: id of the token that only finishes words; ``None`` if there is none.
        unknown: id of the unknown piece; ``None`` if there is none.

    Raises:
        ModelError: no blank, a repeated token, or one that cannot be part of a word.
    """

    tokens: tuple[str, ...]
    kind: Kind = field(init=False, repr=False, compare=False)
    pieces: tuple[str, ...] = field(init=False, repr=False, compare=False)
    starts_word: tuple[bool, ...] = field(init=False, repr=False, compare=False)
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
        no_letters = (BLANK, SEPARATOR, UNKNOWN)
        values: dict[str, object] = {
            "kind": kind,
            "pieces": tuple("" if t in no_letters else t.removeprefix(WORD_START) for t in self.tokens),
            "starts_word": tuple(
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
        """Return the list of blank, the separator unless it is switched off, and ``characters`` in their order."""
        return cls((BLANK, *([SEPARATOR] if separator else []), *characters))

    @classmethod
    def load(cls, path: Path) -> TokenList:
        """Read ``tokens.txt``: UTF-8, one token per line; the line number, from 0, is the id.

        Raises:
            ModelError: the file is missing or is not a token list; the message names the file.
        """
        try:
            return cls(tuple(read_lines(path)))
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
        """The labels with which ``pyctcdecode.Alphabet.build_alphabet`` makes the same alphabet."""
        special = {BLANK: "", SEPARATOR: " "}
        prefix = WORD_START if self.kind == "characters" else ""
        return [special[token] if token in special else prefix + token for token in self.tokens]

    def encode(self, text: str) -> list[int]:
        """Return the ids that spell ``text``; for word pieces, as few as possible.

        Raises:
            ConfigError: there is no token for a character; the message names it.
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
        """Return the text of ``ids``. Blanks add nothing; repeats are not collapsed."""
        spaced = "".join(f" {self.pieces[i]}" if self.starts_word[i] else self.pieces[i] for i in ids)
        return join_words(spaced.split())

    def can_spell(self, text: str) -> bool:
        """Whether the model can write ``text`` in its case, and it has a letter or digit."""
        words = self._words(text)
        return any(map(str.isalnum, text)) and all(self._spell_word(word)[1] is None for word in words)

    def spell(self, text: str) -> str:
        """Return ``text`` as this model can write it: one space between words, in another case if needed.

        Raises:
            ConfigError: the text has a character without a token in either case; the message names it.
        """
        for attempt in (text, text.lower(), text.upper()):
            words = self._words(attempt)
            if all(self._spell_word(word)[1] is None for word in words):
                return " ".join(words)
        self.encode(text.lower())
        raise AssertionError("unreachable: encode refuses this text")

    def _words(self, text: str) -> list[str]:
        words = text.split()
        return [character for word in words for character in word] if self.kind == "characters" else words

    def _spell_word(self, word: str) -> tuple[list[int], str | None]:
        """Return the fewest tokens that spell ``word``, or the first character that no spelling gets past."""
        if self.kind == "pieces":
            word = WORD_START + word
        spellings: list[list[int] | None] = [[], *[None] * len(word)]
        for end in range(1, len(word) + 1):
            first = 0 if self.kind == "pieces" else end - 1
            for start in range(first, end):
                prefix, token = spellings[start], self._ids.get(word[start:end])
                best = spellings[end]
                if prefix is not None and token is not None and (best is None or len(prefix) + 1 < len(best)):
                    spellings[end] = [*prefix, token]
        whole = spellings[-1]
        if whole is not None:
            return whole, None
        reached = max(end for end, spelling in enumerate(spellings) if spelling is not None)
        return [], word[reached:].removeprefix(WORD_START)[:1]


def _check(token: str, number: int, kind: Kind) -> None:
    """Refuse a token that lists of this kind cannot hold."""
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
    """Merge repeated ids, then remove blanks (Graves et al. 2006, section 3.1)."""
    return [token for at, token in enumerate(ids) if token != blank and (at == 0 or token != ids[at - 1])]
