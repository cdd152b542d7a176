"""Step an encoder's slots through the interface of encoders whose states are values, to compare the two."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from streamasr.acoustic.in_place import NativeEncoder
from streamasr.acoustic.interface import AnyStreamingEncoder, EncoderSlots, StepOutput


def step_slots(
    slots: EncoderSlots,
    numbers: Sequence[int],
    mel_BTM: Tensor,
    lengths_B: Tensor,
    advance_B: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Step slots with tensors."""
    counts = None if advance_B is None else advance_B.numpy()
    log_probs_BTV, frames_B = slots.step(numbers, mel_BTM, lengths_B.numpy(), counts)
    return torch.from_numpy(log_probs_BTV), torch.from_numpy(frames_B)


class SlotsState(tuple[Tensor, ...]):
    """The slots of a batch, as a state with one leaf that shows the precision of the encoder's input."""

    slots: EncoderSlots

    def __new__(cls, slots: EncoderSlots) -> SlotsState:
        state = super().__new__(cls, (torch.zeros(1),))
        state.slots = slots
        return state


class InSlots:
    """The streaming step of ``encoder``: each initial state is a batch of new slots, which steps update."""

    supports_whole_utterances = False

    def __init__(self, encoder: AnyStreamingEncoder) -> None:
        assert isinstance(encoder, NativeEncoder)
        self._encoder = encoder
        self.arithmetic = encoder.arithmetic
        self.vocab_size = encoder.vocab_size
        self.subsampling = encoder.subsampling
        self.left_padding_frames = encoder.left_padding_frames
        self.chunk_frames = encoder.chunk_frames
        self.hops_per_chunk = encoder.hops_per_chunk
        self.parameter_count = encoder.parameter_count

    def initial_state(self, batch: int) -> SlotsState:
        slots: EncoderSlots = self._encoder.open_slots(batch)
        for slot in range(batch):
            slots.reset(slot)
        return SlotsState(slots)

    def step(
        self, state: SlotsState, mel_BTM: Tensor, lengths_B: Tensor, advance_B: Tensor | None = None
    ) -> StepOutput[SlotsState]:
        log_probs_BTV, frames_B = step_slots(state.slots, range(len(mel_BTM)), mel_BTM, lengths_B, advance_B)
        return StepOutput(state, log_probs_BTV, frames_B)

    def forward(self, mel_BTM: Tensor, lengths_B: Tensor, chunk_frames: int | None) -> tuple[Tensor, Tensor]:
        raise AssertionError("slots only stream")
