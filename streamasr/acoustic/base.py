"""What every encoder family offers. Nothing outside ``acoustic`` may know which family runs.

Shape suffixes: B batch, T mel frames or encoder frames, M mel bands, V tokens.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from torch import Tensor

State = Any
"""A NamedTuple of tensors, batch as dim 0 of every leaf; only its own encoder looks inside."""


class StepOutput(NamedTuple):
    """What one step gives: ``state``, natural-log ``log_probs_BTV`` and how many of its frames count."""

    state: State
    log_probs_BTV: Tensor
    lengths_B: Tensor


class StreamingEncoder(Protocol):
    """Mel frames in, CTC log-probs out, with a rolling state that is a value."""

    subsampling: int
    """Mel frames for one encoder frame."""
    chunk_frames: tuple[int, ...]
    """Chunk sizes a session may choose from, in encoder frames, rising."""

    def initial_state(self, batch: int) -> State:
        """The state of ``batch`` streams that have heard nothing, on the encoder's device."""

    def step(self, state: State, mel_BTM: Tensor, lengths_B: Tensor) -> StepOutput:
        """One chunk of each of B streams, T mel frames of which the first ``lengths_B`` are real.

        Rows may be of different lengths, whole numbers of encoder frames each. A row's result does not
        depend on its neighbours.
        """

    def forward(self, mel_BTM: Tensor, lengths_B: Tensor, chunk_frames: int | None) -> tuple[Tensor, Tensor]:
        """Whole utterances under the mask that streaming in chunks of ``chunk_frames`` gives.

        Returns ``(log_probs_BTV, lengths_B)``; ``chunk_frames=None`` lets every frame see the whole utterance.
        """
