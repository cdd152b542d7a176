"""Define the base class of every encoder family. Code outside ``acoustic`` uses nothing else of a family.

Shape suffixes: B batch, T mel frames or encoder frames, M mel bands, D model width, V tokens.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Generic, Literal, NamedTuple, TypeAlias

import torch.nn.functional as F
from torch import Tensor, nn

from streamasr.acoustic.interface import Arithmetic, S, StepOutput
from streamasr.config import EncoderConfig


class Encoded(NamedTuple):
    """The result of :meth:`Encoder.encode`."""

    hidden_BTD: Tensor
    """Before the CTC head."""
    lengths_B: Tensor
    """Frames of each row."""
    tapped_BTD: Tensor | None
    """After the layer that ``tap_layer`` names, as input for the head."""


class ParameterGroup(NamedTuple):
    """Parameters at one depth of an encoder, by their names."""

    part: Literal["stem", "layers", "head"]
    """``layers`` includes what lies between the last layer and the head."""
    depth: int
    """Layers between this group and the top: 0 for the last layer, the number of layers for the stem."""
    parameters: dict[str, nn.Parameter]


class Encoder(nn.Module, ABC, Generic[S]):
    """Base class of the families that this project builds and trains; implements :class:`StreamingEncoder`.

    Args:
        config: sizes and chunking.
        vocab_size: tokens V, the blank included.
    """

    config: EncoderConfig
    blocks: nn.ModuleList
    """The layers, bottom first."""
    head: nn.Linear
    supports_whole_utterances = True
    arithmetic = Arithmetic("torch", "float32")

    def __init__(self, config: EncoderConfig, vocab_size: int) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        self.chunk_frames = config.chunk_frames
        self.subsampling = config.subsampling
        self.left_padding_frames = config.left_padding_frames
        self.hops_per_chunk = config.hops_per_chunk

    @property
    def parameter_count(self) -> int:
        """See :class:`StreamingEncoder`."""
        return sum(weight.numel() for weight in self.parameters())

    @property
    @abstractmethod
    def stem_modules(self) -> tuple[nn.Module, ...]:
        """The modules below the layers that turn mel frames into encoder frames."""

    def parameter_groups(self) -> list[ParameterGroup]:
        """The parameters by depth, from the stem to the head; each parameter is in one group."""
        layers = len(self.blocks)
        places: dict[nn.Parameter, tuple[Literal["stem", "layers", "head"], int]] = {}
        for stem in self.stem_modules:
            places.update(dict.fromkeys(stem.parameters(), ("stem", layers)))
        for layer, block in enumerate(self.blocks):
            places.update(dict.fromkeys(block.parameters(), ("layers", layers - 1 - layer)))
        places.update(dict.fromkeys(self.head.parameters(), ("head", 0)))
        groups: dict[tuple[Literal["stem", "layers", "head"], int], ParameterGroup] = {}
        for name, parameter in self.named_parameters():
            place = places.get(parameter, ("layers", 0))
            groups.setdefault(place, ParameterGroup(*place, {})).parameters[name] = parameter
        return list(groups.values())

    def translate_weights(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return pretrained ``weights`` under this encoder's names; families whose original names differ override it.

        Raises:
            ModelError: weights in the original layout are incomplete.
        """
        return weights

    @abstractmethod
    def initial_state(self, batch: int) -> S:
        """See :class:`StreamingEncoder`."""

    @abstractmethod
    def step(
        self, state: S, mel_BTM: Tensor, lengths_B: Tensor, advance_B: Tensor | None = None
    ) -> StepOutput[S]:
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
        """Compute the hidden states [B, T, D] of whole utterances under the streaming mask, for training.

        Args:
            mel_BTM: as for :meth:`forward`.
            lengths_B: valid mel frames of each row.
            chunk_frames: one chunk size for all rows, or a tensor [B] with one for each.
            position_B: the row's start in the position table, for families that have one; 0 by default.
            tap_layer: also return the states after this many layers.
            checkpoint_layers: save memory: recompute activations inside the layers in the backward pass.
        """

    def forward(
        self, mel_BTM: Tensor, lengths_B: Tensor, chunk_frames: int | Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Encode whole utterances under the streaming mask; see :class:`StreamingEncoder`.

        ``chunk_frames`` may also be a tensor [B]: one chunk size for each row.
        """
        encoded = self.encode(mel_BTM, lengths_B, chunk_frames)
        return self.log_probs(encoded.hidden_BTD), encoded.lengths_B

    def compile_layers(self) -> None:
        """Compile the layers for :meth:`encode`. All layers share one compiled function."""
        for block in self.blocks:
            block.compile(dynamic=True)

    def log_probs(self, hidden_BTD: Tensor) -> Tensor:
        """Return natural-log token probabilities [B, T, V] of hidden states, always in float32."""
        return F.log_softmax(self.head(hidden_BTD).float(), dim=-1)


AnyEncoder: TypeAlias = Encoder[Any]
"""An encoder of the families that this project trains, whose state the code does not look into."""
