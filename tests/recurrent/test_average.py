"""The moving average forgets the first weights soon, and then decays as set."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from streamasr.recurrent.average import moving_average


def average_after(values: list[float], decay: float) -> float:
    network = nn.Linear(1, 1, bias=False)
    average = moving_average(network, decay)
    for value in values:
        with torch.no_grad():
            network.weight.fill_(value)
        average.update_parameters(network)
    (weight,) = average.module.parameters()
    return float(weight.detach())


def test_a_short_run_forgets_the_weights_it_began_with() -> None:
    assert average_after([5.0, 1.0], decay=0.999) == pytest.approx(5 - 4 * (1 - 2 / 11))
    assert average_after([5.0] + 100 * [1.0], decay=0.999) == pytest.approx(1, abs=0.01)


def test_later_steps_decay_as_set() -> None:
    assert average_after([5.0, 5.0, 5.0, 1.0], decay=0.1) == pytest.approx(1.4)
    assert average_after([5.0, 1.0], decay=0.0) == 1.0
