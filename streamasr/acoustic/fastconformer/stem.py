"""FastConformer's subsampling: causal strided convolutions over time and frequency, one after another.

Every stage halves time and frequency (Rekesh et al. 2023: a full convolution, then depthwise separable ones). A
stage's frame ``i`` looks at the frames ``2 i - 2 … 2 i`` before it, so that encoder frame ``i`` looks back from mel
frame ``subsampling * i``. A step therefore begins ``subsampling - 1`` mel frames before a stream's first one, and
every stage carries one frame.

Shape suffixes: B batch, T frames, M mel bands, C channels, W bands of a stage, X all tails in a row, D model width.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from streamasr.acoustic.rolling import newest
from streamasr.config import FastConformerEncoderConfig

_KERNEL, _STRIDE = 3, 2
_BANDS_PADDING = (2, 1)
"""Zeros below and above the bands."""


class Heard(NamedTuple):
    """What a stage heard."""

    frames_BCTW: Tensor
    """The tail, then the frames of this step."""
    end_B: Tensor
    """How many of the latter count."""


class Stage(nn.Module):
    """One halving of time and frequency."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        if channels_in == 1:
            self.depthwise = None
            self.mixing = nn.Conv2d(1, channels, _KERNEL, _STRIDE)
        else:
            self.depthwise = nn.Conv2d(channels_in, channels_in, _KERNEL, _STRIDE, groups=channels_in)
            self.mixing = nn.Conv2d(channels_in, channels, 1)

    def forward(self, heard_BCTW: Tensor) -> Tensor:
        """Of ``T + 1`` frames, the first a tail, ``T / 2``."""
        x_BCTW = F.pad(heard_BCTW, _BANDS_PADDING)
        if self.depthwise is not None:
            x_BCTW = self.depthwise(x_BCTW)
        return F.relu(self.mixing(x_BCTW))


class Stem(nn.Module):
    """Mel frames to encoder frames.

    Args:
        config: bands, channels and the number of halvings.
    """

    def __init__(self, config: FastConformerEncoderConfig) -> None:
        super().__init__()
        stages = config.subsampling.bit_length() - 1
        channels = (1, *[config.subsampling_channels] * stages)
        self.stages = nn.ModuleList(Stage(*pair) for pair in pairwise(channels))
        bands = [config.n_mels]
        for _ in range(stages):
            bands.append(bands[-1] // _STRIDE + 1)
        self.tail_shapes = tuple(zip(channels[:-1], bands[:-1], strict=True))
        """Channels and bands of what each stage carries: one frame."""
        self.tail_sizes = [count * width for count, width in self.tail_shapes]
        self.out = nn.Linear(channels[-1] * bands[-1], config.dim)

    def forward(
        self, mel_BTM: Tensor, first_B: Tensor, end_B: Tensor, tail_BX: Tensor
    ) -> tuple[Tensor, list[Heard]]:
        """Encoder frames, and what each stage heard.

        Args:
            mel_BTM: a whole number of encoder frames.
            first_B: where a row's sound begins; the stages hear silence before it.
            end_B: where it ends; each stage hears silence behind its own last frame.
            tail_BX: what :meth:`tails` gave for the frames before; zeros at a stream's start.
        """
        x_BCTW = mel_BTM.unsqueeze(1)
        heard = []
        old_tails = torch.split(tail_BX, self.tail_sizes, dim=1)
        for stage, shape, tail in zip(self.stages, self.tail_shapes, old_tails, strict=True):
            time_T = torch.arange(x_BCTW.shape[2], device=mel_BTM.device)
            sounds_BT = (time_T >= first_B[:, None]) & (time_T < end_B[:, None])
            x_BCTW = x_BCTW * sounds_BT[:, None, :, None]
            heard_BCTW = torch.cat((tail.view(-1, shape[0], 1, shape[1]).to(x_BCTW.dtype), x_BCTW), dim=2)
            heard.append(Heard(heard_BCTW, end_B))
            x_BCTW = stage(heard_BCTW)
            first_B, end_B = first_B // _STRIDE, (end_B + 1) // _STRIDE
        return self.out(x_BCTW.transpose(1, 2).flatten(2)), heard

    def tails(self, heard: list[Heard]) -> Tensor:
        """What the frames behind need of what the stages heard: [B, X]."""
        return torch.cat([newest(stage.frames_BCTW, stage.end_B, 1).flatten(1) for stage in heard], dim=1)
