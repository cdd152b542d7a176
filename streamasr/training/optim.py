"""Optimiser, learning-rate schedule and parameter groups for fine-tuning an encoder layer by layer."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from streamasr.training.config import OptimConfig
from streamasr.training.objective import Objective


def build_optimizer(objective: Objective, config: OptimConfig) -> torch.optim.AdamW:
    """AdamW over the weights that learn, peak rates falling by ``layer_decay`` a layer downwards.

    Biases and norms are not decayed. A distillation's projection learns at the head's rate. Each group knows
    its ``peak_lr`` and the step at which it starts: the head and the projection at once; the rest after
    ``freeze_encoder_steps``.
    """
    groups: dict[tuple[float, bool, bool], list[nn.Parameter]] = {}
    layers = objective.encoder.config.layers
    for name, parameter in _learning(objective):
        scale = _rate_scale(name, layers, config)
        if scale > 0:
            groups.setdefault((scale, parameter.dim() > 1, _at_once(name)), []).append(parameter)
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
    """Let gradients flow to what learns only: nothing that the recipe holds still, and at first the head alone."""
    layers = objective.encoder.config.layers
    for name, parameter in _learning(objective):
        parameter.requires_grad_(_rate_scale(name, layers, config) > 0 and (_at_once(name) or not head_only))


def _learning(objective: Objective) -> Iterator[tuple[str, nn.Parameter]]:
    yield from objective.encoder.named_parameters()
    if objective.to_teacher is not None:
        yield from objective.to_teacher.named_parameters(prefix="to_teacher")


def _at_once(name: str) -> bool:
    return name.startswith(("head.", "to_teacher."))


def load_optimizer(optimizer: torch.optim.AdamW, state: dict[str, Any]) -> None:
    """Take over the moments of a saved state but keep the rates and decays of the present recipe."""
    present = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
    optimizer.load_state_dict(state)
    for group, settings in zip(optimizer.param_groups, present, strict=True):
        group.update(settings)


def set_rates(optimizer: torch.optim.AdamW, step: int, config: OptimConfig) -> None:
    """Put every group's rate to what the schedule says for ``step``."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * schedule(config, step, group["start"])


def _rate_scale(name: str, layers: int, config: OptimConfig) -> float:
    if _at_once(name):
        return config.head_factor
    if name.startswith("blocks."):
        return config.layer_decay ** (layers - 1 - int(name.split(".")[1]))
    if name.startswith(("conv", "stem.")):
        return config.layer_decay**layers if config.train_stem else 0.0
    return 1.0


def schedule(config: OptimConfig, step: int, start: int) -> float:
    """Share of the peak rate: nothing until ``start``, a linear warm-up; then a plateau and a cosine to
    ``final_factor``, or Noam's inverse square root.
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
