"""Build the optimiser and its learning-rate schedule, with a learning rate for each layer of the encoder."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from streamasr.acoustic import ParameterGroup
from streamasr.training.config import OptimConfig
from streamasr.training.objective import Objective


def build_optimizer(objective: Objective, config: OptimConfig) -> torch.optim.AdamW:
    """Build AdamW over the weights that learn.

    The peak learning rate falls by ``layer_decay`` from each layer to the one below. Biases and norms have no weight
    decay. A distillation's projection has the learning rate of the head. Each parameter group has its ``peak_lr`` and
    ``start``, the step at which it begins to learn: 0 for head and projection, ``freeze_encoder_steps`` for the rest.
    """
    groups: dict[tuple[float, bool, bool], list[nn.Parameter]] = {}
    for group in _learning(objective):
        scale, at_once = _rate_scale(group, config), group.part == "head"
        if scale > 0:
            for parameter in group.parameters.values():
                groups.setdefault((scale, parameter.dim() > 1, at_once), []).append(parameter)
    return torch.optim.AdamW(
        [
            {
                "params": parameters,
                "peak_lr": config.learning_rate * scale,
                "start": 0 if at_once else config.freeze_encoder_steps,
                "weight_decay": config.weight_decay if decayed else 0.0,
            }
            for (scale, decayed, at_once), parameters in groups.items()
        ],
        betas=(config.betas[0], config.betas[1]),
        fused=True,
    )


def freeze(objective: Objective, config: OptimConfig, *, head_only: bool) -> None:
    """Compute gradients only for the weights that learn: those that the recipe trains, or only the head.

    Args:
        objective: the encoder and, for distillation, the teacher's projection.
        config: the recipe's settings.
        head_only: whether only the head and the projection learn.
    """
    for group in _learning(objective):
        learns = _rate_scale(group, config) > 0 and (group.part == "head" or not head_only)
        for parameter in group.parameters.values():
            parameter.requires_grad_(learns)


def _learning(objective: Objective) -> Iterator[ParameterGroup]:
    """Yield the encoder's parameter groups by depth, then a distillation's projection, which learns like the head."""
    yield from objective.encoder.parameter_groups()
    if objective.teacher_projection is not None:
        yield ParameterGroup(
            "head", 0, dict(objective.teacher_projection.named_parameters(prefix="teacher_projection"))
        )


def load_optimizer(optimizer: torch.optim.AdamW, state: dict[str, Any]) -> None:
    """Load the moments of a saved optimiser state, but keep the learning rates and weight decays of the recipe."""
    present = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
    optimizer.load_state_dict(state)
    for group, settings in zip(optimizer.param_groups, present, strict=True):
        group.update(settings)


def set_rates(optimizer: torch.optim.AdamW, step: int, config: OptimConfig) -> None:
    """Set the learning rate of each parameter group for ``step``."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * schedule(config, step, group["start"])


def _rate_scale(group: ParameterGroup, config: OptimConfig) -> float:
    """Return the factor of the recipe's learning rate for a group; 0 for weights that do not learn."""
    if group.part == "head":
        return config.head_factor
    if group.part == "stem" and not config.train_stem:
        return 0.0
    return config.layer_decay**group.depth


def schedule(config: OptimConfig, step: int, start: int) -> float:
    """Return the learning rate at ``step`` as a share of the peak rate.

    It is 0 before ``start``. A linear warm-up follows, then a plateau and a cosine decay to ``final_factor``, or
    Noam's decay with the inverse square root of the step (Vaswani et al. 2017, equation 3).
    """
    if step < start:
        return 0.0
    warmup = max(1, config.warmup_steps)
    warm = min(1.0, (step - start + 1) / warmup)
    if config.schedule == "noam":
        return warm * min(1.0, math.sqrt(warmup / (step - start + 1)))
    decay_steps = max(1, round(config.steps * config.decay_share))
    share = min(1.0, max(0.0, (step - (config.steps - decay_steps)) / decay_steps))
    return warm * (config.final_factor + (1 - config.final_factor) * 0.5 * (1 + math.cos(math.pi * share)))
