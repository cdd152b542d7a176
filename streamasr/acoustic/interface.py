"""Define what an encoder is to the code that runs it, without PyTorch, which not every encoder needs.

Shape suffixes: B batch, T mel frames or encoder frames, M mel bands, V tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, TypeAlias, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

AnyArray: TypeAlias = Any
"""A NumPy array or a tensor."""
FrameCounts: TypeAlias = NDArray[np.int64]
"""The number of mel or encoder frames of each row [B]."""
S = TypeVar("S", bound="tuple[Tensor, ...]")
"""An encoder's state: a NamedTuple of tensors, batch as dim 0 of every leaf; only its own encoder looks inside."""


class StepOutput(NamedTuple, Generic[S]):
    """The new ``state``, natural-log ``log_probs_BTV``, and the number of valid frames of each row."""

    state: S
    log_probs_BTV: Tensor
    lengths_B: Tensor


class Arithmetic(NamedTuple):
    """How an encoder computes."""

    backend: str
    """``torch``, ``onnxruntime`` or ``native``."""
    precision: str
    """Of the weights: ``float32``, ``bfloat16`` or ``int8``."""
    instructions: str = ""
    """The processor's instructions that are used, where the backend names them."""


class StreamingEncoder(Protocol[S]):
    """Turns mel frames into CTC log-probs, with a rolling state that is a value."""

    vocab_size: int
    """Tokens V, the blank included."""
    subsampling: int
    """Mel frames of one encoder frame."""
    left_padding_frames: int
    """Mel frames of padding before the first real frame of a stream's first step; their values have no effect."""
    chunk_frames: tuple[int, ...]
    """Chunk sizes that a session may choose from, in encoder frames, ascending."""
    arithmetic: Arithmetic
    """Backend and precision, for reports."""
    hops_per_chunk: int
    """Hops of one chunk: each step moves a stream on by one hop; the rest of the chunk is look-ahead. 1 for none."""

    @property
    def parameter_count(self) -> int:
        """The number of weights."""

    @property
    def supports_whole_utterances(self) -> bool:
        """Whether :meth:`forward` works; an exported graph without the model's weights can only stream."""

    def initial_state(self, batch: int) -> S:
        """The state of ``batch`` new streams, on the encoder's device."""

    def step(
        self, state: S, mel_BTM: Tensor, lengths_B: Tensor, advance_B: Tensor | None = None
    ) -> StepOutput[S]:
        """Encode one chunk of each of B streams: T mel frames, the first ``lengths_B`` of which are valid.

        The streams advance by ``advance_B`` mel frames, a whole number of encoder frames; by default by all valid
        frames. The frames after them are look-ahead: the next step gets them again. Needs ``hops_per_chunk`` above 1.

        T is a whole number of encoder frames, at most a chunk. A row may be shorter, and the last one of a stream may
        end inside an encoder frame. Left padding counts as part of a row. Rows do not influence one another.
        """

    def forward(self, mel_BTM: Tensor, lengths_B: Tensor, chunk_frames: int | None) -> tuple[Tensor, Tensor]:
        """Encode whole utterances, without left padding, under the mask of streaming in ``chunk_frames`` chunks.

        Returns ``(log_probs_BTV, lengths_B)``. With ``chunk_frames=None`` every frame sees the whole utterance.

        Raises:
            ConfigError: the encoder does not support whole utterances.
        """


class EncoderSlots(Protocol):
    """The states of a fixed number of streams, each in a slot, and the step that updates them in place.

    A slot's content is undefined before its first reset.
    """

    def reset(self, slot: int) -> None:
        """Begin a new stream in ``slot``."""

    def step(
        self,
        slots: Sequence[int],
        mel_BTM: AnyArray,
        lengths_B: FrameCounts,
        advance_B: FrameCounts | None = None,
    ) -> tuple[NDArray[np.floating[Any]], FrameCounts]:
        """Do what :meth:`StreamingEncoder.step` does for the streams in ``slots``, which differ.

        Returns ``log_probs_BTV`` and the valid frames of each row. The values after them are undefined.
        """


@runtime_checkable
class InPlaceEncoder(Protocol):
    """An encoder that keeps the states of streams itself. Other encoders have theirs copied at each step."""

    def open_slots(self, slots: int) -> EncoderSlots:
        """Return room for the states of ``slots`` streams."""


AnyStreamingEncoder: TypeAlias = StreamingEncoder[Any]
"""An encoder whose state the code hands back to it without looking inside."""
