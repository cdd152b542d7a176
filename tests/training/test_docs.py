"""Test that docs/recipes.md names each field of a recipe, and that the example in docs/training.md loads."""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamasr.acoustic.whisper import WhisperEncoder
from streamasr.config import WhisperEncoderConfig
from streamasr.toml import load_toml
from streamasr.training.config import TrainConfig
from streamasr.training.pretrained import load_pretrained
from streamasr.training.tokenizer import build_tokenizer

MODEL_SECTIONS = {"frontend", "encoder", "decoder", "endpointing"}


def fields(cls: type, prefix: str = "") -> Iterator[str]:
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        if field.name in MODEL_SECTIONS:
            yield f"{field.name}.*"
        elif dataclasses.is_dataclass(hints[field.name]):
            yield from fields(hints[field.name], f"{field.name}.")
        else:
            yield prefix + field.name


def test_each_field_of_a_recipe_is_documented(repository: Path) -> None:
    text = (repository / "docs" / "recipes.md").read_text(encoding="utf-8")
    assert [name for name in fields(TrainConfig) if f"`{name}`" not in text] == []


def example_recipes(repository: Path) -> list[str]:
    text = (repository / "docs" / "training.md").read_text(encoding="utf-8")
    return re.findall(r"```toml\n(.*?)```", text, re.DOTALL)


def test_the_example_of_ctc_crf_is_a_part_of_a_recipe(repository: Path, tmp_path: Path) -> None:
    _, example = example_recipes(repository)
    recipe = tmp_path / "mine.toml"
    recipe.write_text(f'name = "mine"\n{example}\n[data]\nmanifests = ["train.jsonl"]\n', encoding="utf-8")
    config = load_toml(TrainConfig, recipe)
    assert config.loss.crf == pytest.approx(0.83)
    assert len(config.crf.text) == 2


def test_the_example_recipe_continues_from_the_default_model(repository: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text(example_recipes(repository)[0], encoding="utf-8")
    config = load_toml(TrainConfig, recipe)
    assert isinstance(config.encoder, WhisperEncoderConfig)
    encoder = WhisperEncoder(config.encoder, len(build_tokenizer(config).tokens))
    assert load_pretrained(encoder, repository / "models" / "en-small" / "model.safetensors") == []
