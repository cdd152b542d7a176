"""Test the optimiser: learning rate and weight decay of each layer, frozen weights, and both schedules."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from streamasr.acoustic import build_encoder
from streamasr.config import WhisperEncoderConfig
from streamasr.training.config import DataConfig, LossConfig, OptimConfig, TrainConfig
from streamasr.training.objective import Objective
from streamasr.training.optim import build_optimizer, freeze, load_optimizer, schedule, set_rates

OPTIM = OptimConfig(
    steps=1_000, learning_rate=1e-3, layer_decay=0.5, head_factor=4.0, freeze_encoder_steps=10, warmup_steps=20,
    decay_share=0.4, final_factor=0.1, weight_decay=0.03, train_stem=True,
)  # fmt: skip


def objective(distillation: float = 0.0) -> Objective:
    config = TrainConfig(
        name="small", data=DataConfig(shards=("none",)),
        loss=LossConfig(consistency=0.0, distillation=distillation),
        encoder=WhisperEncoderConfig(dim=16, heads=2, layers=3),
    )  # fmt: skip
    encoder = build_encoder(config.encoder, 5)
    return Objective(config, encoder, 0, encoder if distillation else None)


def groups_by_name(small: Objective, optim: OptimConfig) -> dict[str, dict[str, float]]:
    optimizer = build_optimizer(small, optim)
    names = {id(parameter): name for name, parameter in small.named_parameters()}
    return {names[id(parameter)]: group for group in optimizer.param_groups for parameter in group["params"]}


def test_the_learning_rate_falls_from_layer_to_layer_and_the_head_has_its_own() -> None:
    groups = groups_by_name(objective(), OPTIM)
    peaks = {name: group["peak_lr"] for name, group in groups.items()}
    expected = {
        "encoder.head.weight": 4e-3,
        "encoder.final_norm.weight": 1e-3,
        "encoder.blocks.2.qkv.weight": 1e-3,
        "encoder.blocks.1.qkv.weight": 5e-4,
        "encoder.blocks.0.qkv.weight": 2.5e-4,
        "encoder.conv1.weight": 1.25e-4,
    }
    assert {name: peaks[name] for name in expected} == pytest.approx(expected)
    assert set(groups) == {name for name, _ in objective().named_parameters()}


def test_weights_decay_but_biases_and_norms_do_not() -> None:
    for name, group in groups_by_name(objective(), OPTIM).items():
        no_decay = name.endswith("bias") or "norm" in name
        assert group["weight_decay"] == (0.0 if no_decay else 0.03), name


def test_the_update_is_fused() -> None:
    optimizer = build_optimizer(objective(), OPTIM)
    assert isinstance(optimizer, torch.optim.AdamW)
    assert optimizer.defaults["fused"] is True
    assert optimizer.defaults["betas"] == (0.9, 0.98)


def test_a_frozen_stem_has_no_learning_rate() -> None:
    frozen_stem = replace(OPTIM, train_stem=False)
    assert not [name for name in groups_by_name(objective(), frozen_stem) if "conv" in name]
    small = objective()
    freeze(small, frozen_stem, head_only=False)
    learning = {name for name, parameter in small.named_parameters() if parameter.requires_grad}
    assert {name for name, _ in small.named_parameters()} - learning == {
        "encoder.conv1.weight", "encoder.conv1.bias", "encoder.conv2.weight", "encoder.conv2.bias",
    }  # fmt: skip


def test_at_first_only_the_head_and_the_teachers_projection_learn() -> None:
    small = objective(distillation=0.5)
    assert small.teacher is not None
    freeze(small, OPTIM, head_only=True)
    learning = {name for name, parameter in small.named_parameters() if parameter.requires_grad}
    assert {name for name in learning if not name.startswith("teacher.")} == {
        "encoder.head.weight", "encoder.head.bias", "teacher_projection.weight", "teacher_projection.bias",
    }  # fmt: skip
    optimizer = build_optimizer(small, OPTIM)
    set_rates(optimizer, 9, OPTIM)
    assert {group["lr"] > 0 for group in optimizer.param_groups if group["start"] == 0} == {True}
    assert {group["lr"] for group in optimizer.param_groups if group["start"] == 10} == {0.0}
    set_rates(optimizer, 10, OPTIM)
    assert all(group["lr"] > 0 for group in optimizer.param_groups)


def test_the_cosine_schedule_has_a_warm_up_a_plateau_and_a_decay() -> None:
    shares = [schedule(OPTIM, step, 0) for step in range(1_000)]
    assert shares[:20] == pytest.approx([(step + 1) / 20 for step in range(20)])
    assert shares[19:601] == pytest.approx([1.0] * 582)
    assert shares[800] == pytest.approx(0.1 + 0.9 * 0.5)
    assert schedule(OPTIM, 1_000, 0) == pytest.approx(0.1)
    assert all(later < earlier for earlier, later in pairwise(shares[600:]))


def test_a_later_start_has_a_later_warm_up() -> None:
    assert [schedule(OPTIM, step, 10) for step in (9, 10, 19, 29, 40)] == pytest.approx(
        [0, 1 / 20, 0.5, 1, 1]
    )


def test_noam_falls_with_the_inverse_square_root_of_the_step() -> None:
    noam = replace(OPTIM, schedule="noam")
    shares = {step: schedule(noam, step, 0) for step in (0, 9, 19, 79, 319)}
    assert shares == pytest.approx({0: 1 / 20, 9: 0.5, 19: 1.0, 79: math.sqrt(20 / 80), 319: 0.25})


def test_a_resumed_optimiser_keeps_its_moments_and_takes_the_recipes_new_rates() -> None:
    small = objective()
    first = build_optimizer(small, OPTIM)
    for parameter in small.parameters():
        parameter.grad = torch.ones_like(parameter)
    first.step()
    second = build_optimizer(small, replace(OPTIM, learning_rate=2e-3, weight_decay=0.5))
    load_optimizer(second, first.state_dict())
    assert max(group["peak_lr"] for group in second.param_groups) == pytest.approx(8e-3)
    assert {group["weight_decay"] for group in second.param_groups} == {0.0, 0.5}
    moments = [second.state[parameter]["exp_avg"].mean().item() for parameter in small.parameters()]
    assert moments == pytest.approx([0.1] * len(moments))
