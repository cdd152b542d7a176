"""Define the sizes of the punctuation network, which training and streaming share."""

from __future__ import annotations

from dataclasses import dataclass

from streamasr.errors import ConfigError

SPECIAL_ROWS = 2
"""Rows at the end of the table for the tokens of the two boundaries, END and CUT."""
PAUSE_STEPS_MS = (0, 150, 300, 600)
"""A known pause falls into the last of these steps that it reaches."""


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """Sizes of the network."""

    word_rows: int = 18_432
    """Rows for words: the most frequent ones of the training text, and one for all others."""
    ngram_rows: int = 8_192
    dim: int = 80
    hidden: int = 384
    layers: int = 3
    left: int = 2
    """Words before a word in its window."""
    look_ahead: int = 3
    """Words after a word in its window."""

    def __post_init__(self) -> None:
        for name in ("word_rows", "ngram_rows", "dim", "hidden", "layers"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be positive, got {getattr(self, name)}")
        for name in ("left", "look_ahead"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} must not be negative, got {getattr(self, name)}")

    @property
    def window(self) -> int:
        """Tokens in the window of a word."""
        return self.left + 1 + self.look_ahead

    @property
    def rows(self) -> int:
        """Rows of the embedding table."""
        return self.word_rows + self.ngram_rows + SPECIAL_ROWS
