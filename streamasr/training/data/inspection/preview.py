"""Write training audio to listen to, clean and augmented, and a plot of its features, with the code of the trainer.

Shape suffixes: B rows, S samples, T mel frames, M mel bands.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import torch
from torch import Tensor, nn

from streamasr.errors import ConfigError
from streamasr.frontend.base import AnyFrontEnd
from streamasr.frontend.build import build_frontend
from streamasr.manifest import Utterance, read_manifest
from streamasr.media.reader import read_audio
from streamasr.training.config import TrainConfig
from streamasr.training.data.augmentation.augment import Augment
from streamasr.training.data.augmentation.sources import AugmentationSources
from streamasr.training.data.inspection.plots import draw_mels
from streamasr.units import ceil_div

PLOT = "mels.png"
ROWS_PLOTTED = 12
"""Largest number of utterances in the plot; WAV files are written for all."""
_SEED_STRIDE = 1_000_003
_TITLE_WIDTH = 50


@dataclass(frozen=True, slots=True)
class PreviewedUtterance:
    """One utterance of the preview, and its WAV files."""

    utterance: Utterance
    clean: Path
    augmented: Path


@dataclass(frozen=True, slots=True)
class _Stages:
    """The samples and features of one utterance at each stage."""

    clean_S: npt.NDArray[np.float32]
    augmented_S: npt.NDArray[np.float32]
    mels: tuple[tuple[str, npt.NDArray[np.float32]], ...]


def preview(
    manifest: Path, config: TrainConfig, sources: AugmentationSources, out: Path, *, count: int, seed: int
) -> list[PreviewedUtterance]:
    """Write ``NNN-clean.wav`` and ``NNN-augmented.wav`` of random utterances, and the plot :data:`PLOT`.

    As in training, ``config.data.rows_per_batch`` utterances form a batch and have the same speed.

    Args:
        manifest: manifest of the utterances.
        config: the recipe, whose ``augment`` and ``frontend`` are used.
        sources: the noises and rooms of the recipe.
        out: folder to write to; files of an earlier preview are overwritten.
        count: number of utterances, at least one.
        seed: seed of the utterances and the augmentation.

    Raises:
        ConfigError: ``count`` is not positive, or matplotlib is not installed.
        DataError: the manifest or an audio file cannot be used.
    """
    if count < 1:
        raise ConfigError(f"a preview needs at least one utterance, got a count of {count}")
    utterances = read_manifest(manifest)
    chosen = np.random.default_rng(seed).permutation(len(utterances))[:count]
    picked = [utterances[number] for number in chosen]
    rate, rows = config.frontend.sample_rate, config.data.rows_per_batch
    augment = Augment(config.augment, rate, sources.noise_N, torch.Generator(), sources.rooms_KR)
    frontend = build_frontend(config.frontend)
    out.mkdir(parents=True, exist_ok=True)
    previewed: list[PreviewedUtterance] = []
    plotted = []
    for first in range(0, len(picked), rows):
        batch = picked[first : first + rows]
        augment.generator.manual_seed(seed * _SEED_STRIDE + first)
        stages = _augment_batch([read_audio(utterance.audio, rate) for utterance in batch], augment, frontend)
        for utterance, stage in zip(batch, stages, strict=True):
            number = len(previewed)
            paths = [out / f"{number:03d}-{name}.wav" for name in ("clean", "augmented")]
            for path, pcm_S in zip(paths, (stage.clean_S, stage.augmented_S), strict=True):
                soundfile.write(path, pcm_S, rate, subtype="PCM_16")
            previewed.append(PreviewedUtterance(utterance, *paths))
            plotted.append((f"{number:03d} {textwrap.shorten(utterance.text, _TITLE_WIDTH)}", stage.mels))
    draw_mels(plotted[:ROWS_PLOTTED], config.frontend.hop / rate, out / PLOT)
    return previewed


@torch.no_grad()
def _augment_batch(
    clean: list[npt.NDArray[np.float32]], augment: Augment, frontend: AnyFrontEnd
) -> list[_Stages]:
    hop = frontend.config.hop
    pieces = [torch.from_numpy(clean_S) for clean_S in clean]
    clean_BS = nn.utils.rnn.pad_sequence(pieces, batch_first=True)
    lengths_B = torch.tensor([len(piece) for piece in pieces])
    fast_BS, fast_lengths_B = augment.change_speed(clean_BS, lengths_B)
    augmented_BS = augment.augment_audio(fast_BS)
    augmented_BTM = frontend(_pad_to_hops(augmented_BS, hop))
    augmented_BTM = augment.warp_frequencies(augmented_BTM, frontend.band_hz_M)
    masked_BTM = augment.mask(augmented_BTM, augment.sample_rate / hop)
    clean_BTM = frontend(_pad_to_hops(clean_BS, hop))
    stages = []
    for row, (length, fast) in enumerate(zip(lengths_B.tolist(), fast_lengths_B.tolist(), strict=True)):
        mels = (
            ("clean", clean_BTM[row, : ceil_div(length, hop)].numpy()),
            ("augmented", augmented_BTM[row, : ceil_div(fast, hop)].numpy()),
            ("masked", masked_BTM[row, : ceil_div(fast, hop)].numpy()),
        )
        stages.append(_Stages(clean[row], augmented_BS[row, :fast].numpy(), mels))
    return stages


def _pad_to_hops(pcm_BS: Tensor, hop: int) -> Tensor:
    return nn.functional.pad(pcm_BS, (0, -pcm_BS.shape[1] % hop))
