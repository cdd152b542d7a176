"""Training sound to listen to and to look at: clean, augmented, masked, by the very code that trains.

Knows no model. Shape suffixes: B rows, S samples, T mel frames, M mel bands.
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

PICTURE = "mels.png"
ROWS_DRAWN = 12
"""Utterances in the picture; the WAVs are written for all."""
_SEED_STRIDE = 1_000_003
_TITLE_WIDTH = 50


@dataclass(frozen=True, slots=True)
class PreviewedUtterance:
    """One utterance of the preview."""

    utterance: Utterance
    clean: Path
    augmented: Path


@dataclass(frozen=True, slots=True)
class _Stages:
    clean_S: npt.NDArray[np.float32]
    augmented_S: npt.NDArray[np.float32]
    mels: tuple[tuple[str, npt.NDArray[np.float32]], ...]


def preview(
    manifest: Path, config: TrainConfig, sources: AugmentationSources, out: Path, *, count: int, seed: int
) -> list[PreviewedUtterance]:
    """Write ``NNN-clean.wav`` and ``NNN-augmented.wav`` of some utterances, and :data:`PICTURE`.

    As in training, ``config.data.rows_per_batch`` utterances share a batch, and with it their speed.

    Args:
        manifest: where the utterances are drawn from.
        config: the recipe; its ``augment`` and ``frontend`` are used.
        sources: its noises and rooms.
        out: the folder; files of an earlier preview are overwritten.
        count: utterances, at least one.
        seed: of what is drawn.

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
    drawn = []
    for first in range(0, len(picked), rows):
        some = picked[first : first + rows]
        augment.generator.manual_seed(seed * _SEED_STRIDE + first)
        stages = _augmented([read_audio(utterance.audio, rate) for utterance in some], augment, frontend)
        for utterance, stage in zip(some, stages, strict=True):
            number = len(previewed)
            paths = [out / f"{number:03d}-{name}.wav" for name in ("clean", "augmented")]
            for path, pcm_S in zip(paths, (stage.clean_S, stage.augmented_S), strict=True):
                soundfile.write(path, pcm_S, rate, subtype="PCM_16")
            previewed.append(PreviewedUtterance(utterance, *paths))
            drawn.append((f"{number:03d} {textwrap.shorten(utterance.text, _TITLE_WIDTH)}", stage.mels))
    draw_mels(drawn[:ROWS_DRAWN], config.frontend.hop / rate, out / PICTURE)
    return previewed


@torch.no_grad()
def _augmented(
    clean: list[npt.NDArray[np.float32]], augment: Augment, frontend: AnyFrontEnd
) -> list[_Stages]:
    hop = frontend.config.hop
    pieces = [torch.from_numpy(clean_S) for clean_S in clean]
    clean_BS = nn.utils.rnn.pad_sequence(pieces, batch_first=True)
    lengths_B = torch.tensor([len(piece) for piece in pieces])
    fast_BS, fast_lengths_B = augment.speed(clean_BS, lengths_B)
    augmented_BS = augment.sound(fast_BS)
    augmented_BTM = frontend(_whole_hops(augmented_BS, hop))
    masked_BTM = augment.mask(augmented_BTM, augment.sample_rate / hop)
    clean_BTM = frontend(_whole_hops(clean_BS, hop))
    stages = []
    for row, (length, fast) in enumerate(zip(lengths_B.tolist(), fast_lengths_B.tolist(), strict=True)):
        mels = (
            ("clean", clean_BTM[row, : ceil_div(length, hop)].numpy()),
            ("augmented", augmented_BTM[row, : ceil_div(fast, hop)].numpy()),
            ("masked", masked_BTM[row, : ceil_div(fast, hop)].numpy()),
        )
        stages.append(_Stages(clean[row], augmented_BS[row, :fast].numpy(), mels))
    return stages


def _whole_hops(pcm_BS: Tensor, hop: int) -> Tensor:
    return nn.functional.pad(pcm_BS, (0, -pcm_BS.shape[1] % hop))
