"""Compare the counted cost of a step, and its lower bound, with arithmetic by hand."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType

import pytest
import torch

from streamasr.config import FastConformerEncoderConfig, WhisperEncoderConfig

WHISPER = WhisperEncoderConfig(
    n_mels=20, dim=32, heads=2, layers=3, left_context_frames=12, chunk_frames=(4, 8)
)
FASTCONFORMER = FastConformerEncoderConfig(
    n_mels=20, dim=32, heads=2, layers=2, subsampling_channels=8, left_context_frames=14, chunk_frames=(2, 7)
)


@pytest.fixture(scope="module")
def cost(load_benchmark: Callable[[str], ModuleType]) -> ModuleType:
    return load_benchmark("encoder_cost")


def test_all_of_whispers_arithmetic_is_counted(cost: ModuleType) -> None:
    T, D, V = 8, WHISPER.dim, cost.VOCABULARY["whisper"]
    keys = WHISPER.left_context_frames + T
    stem = 2 * T * 2 * WHISPER.n_mels * 3 * D + T * 2 * D * 3 * D
    layer = T * 2 * (3 + 1 + 8) * D * D + 2 * T * 2 * keys * D
    step_cost = cost.count_step_cost(cost.build(WHISPER), WHISPER.n_mels, T)
    assert step_cost.flops == stem + WHISPER.layers * layer + T * 2 * D * V


@pytest.mark.parametrize("config", [WHISPER, FASTCONFORMER], ids=lambda config: config.family)
def test_a_batch_needs_as_many_times_as_much(cost: ModuleType, config: WhisperEncoderConfig) -> None:
    encoder = cost.build(config)
    chunk = encoder.chunk_frames[-1]
    step_cost = cost.count_step_cost(encoder, config.n_mels, chunk)
    three = cost.Stepper(encoder, config.n_mels, chunk, batch=3)
    assert cost.count_flops(three) == 3 * step_cost.flops
    assert sum(leaf.numel() * leaf.element_size() for leaf in three.state) == 3 * step_cost.state_bytes
    assert step_cost.weight_bytes == 4 * sum(weight.numel() for weight in encoder.parameters())


def test_the_floor_is_arithmetic_or_memory_whichever_takes_longer(cost: ModuleType) -> None:
    step_cost = cost.StepCost(flops=1_000, state_bytes=100, weight_bytes=5_000)
    assert step_cost.floor_s(2, peak_flops=1_000, bandwidth=1e9) == pytest.approx(2.0)
    assert step_cost.floor_s(2, peak_flops=1e12, bandwidth=100) == pytest.approx((5_000 + 2 * 2 * 100) / 100)


def test_every_size_has_the_family_of_its_name(cost: ModuleType) -> None:
    for name, config in cost.SIZES.items():
        assert config().family == name.partition("-")[0]


def test_cpu_seconds_come_for_every_case(cost: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(cost.SIZES, "tiny", lambda: WHISPER)
    costs = cost.measure_cpu(["tiny"], [1, 2], rounds=1)
    assert {(case.latency_ms, case.batch) for case in costs} == {(80, 1), (80, 2), (160, 1), (160, 2)}
    assert all(seconds >= 0 for seconds in costs.values())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_missing_gpu_is_reported(
    cost: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["encoder_cost", "--device", "cuda"])
    assert cost.main() == 1
    assert "no CUDA device here" in capsys.readouterr().err
