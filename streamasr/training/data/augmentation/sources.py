"""What a recipe surrounds its speech with: the recorded noises, and the bank of simulated rooms."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from streamasr.manifest import read_manifest
from streamasr.training.config import TrainConfig
from streamasr.training.data.audio.corpus import INT16_SCALE, load_corpus
from streamasr.training.data.audio.processes import Progress
from streamasr.training.data.augmentation.rooms import RoomOptions, load_rooms


@dataclass(frozen=True, slots=True)
class AugmentationSources:
    """What is mixed into the speech: ``noise_N`` sounds one after another, ``rooms_KR`` impulse responses."""

    noise_N: Tensor
    rooms_KR: Tensor | None = None


def load_augmentation_sources(
    config: TrainConfig, cache: Path, progress: Progress | None = None, *, workers: int | None = None
) -> AugmentationSources:
    """The recipe's noises and rooms, on the CPU; decoded and simulated once, then read from ``cache``.

    Args:
        config: the recipe, with its paths taken from where they start.
        cache: a folder.
        progress: told of every file decoded and of every room.
        workers: processes that decode and simulate; one for every CPU that this process may use by default.

    Raises:
        ConfigError: rooms are asked for that cannot be, or without pyroomacoustics.
        DataError: a manifest of noise or one of its files cannot be used.
    """
    rate, noise_N, rooms_KR = config.frontend.sample_rate, torch.zeros(0), None
    if config.data.noise_manifests:
        sounds = [sound for manifest in config.data.noise_manifests for sound in read_manifest(manifest)]
        told = (lambda done, total, _hours: progress(done, total)) if progress else None
        noise = load_corpus(sounds, cache, rate, workers=workers, progress=told)
        noise_N = torch.from_numpy(noise.samples.copy()).float() / INT16_SCALE
    if config.augment.room_bank and config.augment.room_probability:
        shortest, longest = config.augment.room_rt60_seconds
        options = RoomOptions(
            rooms=config.augment.room_bank, rt60_seconds=(shortest, longest), sample_rate=rate
        )
        bank = load_rooms(options, config.seed, cache, workers=workers, progress=progress)
        rooms_KR = torch.from_numpy(bank.padded())
    return AugmentationSources(noise_N, rooms_KR)
