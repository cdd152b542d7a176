"""Turn a batch of samples into the batch that the model trains on: augmented log-mel frames and their targets.

The same code runs in a worker process and on the training device. All random values are drawn from the recipe's seed
and the batch's number, so any batch of a run can be made again.
Shape suffixes: B rows, S samples, T mel frames, M mel bands, N noise samples, K rooms, R response samples.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from streamasr.frontend.build import build_frontend
from streamasr.training.config import TrainConfig
from streamasr.training.data.augmentation.augment import Augment
from streamasr.training.data.augmentation.sources import AugmentationSources
from streamasr.training.data.batches.rows import AudioBatch

FRAME_MULTIPLE = 8
"""Batches are padded to a multiple of this number of encoder frames. Few different shapes suit kernels and
``torch.compile``."""
_SEED_STRIDE = 1_000_003


class StreamPosition(NamedTuple):
    """Position of a batch's last row in the shards; a resumed run continues after it."""

    reader: int
    epoch: int
    number: int


class FeatureBatch(NamedTuple):
    """A batch for the model. With two augmented views, the first half of the rows is one view, the second half the
    other view of the same utterances in the same order."""

    mel_BTM: Tensor
    lengths_B: Tensor
    """Mel frames of each row."""
    targets: Tensor
    """The token ids of all rows, concatenated."""
    target_lengths_B: Tensor
    transcribed_B: Tensor
    """Whether the row has a transcript."""
    chunk_B: Tensor
    """The chunk size drawn for each row, in encoder frames."""
    position_B: Tensor
    """Index into the position table at which each row starts."""
    clean_BTM: Tensor | None
    """One view with the changed speed but no other augmentation, for the distillation's teacher."""
    seconds: float
    """Seconds of audio in one view of the batch, without padding."""
    padding_share: float
    unalignable: tuple[str, ...]
    """One message per row that has more tokens than its frames allow."""
    position: StreamPosition | None = None

    def to(self, device: torch.device) -> FeatureBatch:
        """Return the batch on ``device``."""
        tensors = {name: x for name, x in self._asdict().items() if isinstance(x, Tensor)}
        moved: dict[str, Any] = {name: x.to(device, non_blocking=True) for name, x in tensors.items()}
        return self._replace(**moved)


class BatchPreparer:
    """Augments batches and computes their features on ``device``.

    Args:
        config: the recipe.
        sources: noises and rooms, on any device.
        device: device of the batches.
    """

    def __init__(self, config: TrainConfig, sources: AugmentationSources, device: torch.device) -> None:
        self.config = config
        self.frontend = build_frontend(config.frontend).to(device)
        self.band_hz_M = self.frontend.band_hz_M
        self.generator = torch.Generator(device)
        rooms_KR = None if sources.rooms_KR is None else sources.rooms_KR.to(device)
        self.augment = Augment(
            config.augment,
            config.frontend.sample_rate,
            sources.noise_N.to(device),
            self.generator,
            rooms_KR,
        )

    @torch.no_grad()
    def prepare(self, batch: AudioBatch, number: int) -> FeatureBatch:
        """Prepare batch number ``number`` of the run."""
        config, device = self.config, batch.pcm_BS.device
        self.generator.manual_seed(config.seed * _SEED_STRIDE + number)
        pcm_BS, lengths_B = self.augment.change_speed(batch.pcm_BS, batch.lengths_B)
        if config.augment.noise_only_probability:
            pcm_BS, replaced_B = self.augment.replace_by_noise(pcm_BS)
            batch = batch.without_texts(replaced_B)
        pcm_BS, samples_B = pad_batch(pcm_BS, lengths_B, config)
        lengths_B = config.framing.mel_frames(samples_B)
        views = 2 if config.loss.consistency else 1
        frames_per_second = config.frontend.sample_rate / config.frontend.hop
        mel_BTM = self.frontend(self.augment.augment_audio(pcm_BS.repeat(views, 1)), samples_B.repeat(views))
        mel_BTM = self.augment.warp_frequencies(mel_BTM, self.band_hz_M)
        rows = len(mel_BTM)
        chunks = torch.tensor(config.encoder.chunk_frames, device=device)
        weights = torch.tensor(config.chunk_weights, dtype=torch.float32, device=device)
        samples = int(samples_B.sum())
        return FeatureBatch(
            mel_BTM=self.augment.mask(mel_BTM, frames_per_second),
            lengths_B=lengths_B.repeat(views),
            targets=batch.targets.repeat(views),
            target_lengths_B=batch.target_lengths_B.repeat(views),
            transcribed_B=batch.transcribed_B.repeat(views),
            chunk_B=chunks[torch.multinomial(weights, rows, replacement=True, generator=self.generator)],
            position_B=torch.randint(
                config.encoder.position_period_frames, (rows,), generator=self.generator, device=device
            ),
            clean_BTM=self.frontend(pcm_BS, samples_B) if config.loss.distillation else None,
            seconds=samples / config.frontend.sample_rate,
            padding_share=1.0 - samples / pcm_BS.numel(),
            unalignable=self._unalignable(batch, lengths_B),
        )

    def _unalignable(self, batch: AudioBatch, lengths_B: Tensor) -> tuple[str, ...]:
        frames = self.config.framing.encoder_frames(lengths_B).tolist()
        return tuple(
            f"{name}: its text needs {needed} encoder frames, but there are {present}"
            for name, needed, present in zip(batch.names, batch.needed_frames, frames, strict=True)
            if needed > present
        )


def pad_batch(pcm_BS: Tensor, lengths_B: Tensor, config: TrainConfig) -> tuple[Tensor, Tensor]:
    """Pad a batch to a multiple of :data:`FRAME_MULTIPLE` encoder frames.

    Returns:
        The padded batch, and the row lengths including the silence that completes each row's last encoder frame.
    """
    framing = config.framing
    missing = -pcm_BS.shape[1] % (framing.frame_samples * FRAME_MULTIPLE)
    return nn.functional.pad(pcm_BS, (0, missing)), framing.padded_samples(lengths_B)
