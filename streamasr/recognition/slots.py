"""The tensor states of all sessions: a fixed number of slots, one tensor a leaf. Written in place.

Knows neither sessions nor audio. Used by one thread at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

import torch
from torch import Tensor

S = TypeVar("S", bound=tuple[Tensor, ...])
"""A NamedTuple of tensors, batch as dim 0 of every leaf."""


class SlotStates(Generic[S]):
    """The states of ``slots`` streams, kept together so that any of them can step in one batch.

    A slot holds nothing of use before :meth:`reset`; after it, nothing of what was there before.

    Args:
        initial: the state of one stream that has heard nothing.
        slots: how many there are.
    """

    def __init__(self, initial: S, slots: int) -> None:
        assert all(leaf.shape[0] == 1 for leaf in initial), "the initial state is that of one stream"
        self._initial = initial
        # Not filled: memory of a slot that is never used is never touched.
        self._leaves: list[Tensor] = [leaf.new_empty((slots, *leaf.shape[1:])) for leaf in initial]

    def reset(self, slot: int) -> None:
        """Begin a stream in ``slot``."""
        for leaf, initial in zip(self._leaves, self._initial, strict=True):
            leaf[slot] = initial[0]

    def gather(self, slots: Sequence[int]) -> S:
        """A copy of the states of ``slots``, in their order."""
        return type(self._initial)(*(leaf[self._index(slots)] for leaf in self._leaves))

    def write(self, slots: Sequence[int], state: S) -> None:
        """Put back what :meth:`gather` gave, one step later."""
        index = self._index(slots)
        for leaf, rows in zip(self._leaves, state, strict=True):
            leaf[index] = rows

    def _index(self, slots: Sequence[int]) -> Tensor:
        return torch.tensor(slots, dtype=torch.long, device=self._leaves[0].device)
