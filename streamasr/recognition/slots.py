"""Keep the tensor states of all streams in a fixed number of slots, one tensor per leaf, written in place.

Not thread-safe: the caller uses one thread at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

import torch
from torch import Tensor

from streamasr.acoustic.base import AnyStreamingEncoder, EncoderSlots, InPlaceEncoder

S = TypeVar("S", bound=tuple[Tensor, ...])
"""A NamedTuple of tensors, batch as dim 0 of every leaf."""


class SlotStates(Generic[S]):
    """The states of ``slots`` streams, stored together so that any of them can step in one batch.

    A slot's content is undefined before :meth:`reset`. A reset leaves nothing of the slot's former stream.

    Args:
        initial: the initial state of one stream.
        slots: number of slots.
    """

    def __init__(self, initial: S, slots: int) -> None:
        assert all(leaf.shape[0] == 1 for leaf in initial), "the initial state is that of one stream"
        self._initial = initial
        # Not filled, so that the memory of slots never used is never touched.
        self._leaves: list[Tensor] = [leaf.new_empty((slots, *leaf.shape[1:])) for leaf in initial]

    def reset(self, slot: int) -> None:
        """Set ``slot`` to the initial state."""
        for leaf, initial in zip(self._leaves, self._initial, strict=True):
            leaf[slot] = initial[0]

    def gather(self, slots: Sequence[int]) -> S:
        """Return a copy of the states of ``slots``, in their order."""
        return type(self._initial)(*(leaf[self._index(slots)] for leaf in self._leaves))

    def write(self, slots: Sequence[int], state: S) -> None:
        """Store the new states of ``slots``, in their order."""
        index = self._index(slots)
        for leaf, rows in zip(self._leaves, state, strict=True):
            leaf[index] = rows

    def _index(self, slots: Sequence[int]) -> Tensor:
        return torch.tensor(slots, dtype=torch.long, device=self._leaves[0].device)


class CopiedSlots:
    """Implements :class:`~streamasr.acoustic.base.EncoderSlots` for encoders whose states are values."""

    def __init__(self, encoder: AnyStreamingEncoder, slots: int) -> None:
        self._encoder = encoder
        self._states = SlotStates(encoder.initial_state(1), slots)

    def reset(self, slot: int) -> None:
        """See the Protocol."""
        self._states.reset(slot)

    def step(
        self, slots: Sequence[int], mel_BTM: Tensor, lengths_B: Tensor, advance_B: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """See the Protocol."""
        state, log_probs_BTV, frames_B = self._encoder.step(
            self._states.gather(slots), mel_BTM, lengths_B, advance_B
        )
        self._states.write(slots, state)
        return log_probs_BTV, frames_B


def encoder_slots(encoder: AnyStreamingEncoder, slots: int) -> EncoderSlots:
    """Return room for ``slots`` streams: the encoder's own, if it updates states in place."""
    return encoder.open_slots(slots) if isinstance(encoder, InPlaceEncoder) else CopiedSlots(encoder, slots)
