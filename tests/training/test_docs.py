"""docs/training.md names every field of a recipe."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator
from pathlib import Path

from streamasr.training.config import TrainConfig

OF_THE_MODEL = {"frontend", "encoder", "decoder", "endpointing"}


def fields(cls: type, prefix: str = "") -> Iterator[str]:
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        if field.name in OF_THE_MODEL:
            yield f"{field.name}.*"
        elif dataclasses.is_dataclass(hints[field.name]):
            yield from fields(hints[field.name], f"{field.name}.")
        else:
            yield prefix + field.name


def test_every_field_of_a_recipe_is_described(repository: Path) -> None:
    text = (repository / "docs" / "training.md").read_text(encoding="utf-8")
    assert [name for name in fields(TrainConfig) if f"`{name}`" not in text] == []
