"""What every encoder family offers. Nothing outside ``acoustic`` may know which family runs.

Shape suffixes: B batch, T mel frames or encoder frames, M mel bands, D model width, V tokens.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NamedTuple, Protocol

import torch.nn.functional as F
from torch import Tensor, nn

from streamasr.config import EncoderConfig

State = Any
"""A NamedTuple of tensors, batch as dim 0 of every leaf; only its own encoder looks inside."""


class StepOutput(NamedTuple):
    """What one step gives: ``state``, natural-log ``log_probs_BTV`` and how many of its frames count."""

    state: State
    log_probs_BTV: Tensor
    lengths_B: Tensor


class Encoded(NamedTuple):
    """What :meth:`Encoder.encode` gives."""

    hidden_BTD: Tensor
    """Before the CTC head."""
    lengths_B: Tensor
    """Frames of each row."""
    tapped_BTD: Tensor | None
    """After the layer that was asked for, as the head takes it."""


class StreamingEncoder(Protocol):
    """Mel frames in, CTC log-probs out, with a rolling state that is a value."""

    subsampling: int
    """Mel frames for one encoder frame."""
    left_padding_frames: int
    """Mel frames of a stream's first step that come before its first real one; what they hold means nothing."""
    chunk_frames: tuple[int, ...]
    """Chunk sizes a session may choose from, in encoder frames, rising."""
    hops_per_chunk: int
    """A stream moves on by this part of a chunk at a time, and what is behind it is look-ahead; 1 for none."""

    def initial_state(self, batch: int) -> State:
        """The state of ``batch`` streams that have heard nothing, on the encoder's device."""

    def step(
        self, state: State, mel_BTM: Tensor, lengths_B: Tensor, advance_B: Tensor | None = None
    ) -> StepOutput:
        """One chunk of each of B streams, T mel frames of which the first ``lengths_B`` count.

        The streams move on by ``advance_B`` mel frames, whole encoder frames; by all that count if it is not given.
        Those behind are look-ahead: the next step hears them again. Only for ``hops_per_chunk`` above 1.

        T is a whole number of encoder frames, at most a chunk. A row may be shorter, and end inside an encoder frame
        if it is its stream's last; the lead counts as part of it. A row's result does not depend on its neighbours.
        """

    def forward(self, mel_BTM: Tensor, lengths_B: Tensor, chunk_frames: int | None) -> tuple[Tensor, Tensor]:
        """Whole utterances (without a lead) under the mask that streaming in chunks of ``chunk_frames`` gives.

        Returns ``(log_probs_BTV, lengths_B)``; ``chunk_frames=None`` lets every frame see the whole utterance.
        """


class Encoder(nn.Module, ABC):
    """A family as this project builds and trains it; implements :class:`StreamingEncoder`.

    Args:
        config: sizes and chunking.
        vocab_size: tokens V, the blank included.
    """

    config: EncoderConfig
    blocks: nn.ModuleList
    """The layers, first one first."""
    head: nn.Linear

    def __init__(self, config: EncoderConfig, vocab_size: int) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        self.chunk_frames = config.chunk_frames
        self.subsampling = config.subsampling
        self.left_padding_frames = config.left_padding_frames
        self.hops_per_chunk = config.hops_per_chunk

    @abstractmethod
    def initial_state(self, batch: int) -> State:
        """See :class:`StreamingEncoder`."""

    @abstractmethod
    def step(
        self, state: State, mel_BTM: Tensor, lengths_B: Tensor, advance_B: Tensor | None = None
    ) -> StepOutput:
        """See :class:`StreamingEncoder`."""

    @abstractmethod
    def encode(
        self,
        mel_BTM: Tensor,
        lengths_B: Tensor,
        chunk_frames: int | Tensor | None,
        position_B: Tensor | None = None,
        *,
        tap_layer: int | None = None,
        checkpoint_layers: bool = False,
    ) -> Encoded:
        """Hidden states [B, T, D] of whole utterances under the streaming mask, for training.

        Args:
            mel_BTM: as for :meth:`forward`, like the next two.
            lengths_B: mel frames of each row.
            chunk_frames: one size, or one for every row.
            position_B: where in the position table each row begins, for families that have one; 0 by default.
            tap_layer: give the states after so many layers, too.
            checkpoint_layers: keep no inner values of the layers for the backward pass but compute them again.
        """

    def forward(
        self, mel_BTM: Tensor, lengths_B: Tensor, chunk_frames: int | Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Whole utterances under the streaming mask; see :class:`StreamingEncoder`.

        ``chunk_frames`` may also be a tensor [B]: a chunk size for every row.
        """
        encoded = self.encode(mel_BTM, lengths_B, chunk_frames)
        return self.log_probs(encoded.hidden_BTD), encoded.lengths_B

    def compile_layers(self) -> None:
        """Compile what :meth:`encode` calls for every layer: once, since all layers share the code."""
        for block in self.blocks:
            block.compile(dynamic=True)

    def log_probs(self, hidden_BTD: Tensor) -> Tensor:
        """Natural-log token probabilities [B, T, V] of hidden states, always in float32."""
        return F.log_softmax(self.head(hidden_BTD).float(), dim=-1)
