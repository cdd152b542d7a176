"""Test that the exported head is divided by the recipe's temperature, and that further training undoes that."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import safetensors
import safetensors.torch
import torch

from streamasr.acoustic import load_encoder
from streamasr.errors import ConfigError, ModelError
from streamasr.training.config import TokensConfig, TrainConfig
from streamasr.training.pretrained import load_pretrained
from streamasr.training.temperature import read_temperature, write_temperature
from streamasr.training.trainer import Trainer
from tests.training.beeping import ALONE, recipe, run

HALF_PRECISION = 1e-3
"""Tolerance of weights that were saved in half precision."""


@pytest.fixture(scope="module")
def exported(
    beep_manifest: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[TrainConfig, Trainer, Path]:
    """The recipe, the trainer and the weights of a run of two steps with a temperature of 2.5."""
    config = replace(recipe(beep_manifest, 2), temperature=2.5)
    folder = tmp_path_factory.mktemp("softened")
    trainer, _ = run(config, folder)
    return config, trainer, folder / "model" / "model.safetensors"


def test_log_probs_of_the_exported_model_are_less_confident(
    exported: tuple[TrainConfig, Trainer, Path],
) -> None:
    config, trainer, path = exported
    softened = load_encoder(config.encoder, path, 5)
    hidden_BTD = torch.randn(2, 7, config.encoder.dim)
    with torch.no_grad():
        sharp_BTV = trainer.averaged_encoder().log_probs(hidden_BTD)
        soft_BTV = softened.log_probs(hidden_BTD)
    torch.testing.assert_close(
        soft_BTV, (sharp_BTV / 2.5).log_softmax(-1), atol=HALF_PRECISION, rtol=HALF_PRECISION
    )
    assert sharp_BTV.max(-1).values.mean() > soft_BTV.max(-1).values.mean()
    with safetensors.safe_open(path, "pt") as file:
        assert file.metadata() == {"format": "streamasr", "temperature": "2.5"}


def test_further_training_starts_with_the_head_as_it_was_trained(
    exported: tuple[TrainConfig, Trainer, Path], tmp_path: Path
) -> None:
    config, trainer, path = exported
    further = Trainer(replace(config, pretrained=path), tmp_path, ALONE, lambda event: None)
    for name, weight in trainer.averaged_encoder().state_dict().items():
        torch.testing.assert_close(
            further.encoder.state_dict()[name], weight, atol=HALF_PRECISION, rtol=HALF_PRECISION
        )


def test_tokens_in_another_order_get_their_rows_as_they_were_trained(
    exported: tuple[TrainConfig, Trainer, Path], tmp_path: Path
) -> None:
    config, trainer, path = exported
    other = replace(config, pretrained=path, tokens=TokensConfig(characters="cba"))
    further = Trainer(other, tmp_path, ALONE, lambda event: None)
    before, after = trainer.averaged_encoder().head.weight, further.encoder.head.weight
    torch.testing.assert_close(after[[0, 1, 4, 3, 2]], before, atol=HALF_PRECISION, rtol=HALF_PRECISION)


def test_a_run_without_a_temperature_stores_none(beep_manifest: Path, tmp_path: Path) -> None:
    run(recipe(beep_manifest, 1), tmp_path)
    with safetensors.safe_open(tmp_path / "model" / "model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "streamasr"}
    assert read_temperature(tmp_path / "model" / "model.safetensors") == 1.0


def test_storing_a_temperature_changes_no_weights(
    exported: tuple[TrainConfig, Trainer, Path], tmp_path: Path
) -> None:
    _, _, path = exported
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(path.read_bytes())
    write_temperature(copy, 0.7)
    assert read_temperature(copy) == 0.7
    before, after = safetensors.torch.load_file(path), safetensors.torch.load_file(copy)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("stored", ["warm", "0", "-1", "nan", "inf"])
def test_an_invalid_temperature_in_a_file_is_refused(
    exported: tuple[TrainConfig, Trainer, Path], tmp_path: Path, stored: str
) -> None:
    _, trainer, path = exported
    weights = safetensors.torch.load_file(path)
    file = tmp_path / "model.safetensors"
    safetensors.torch.save_file(weights, file, {"temperature": stored})
    with pytest.raises(
        ModelError, match=f"temperature in its metadata must be a number above 0, got '{stored}'"
    ):
        load_pretrained(trainer.averaged_encoder(), file)


def test_damaged_weights_are_named(exported: tuple[TrainConfig, Trainer, Path], tmp_path: Path) -> None:
    _, trainer, path = exported
    file = tmp_path / "model.safetensors"
    file.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ModelError, match=r"model\.safetensors: not a readable safetensors file"):
        load_pretrained(trainer.averaged_encoder(), file)


@pytest.mark.parametrize("temperature", [0.0, -2.5, float("nan"), float("inf")])
def test_a_recipe_needs_a_temperature_above_zero(beep_manifest: Path, temperature: float) -> None:
    with pytest.raises(ConfigError, match="temperature must be a number above 0"):
        replace(recipe(beep_manifest, 1), temperature=temperature)
