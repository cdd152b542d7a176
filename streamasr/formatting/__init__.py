"""Convert between spoken and written form by rules (inverse text normalisation and back), one module per language.

To add a language, write a class with the methods of :class:`Formatter` and add a line to ``FORMATTERS``.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from streamasr.errors import ConfigError


class WrittenWord(NamedTuple):
    """A word in written form."""

    text: str
    num_words: int
    """How many spoken-form words it replaces. The written words of a text cover all its words, in order."""


class Formatter(Protocol):
    """The rules of one language."""

    def write(self, words: Sequence[str], *, begins_sentence: bool) -> list[WrittenWord]:
        """Return ``words`` in written form.

        Args:
            words: in lower case, as the decoder returns them.
            begins_sentence: whether the first word begins a sentence.
        """

    def stable_count(self, words: Sequence[str]) -> int:
        """Return how many of ``words`` have a written form that no later words can change."""

    def read(self, text: str) -> str:
        """Return written ``text`` with words for digits, abbreviations and symbols; its letters stay as they are."""


FORMATTERS = {"en": "english"}
"""Language to the module with its ``FORMATTER``, which is imported on first use."""


def formatter_for(language: str) -> Formatter:
    """Return the rules of ``language``.

    Raises:
        ConfigError: there are none; the message lists the languages with rules.
    """
    if language not in FORMATTERS:
        known = ", ".join(FORMATTERS)
        raise ConfigError(f"no rules for writing the language {language!r}; there are rules for {known}")
    module = importlib.import_module(f"{__name__}.{FORMATTERS[language]}")
    formatter: Formatter = module.FORMATTER
    return formatter
