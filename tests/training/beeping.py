"""Provide a recipe that learns to spell beeps in seconds, and helpers to run it and compare runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from streamasr.config import WhisperEncoderConfig
from streamasr.training.config import (
    AugmentConfig,
    DataConfig,
    LossConfig,
    OptimConfig,
    TokensConfig,
    TrainConfig,
)
from streamasr.training.distributed import ProcessGroup
from streamasr.training.monitoring.events import Event, PreparationProgress
from streamasr.training.trainer import Trainer

ALONE = ProcessGroup(0, 1, torch.device("cpu"))


def recipe(manifest: Path, steps: int) -> TrainConfig:
    return TrainConfig(
        name="beeps",
        tokens=TokensConfig(characters="abc"),
        log_every_steps=steps,
        save_every_steps=steps,
        evaluate_every_steps=steps,
        data=DataConfig(
            manifests=(manifest,), dev_manifests=(manifest,),
            batching="buckets", batch_seconds=12.0,
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
        encoder=WhisperEncoderConfig(dim=64, heads=4, layers=2, stem_kernel=9, left_context_frames=32),
    )  # fmt: skip


def run(config: TrainConfig, folder: Path, **options: Any) -> tuple[Trainer, list[Event]]:
    """Run a recipe; return the trainer and the run's events."""
    events: list[Event] = []

    def record(event: Event | PreparationProgress) -> None:
        if not isinstance(event, PreparationProgress):
            events.append(event)

    trainer = Trainer(config, folder, ALONE, record)
    trainer.train(**options)
    return trainer, events


def same_weights(one: Trainer, other: Trainer, *, atol: float = 1e-5) -> None:
    for name, weight in one.encoder.state_dict().items():
        torch.testing.assert_close(other.encoder.state_dict()[name], weight, atol=atol, rtol=1e-4)


def deterministic_rows(config: TrainConfig, rows: int) -> TrainConfig:
    """Return the recipe with rows of two seconds and no random augmentation, so that batch sizes can be compared."""
    assert isinstance(config.encoder, WhisperEncoderConfig)
    return replace(
        config,
        data=replace(config.data, batching="rows", row_seconds=2.0, max_gap_seconds=0.3, rows_per_batch=rows),
        augment=replace(config.augment, tilt_db=0.0, level_db=(0.0, 0.0)),
        chunk_weights=(1, 0, 0, 0),
        encoder=replace(config.encoder, position_period_frames=1),
    )
