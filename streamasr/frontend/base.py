"""What every front end offers: samples to frames of features, with a carried tail that is a value.

Shape suffixes: B batch, S samples, T frames, M features.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor, nn

from streamasr.config import AnyFrontendConfig

MelState = Any
"""A NamedTuple of tensors, batch as dim 0 of every leaf; only its own front end looks inside."""


class FrontEnd(nn.Module, ABC):
    """Samples to frames; any split of a stream's samples gives the same frames."""

    config: AnyFrontendConfig

    @abstractmethod
    def initial_state(self, batch: int, left_padding_samples: int = 0) -> MelState:
        """The state of ``batch`` new streams; their first step has this many zeros before the first sample."""

    @abstractmethod
    def step(
        self, state: MelState, pcm_BS: Tensor, lengths_B: Tensor | None = None
    ) -> tuple[MelState, Tensor]:
        """Frames of the next samples of each stream.

        Args:
            state: what :meth:`initial_state` or the last call gave.
            pcm_BS: float32 samples in -1..1, a whole number of hops.
            lengths_B: how many of them are there, the lead included; a row with fewer than S is at its end. All are
                by default.

        Returns:
            The new state and ``mel_BTM`` with ``T = S / hop``.
        """

    @abstractmethod
    def forward(self, pcm_BS: Tensor, lengths_B: Tensor | None = None) -> Tensor:
        """``mel_BTM`` of whole utterances side by side, of the first ``lengths_B`` samples of each row.

        How many frames of a row count is for :meth:`streamasr.framing.Framing.mel_frames` to say.
        """
