"""Load the noises and simulated rooms that a recipe augments its speech with.

Shape suffixes: N noise samples, K rooms, R impulse-response samples.
"""

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
    """Concatenated noises, and impulse responses of rooms; ``None`` without simulated rooms."""

    noise_N: Tensor
    rooms_KR: Tensor | None = None


def load_augmentation_sources(
    config: TrainConfig, cache: Path, progress: Progress | None = None, *, workers: int | None = None
) -> AugmentationSources:
    """Load the noises and rooms of a recipe; they are decoded and simulated once, then read from the cache.

    Args:
        config: the recipe, with its paths resolved.
        cache: folder of the cache files.
        progress: called after each decoded noise and each simulated room.
        workers: processes that decode and simulate; by default one for each CPU that this process may use.

    Returns:
        Tensors on the CPU.

    Raises:
        ConfigError: the rooms cannot be simulated, or pyroomacoustics is not installed.
        DataError: a noise manifest or one of its files cannot be used.
    """
    rate, noise_N, rooms_KR = config.frontend.sample_rate, torch.zeros(0), None
    if config.data.noise_manifests:
        noises = [noise for manifest in config.data.noise_manifests for noise in read_manifest(manifest)]
        decoded = (lambda done, total, _hours: progress(done, total)) if progress else None
        corpus = load_corpus(noises, cache, rate, workers=workers, progress=decoded)
        noise_N = torch.from_numpy(corpus.samples.copy()).float() / INT16_SCALE
    if config.augment.room_bank and config.augment.room_probability:
        shortest, longest = config.augment.room_rt60_seconds
        options = RoomOptions(
            rooms=config.augment.room_bank, rt60_seconds=(shortest, longest), sample_rate=rate
        )
        bank = load_rooms(options, config.seed, cache, workers=workers, progress=progress)
        rooms_KR = torch.from_numpy(bank.padded())
    return AugmentationSources(noise_N, rooms_KR)
