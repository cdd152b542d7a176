"""Subsample mel frames with FastConformer's stack of causal strided convolutions over time and frequency.

Every stage halves time and frequency (Rekesh et al. 2023: a full convolution, then depthwise separable ones). Frame
``i`` of a stage depends on the frames ``2 i - 2 … 2 i`` of its input, so encoder frame ``i`` ends with mel frame
``subsampling * i``. A stream's first step therefore has ``subsampling - 1`` mel frames of left padding, and every
stage carries one frame from step to step.

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
"""Zero padding below and above the bands."""


class StageInput(NamedTuple):
    """A stage's input in one step."""

    frames_BCTW: Tensor
    """The carried frame, then the frames of this step."""
    end_B: Tensor
    """How many frames of this step are valid, in each row."""


class Stage(nn.Module):
    """Halve time and frequency once."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        if channels_in == 1:
            self.depthwise = None
            self.mixing = nn.Conv2d(1, channels, _KERNEL, _STRIDE)
        else:
            self.depthwise = nn.Conv2d(channels_in, channels_in, _KERNEL, _STRIDE, groups=channels_in)
            self.mixing = nn.Conv2d(channels_in, channels, 1)

    def forward(self, input_BCTW: Tensor) -> Tensor:
        """Map ``T + 1`` frames, the first one carried, to ``T / 2``."""
        x_BCTW = F.pad(input_BCTW, _BANDS_PADDING)
        if self.depthwise is not None:
            x_BCTW = self.depthwise(x_BCTW)
        return F.relu(self.mixing(x_BCTW))


class Stem(nn.Module):
    """Turns mel frames into encoder frames.

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
        """Channels and bands of the frame that each stage carries."""
        self.tail_sizes = [count * width for count, width in self.tail_shapes]
        self.out = nn.Linear(channels[-1] * bands[-1], config.dim)

    def forward(
        self, mel_BTM: Tensor, first_B: Tensor, end_B: Tensor, tail_BX: Tensor
    ) -> tuple[Tensor, list[StageInput]]:
        """Return encoder frames [B, T, D] and the inputs of the stages.

        Args:
            mel_BTM: a whole number of encoder frames.
            first_B: each row's first valid mel frame; the input of every stage is zero before it.
            end_B: the end of its valid mel frames; the input of each stage is zero after its own last frame.
            tail_BX: the carried frames, from :meth:`tails` of the last step; zeros at a stream's start.
        """
        x_BCTW = mel_BTM.unsqueeze(1)
        inputs = []
        old_tails = torch.split(tail_BX, self.tail_sizes, dim=1)
        for stage, shape, tail in zip(self.stages, self.tail_shapes, old_tails, strict=True):
            time_T = torch.arange(x_BCTW.shape[2], device=mel_BTM.device)
            valid_BT = (time_T >= first_B[:, None]) & (time_T < end_B[:, None])
            x_BCTW = x_BCTW * valid_BT[:, None, :, None]
            input_BCTW = torch.cat((tail.view(-1, shape[0], 1, shape[1]).to(x_BCTW.dtype), x_BCTW), dim=2)
            inputs.append(StageInput(input_BCTW, end_B))
            x_BCTW = stage(input_BCTW)
            first_B, end_B = first_B // _STRIDE, (end_B + 1) // _STRIDE
        return self.out(x_BCTW.transpose(1, 2).flatten(2)), inputs

    def tails(self, inputs: list[StageInput]) -> Tensor:
        """The frames [B, X] that the stages carry to the next step."""
        return torch.cat([newest(stage.frames_BCTW, stage.end_B, 1).flatten(1) for stage in inputs], dim=1)
