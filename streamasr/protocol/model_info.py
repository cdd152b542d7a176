"""Describe the model that a daemon serves, for clients that ask."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """The name and language of a model."""

    name: str
    language: str
    """A language code as in the model's configuration, for example ``en``."""
