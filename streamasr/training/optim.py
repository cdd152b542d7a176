"""Optimiser, learning-rate schedule and parameter groups for fine-tuning an encoder layer by layer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from streamasr.acoustic.whisper import WhisperEncoder
from streamasr.training.config import OptimConfig


def build_optimizer(
    encoder: WhisperEncoder, extra: Iterable[nn.Parameter], config: OptimConfig
) -> tuple[torch.optim.AdamW, LambdaLR]:
    """AdamW over the encoder, rates falling by ``layer_decay`` a layer downwards, and its schedule.

    Biases and norms are not decayed. ``extra`` parameters (a distillation projection) learn at the head's rate.
    The head, and ``extra``, start at once; the rest after ``freeze_encoder_steps``.
    """
    groups: dict[tuple[float, bool, bool], list[nn.Parameter]] = {}
    for name, parameter in encoder.named_parameters():
        scale = _rate_scale(name, encoder.config.layers, config)
        parameter.requires_grad_(scale > 0)
        if scale > 0:
            decayed = parameter.dim() > 1
            groups.setdefault((scale, decayed, name.startswith("head.")), []).append(parameter)
    for parameter in extra:
        groups.setdefault((config.head_factor, parameter.dim() > 1, True), []).append(parameter)
    optimizer = torch.optim.AdamW(
        [
            {
                "params": parameters,
                "lr": config.learning_rate * scale,
                "weight_decay": config.weight_decay if decayed else 0.0,
            }
            for (scale, decayed, _), parameters in groups.items()
        ],
        betas=(config.betas[0], config.betas[1]),
        fused=True,
    )
    starts = [0 if at_once else config.freeze_encoder_steps for _, _, at_once in groups]
    return optimizer, LambdaLR(optimizer, [_schedule(config, start) for start in starts])


def _rate_scale(name: str, layers: int, config: OptimConfig) -> float:
    if name.startswith("head."):
        return config.head_factor
    if name.startswith("blocks."):
        return config.layer_decay ** (layers - 1 - int(name.split(".")[1]))
    if name.startswith("conv"):
        return config.layer_decay**layers if config.train_stem else 0.0
    return 1.0


def _schedule(config: OptimConfig, start: int) -> Callable[[int], float]:
    """Nothing until ``start``, a linear warm-up, a plateau, then a cosine down to ``final_factor``."""
    decay_steps = max(1, round(config.steps * config.decay_share))

    def factor(step: int) -> float:
        if step < start:
            return 0.0
        warm = min(1.0, (step - start + 1) / max(1, config.warmup_steps))
        share = min(1.0, max(0.0, (step - (config.steps - decay_steps)) / decay_steps))
        return warm * (config.final_factor + (1 - config.final_factor) * 0.5 * (1 + math.cos(math.pi * share)))

    return factor
