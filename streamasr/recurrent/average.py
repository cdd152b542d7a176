"""Average the weights of a network over the steps of its training."""

from __future__ import annotations

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

_FIRST_STEPS = 10


def moving_average(network: nn.Module, decay: float) -> AveragedModel:
    """Return an exponential moving average of a network's weights; its copy of the network is ``module``.

    Call ``update_parameters(network)`` after each step. The first steps decay faster, so that a short run forgets the
    weights that it began with: step n by (1 + n) / (10 + n) at most.

    Args:
        network: the network in training.
        decay: of a step, at least 0 and below 1.
    """

    def update(average: Tensor, value: Tensor, steps: Tensor | int) -> Tensor:
        return average.lerp(value, 1 - min(decay, (1 + int(steps)) / (_FIRST_STEPS + int(steps))))

    return AveragedModel(network, avg_fn=update)
