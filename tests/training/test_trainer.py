"""Whole runs on beeps: it learns, resumes to the same weights, and exports what the loader takes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from streamasr.acoustic import load_encoder
from streamasr.config import ModelConfig, WhisperEncoderConfig, load_toml, to_toml
from streamasr.errors import ConfigError, DataError
from streamasr.training.config import (
    AugmentConfig,
    DataConfig,
    LossConfig,
    OptimConfig,
    TokensConfig,
    TrainConfig,
    load_recipe,
)
from streamasr.training.trainer import DevReport, Report, Trainer

CPU = torch.device("cpu")


def recipe(manifest: Path, steps: int) -> TrainConfig:
    return TrainConfig(
        name="beeps",
        seed=2,
        tokens=TokensConfig(characters="abc"),
        log_every_steps=steps,
        save_every_steps=steps,
        evaluate_every_steps=steps,
        data=DataConfig(
            manifests=(manifest,), dev_manifests=(manifest,),
            row_seconds=2.0, max_gap_seconds=0.3, rows_per_batch=4,
        ),
        augment=AugmentConfig(
            speeds=(1.0,), noise_probability=0, babble_probability=0, room_probability=0, band_probability=0,
            tilt_db=1.0, level_db=(-3.0, 3.0), time_masks_per_second=0, frequency_masks=0,
        ),
        loss=LossConfig(consistency=0.0),
        optim=OptimConfig(
            steps=steps, learning_rate=3e-3, layer_decay=1.0, head_factor=1.0, freeze_encoder_steps=0,
            warmup_steps=10, train_stem=True, ema_decay=0.97,
        ),
        encoder=WhisperEncoderConfig(dim=64, heads=4, layers=1, left_context_frames=32),
    )  # fmt: skip


def test_it_learns_to_spell_beeps_at_every_chunk_size(beep_manifest: Path, tmp_path: Path) -> None:
    events: list[Report | DevReport] = []
    trainer = Trainer(recipe(beep_manifest, 400), tmp_path, CPU, events.append)
    trainer.train()
    dev = {event.chunk_frames: event.cer for event in events if isinstance(event, DevReport)}
    assert set(dev) == {8, 16, 32, 64}
    assert max(dev.values()) < 0.1
    steps = [event for event in events if isinstance(event, Report)]
    assert steps[-1].ctc < 1.0
    assert steps[-1].hours > 0

    model = load_toml(ModelConfig, tmp_path / "model" / "config.toml")
    assert model.sample_delay == 360
    assert (tmp_path / "model" / "tokens.txt").read_text().split() == ["<blank>", "<space>", "a", "b", "c"]
    loaded = load_encoder(model.encoder, tmp_path / "model" / "model.safetensors", 5)
    for name, weight in trainer.average.module.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], weight, atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize("loss", [LossConfig(consistency=0.0), LossConfig(consistency=0.2, distillation=0.5)])
def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(
    beep_manifest: Path, tmp_path: Path, loss: LossConfig
) -> None:
    config = replace(recipe(beep_manifest, 6), loss=loss)
    whole = Trainer(config, tmp_path / "whole", CPU, lambda event: None)
    whole.train()
    stopped = Trainer(config, tmp_path / "stopped", CPU, lambda event: None)
    stopped.train(until=lambda: stopped.step == 3)
    resumed = Trainer(config, tmp_path / "stopped", CPU, lambda event: None)
    assert resumed.step == 3
    resumed.train()
    for name, weight in whole.encoder.state_dict().items():
        torch.testing.assert_close(resumed.encoder.state_dict()[name], weight, atol=1e-5, rtol=1e-4)


def test_a_transcript_outside_the_tokens_is_named(beep_manifest: Path, tmp_path: Path) -> None:
    config = replace(recipe(beep_manifest, 1), tokens=TokensConfig(characters="ab"))
    with pytest.raises(DataError, match=r"characters outside the tokens: \['c'\] in '"):
        Trainer(config, tmp_path, CPU, lambda event: None)


def test_a_missing_manifest_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.jsonl: no such file"):
        Trainer(recipe(tmp_path / "nowhere.jsonl", 1), tmp_path, CPU, lambda event: None)


def test_a_recipe_survives_its_file(beep_manifest: Path, tmp_path: Path) -> None:
    config = recipe(beep_manifest, 5)
    (tmp_path / "recipe.toml").write_text(to_toml(config))
    assert load_toml(TrainConfig, tmp_path / "recipe.toml") == config


def test_packaged_recipes_load_and_take_their_paths_from_a_root() -> None:
    config = load_recipe("en-small").rooted(Path("/speech"))
    assert config.pretrained == Path("/speech/pretrained/whisper-base-encoder.safetensors")
    assert all(
        path.is_relative_to("/speech") for path in (*config.data.manifests, *config.data.dev_manifests)
    )
    with pytest.raises(ConfigError, match="no such recipe file; packaged recipes are en-small"):
        load_recipe("en-smal")


def test_chunk_weights_must_match_the_chunks(beep_manifest: Path) -> None:
    with pytest.raises(ConfigError, match="one weight for every one"):
        replace(recipe(beep_manifest, 1), chunk_weights=(1.0,))
