"""Define the interface of every front end: samples to frames of features, with a carried state that is a value.

Shape suffixes: B batch, S samples, T frames, M features.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Generic, TypeAlias, TypeVar

import torch
from torch import Tensor, nn

from streamasr.config import AnyFrontendConfig

M = TypeVar("M", bound=tuple[Tensor, ...])
"""A front end's state: a NamedTuple of tensors, batch as dim 0 of every leaf; only its own front end looks inside."""


class FrontEnd(nn.Module, ABC, Generic[M]):
    """Turns samples into frames. Any split of a stream's samples gives the same frames."""

    config: AnyFrontendConfig
    filters_FM: Tensor
    """The mel filters: the weight of each of the spectrum's F = n_fft / 2 + 1 bins in each band."""

    @property
    def band_hz_M(self) -> Tensor:
        """The centre frequency of each mel band, ascending: the mean over its filter."""
        bin_hz_F = torch.linspace(0, self.config.sample_rate / 2, len(self.filters_FM)).to(self.filters_FM)
        hz_M = (bin_hz_F @ self.filters_FM) / self.filters_FM.sum(dim=0)
        return hz_M.float()

    @abstractmethod
    def initial_state(self, batch: int, left_padding_samples: int = 0) -> M:
        """The state of ``batch`` new streams; their first step has this many zeros before the first sample."""

    @abstractmethod
    def step(self, state: M, pcm_BS: Tensor, lengths_B: Tensor | None = None) -> tuple[M, Tensor]:
        """Compute the frames of the next samples of each stream.

        Args:
            state: from :meth:`initial_state` or the last call.
            pcm_BS: float32 samples in -1..1, a whole number of hops.
            lengths_B: valid samples of each row, left padding included; a row with fewer than S is at its end.
                By default all are valid.

        Returns:
            The new state and ``mel_BTM`` with ``T = S / hop``.
        """

    @abstractmethod
    def forward(self, pcm_BS: Tensor, lengths_B: Tensor | None = None) -> Tensor:
        """Compute ``mel_BTM`` of whole utterances, of the first ``lengths_B`` samples of each row.

        :meth:`streamasr.framing.Framing.mel_frames` gives the number of valid frames of a row.
        """


AnyFrontEnd: TypeAlias = FrontEnd[Any]
"""A front end whose state the code hands back to it without looking inside."""
