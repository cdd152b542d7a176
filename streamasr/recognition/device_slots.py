"""Step the encoder on a GPU with the states of all streams in slots on the device, replaying recorded steps.

A step of a large model is some hundred small operations, each of which takes longer to launch than to compute. A CUDA
graph launches all of them at once, but only with the same tensors of the same sizes. So batches are padded to a power
of two, inputs are copied into tensors that stay, and a graph is recorded for each size of batch and chunk that occurs
more than once or twice.

Not thread-safe: the caller uses one thread at a time. Shape suffixes: B batch, P padded batch, T mel frames or
encoder frames, M mel bands, V tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from streamasr.acoustic.interface import AnyArray, AnyStreamingEncoder, FrameCounts
from streamasr.recognition.slots import SlotStates, to_device, to_host

STEPS_BEFORE_RECORDING = 2
"""Steps of a size before it is recorded: the libraries choose their algorithms and allocate memory in the first one,
and sizes that occur once, as at the end of a stream, are not worth a recording."""
MAX_GRAPHS = 128
"""Recorded sizes at most; steps of further sizes are launched one operation at a time."""


def padded_batch(batch: int) -> int:
    """Return the size of the padded batch: the next power of two."""
    return 1 << (batch - 1).bit_length()


class DeviceSlots:
    """Implements :class:`~streamasr.acoustic.interface.EncoderSlots`.

    Args:
        encoder: the encoder, on ``device``. Its step must not look at values on the device.
        slots: number of slots.
        device: where the encoder computes.
        record: replay CUDA graphs; without it, every step is launched one operation at a time, as on a CPU.
    """

    def __init__(self, encoder: AnyStreamingEncoder, slots: int, device: str, *, record: bool) -> None:
        self._encoder = encoder
        self._device = torch.device(device)
        # One more slot, for the rows that pad a batch.
        self._spare = slots
        self._states = SlotStates(encoder.initial_state(1), slots + 1)
        self._states.reset(self._spare)
        self._record = record
        self._steps: dict[tuple[int, int, bool], _SizedStep] = {}
        self.graphs = 0
        """Recorded sizes."""

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
        B, T, M = mel_BTM.shape
        P = padded_batch(B)
        key = (P, T, advance_B is not None)
        sized = self._steps.get(key)
        if sized is None:
            sized = _SizedStep(self._encoder, self._states, torch.zeros(P, T, M, device=self._device))
            self._steps[key] = sized
        rows_3P = np.zeros((3, P), dtype=np.int64)
        rows_3P[0] = self._spare
        rows_3P[0, :B] = slots
        rows_3P[1, :B] = lengths_B
        rows_3P[2, :B] = lengths_B if advance_B is None else advance_B
        sized.mel_PTM[:B] = torch.as_tensor(mel_BTM, device=self._device)
        sized.rows_3P.copy_(to_device(rows_3P, self._device))
        record = self._record and self.graphs < MAX_GRAPHS
        self.graphs += sized.run(look_ahead=advance_B is not None, record=record)
        return to_host(sized.log_probs_PTV[:B].float()), to_host(sized.frames_P[:B])


class _SizedStep:
    """The step of one size of batch and chunk, with the tensors that it reads and writes."""

    log_probs_PTV: Tensor
    frames_P: Tensor

    def __init__(self, encoder: AnyStreamingEncoder, states: SlotStates[Any], mel_PTM: Tensor) -> None:
        self._encoder = encoder
        self._states = states
        self.mel_PTM = mel_PTM
        self.rows_3P = torch.zeros(3, len(mel_PTM), dtype=torch.long, device=mel_PTM.device)
        """Slot, length and advance of each row."""
        self._launched = 0
        self._graph: torch.cuda.CUDAGraph | None = None

    def run(self, *, look_ahead: bool, record: bool) -> bool:
        """Step once. Return whether the step was recorded now."""
        recorded = False
        if self._graph is None and record and self._launched >= STEPS_BEFORE_RECORDING:
            graph = torch.cuda.CUDAGraph()
            # Other threads may use the device meanwhile. Recording computes nothing.
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                self._launch(look_ahead)
            self._graph, recorded = graph, True
        if self._graph is None:
            self._launch(look_ahead)
            self._launched += 1
        else:
            self._graph.replay()
        return recorded

    def _launch(self, look_ahead: bool) -> None:
        slots_P, lengths_P, advance_P = self.rows_3P
        state, self.log_probs_PTV, self.frames_P = self._encoder.step(
            self._states.at(slots_P), self.mel_PTM, lengths_P, advance_P if look_ahead else None
        )
        self._states.put(slots_P, state)
