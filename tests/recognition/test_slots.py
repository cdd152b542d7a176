"""Slots keep states in place, and a reset slot holds the initial state."""

from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from streamasr.recognition.slots import SlotStates


class _State(NamedTuple):
    count_B: Tensor
    cache_BTD: Tensor


def _initial() -> _State:
    return _State(torch.zeros(1, dtype=torch.long), torch.full((1, 2, 3), 0.5))


def test_a_reset_slot_holds_the_initial_state_and_others_stay() -> None:
    slots = SlotStates(_initial(), 3)
    for slot in range(3):
        slots.reset(slot)
    slots.write([1, 2], _State(torch.tensor([7, 8]), torch.ones(2, 2, 3)))
    slots.reset(1)
    state = slots.gather([1, 2])
    assert state.count_B.tolist() == [0, 8]
    assert torch.equal(state.cache_BTD[0], _initial().cache_BTD[0])
    assert torch.equal(state.cache_BTD[1], torch.ones(2, 3))


def test_gathered_rows_have_the_requested_order() -> None:
    slots = SlotStates(_initial(), 4)
    slots.write([3, 0, 2], _State(torch.tensor([30, 0, 20]), torch.zeros(3, 2, 3)))
    assert slots.gather([2, 3, 0]).count_B.tolist() == [20, 30, 0]


def test_gathered_states_are_copies() -> None:
    slots = SlotStates(_initial(), 1)
    slots.reset(0)
    state = slots.gather([0])
    state.count_B.add_(5)
    assert slots.gather([0]).count_B.tolist() == [0]


def test_the_initial_state_must_be_of_one_stream() -> None:
    with pytest.raises(AssertionError, match="one stream"):
        SlotStates(_State(torch.zeros(2), torch.zeros(2, 1, 1)), 3)
