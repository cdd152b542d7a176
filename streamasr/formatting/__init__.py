"""Spoken words to written text, by rules; one module a language.

Knows words only: no audio, no times, no model. A language gets its own by a class with the methods of
:class:`Formatter` and a line in ``FORMATTERS``.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from streamasr.errors import ConfigError


class Piece(NamedTuple):
    """A word as it is written."""

    text: str
    spoken: int
    """How many spoken words it stands for: they follow one another, and no word is left out."""


class Formatter(Protocol):
    """The rules of one language."""

    def write(self, words: Sequence[str], *, begins_sentence: bool) -> list[Piece]:
        """``words`` as they are written.

        Args:
            words: in lower case, as the decoder gives them.
            begins_sentence: whether the first of them does.
        """

    def settled(self, words: Sequence[str]) -> int:
        """How many of ``words`` are written the same, as pieces of their own, whatever comes after all of them."""


FORMATTERS = {"en": "english"}
"""Language to the module whose ``FORMATTER`` writes it; imported when it is first asked for."""


def formatter_for(language: str) -> Formatter:
    """The rules of ``language``.

    Raises:
        ConfigError: there are none; the message lists the languages that have some.
    """
    if language not in FORMATTERS:
        known = ", ".join(FORMATTERS)
        raise ConfigError(f"no rules for writing the language {language!r}; there are rules for {known}")
    module = importlib.import_module(f"{__name__}.{FORMATTERS[language]}")
    formatter: Formatter = module.FORMATTER
    return formatter
