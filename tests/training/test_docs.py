"""docs/recipes.md names every field of a recipe, and the example in docs/training.md can be run."""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Iterator
from pathlib import Path

from streamasr.acoustic.whisper import WhisperEncoder
from streamasr.config import WhisperEncoderConfig
from streamasr.toml import load_toml
from streamasr.training.config import TrainConfig
from streamasr.training.pretrained import load_pretrained
from streamasr.training.tokenizer import build_tokenizer

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
    text = (repository / "docs" / "recipes.md").read_text(encoding="utf-8")
    assert [name for name in fields(TrainConfig) if f"`{name}`" not in text] == []


def test_the_example_of_a_recipe_goes_on_from_the_default_model(repository: Path, tmp_path: Path) -> None:
    text = (repository / "docs" / "training.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    recipe = tmp_path / "mine.toml"
    recipe.write_text(shown, encoding="utf-8")
    config = load_toml(TrainConfig, recipe)
    assert isinstance(config.encoder, WhisperEncoderConfig)
    encoder = WhisperEncoder(config.encoder, len(build_tokenizer(config).tokens))
    assert load_pretrained(encoder, repository / "models" / "en-small" / "model.safetensors") == []
