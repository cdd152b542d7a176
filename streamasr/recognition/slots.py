"""Keep the tensor states of all streams in a fixed number of slots, one tensor per leaf, written in place.

Not thread-safe: the caller uses one thread at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from streamasr.acoustic.interface import AnyArray, AnyStreamingEncoder, FrameCounts
from streamasr.frontend.base import AnyFrontEnd
from streamasr.recognition.frontend_slots import PaddedSamples

S = TypeVar("S", bound=tuple[Tensor, ...])
"""A NamedTuple of tensors, batch as dim 0 of every leaf."""


def to_device(array: NDArray[Any], device: torch.device) -> Tensor:
    """Return an array as a tensor on ``device``; its transfer to a GPU does not block the caller."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def to_host(tensor: Tensor) -> NDArray[Any]:
    """Return a copy of a tensor as an array, when the device has computed it."""
    copy = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda).copy_(
        tensor, non_blocking=True
    )
    if tensor.is_cuda:
        torch.cuda.current_stream(tensor.device).synchronize()
    result: NDArray[Any] = copy.numpy()
    return result


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
        return self.at(self._index(slots))

    def at(self, slots_B: Tensor) -> S:
        """Return a copy of the states of the slots in a tensor of integers on the device."""
        return type(self._initial)(*(leaf.index_select(0, slots_B) for leaf in self._leaves))

    def write(self, slots: Sequence[int], state: S) -> None:
        """Store the new states of ``slots``, in their order."""
        self.put(self._index(slots), state)

    def put(self, slots_B: Tensor, state: S) -> None:
        """Store the new states of the slots in a tensor of integers on the device."""
        for leaf, rows in zip(self._leaves, state, strict=True):
            leaf.index_copy_(0, slots_B, rows)

    def _index(self, slots: Sequence[int]) -> Tensor:
        return to_device(np.array(slots, dtype=np.int64), self._leaves[0].device)


class CopiedSlots:
    """Implements :class:`~streamasr.acoustic.interface.EncoderSlots` for encoders whose states are values.

    Args:
        encoder: the encoder.
        slots: number of slots.
        device: where the encoder computes.
    """

    def __init__(self, encoder: AnyStreamingEncoder, slots: int, device: str) -> None:
        self._encoder = encoder
        self._states = SlotStates(encoder.initial_state(1), slots)
        self._device = torch.device(device)

    def reset(self, slot: int) -> None:
        """See the Protocol."""
        self._states.reset(slot)

    @torch.inference_mode()
    def step(
        self,
        slots: Sequence[int],
        mel_BTM: AnyArray,
        lengths_B: FrameCounts,
        advance_B: FrameCounts | None = None,
    ) -> tuple[NDArray[np.floating[Any]], FrameCounts]:
        """See the Protocol."""
        state, log_probs_BTV, frames_B = self._encoder.step(
            self._states.gather(slots),
            torch.as_tensor(mel_BTM, device=self._device),
            torch.as_tensor(lengths_B, device=self._device),
            None if advance_B is None else torch.as_tensor(advance_B, device=self._device),
        )
        self._states.write(slots, state)
        return to_host(log_probs_BTV.float()), to_host(frames_B)


class TorchFrontEndSlots:
    """Implements :class:`~streamasr.recognition.frontend_slots.FrontEndSlots` with a front end in PyTorch.

    Args:
        frontend: the front end.
        slots: number of slots.
        left_padding_samples: zeros before the first sample of each stream.
        device: where the front end computes.
    """

    def __init__(self, frontend: AnyFrontEnd, slots: int, left_padding_samples: int, device: str) -> None:
        self._frontend = frontend
        self._states = SlotStates(frontend.initial_state(1, left_padding_samples), slots)
        self._device = torch.device(device)

    def reset(self, slot: int) -> None:
        """See the Protocol."""
        self._states.reset(slot)

    @torch.inference_mode()
    def step(self, slots: Sequence[int], first: PaddedSamples, rest: PaddedSamples | None) -> Tensor:
        """See the Protocol."""
        state, mel_BTM = self._run(self._states.gather(slots), first)
        self._states.write(slots, state)
        return mel_BTM if rest is None else torch.cat((mel_BTM, self._run(state, rest)[1]), dim=1)

    def _run(self, state: Any, padded: PaddedSamples) -> tuple[Any, Tensor]:
        samples_BS, ends_B = (
            to_device(padded.samples_BS, self._device),
            to_device(padded.ends_B, self._device),
        )
        return self._frontend.step(state, samples_BS, ends_B)
