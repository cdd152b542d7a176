"""Test that ``precision = "auto"`` chooses the faster precision."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from streamasr.training import precision
from streamasr.training.config import DataConfig, Precision, TrainConfig
from streamasr.training.precision import fastest_precision, resolve_precision

CPU = torch.device("cpu")


@pytest.mark.parametrize(("short", "long", "expected"), [(1.0, 2.0, "bfloat16"), (8.0, 1.0, "float32")])
def test_the_faster_precision_is_chosen(
    monkeypatch: pytest.MonkeyPatch, short: float, long: float, expected: str
) -> None:
    seconds = {torch.bfloat16: short, torch.float32: long}
    monkeypatch.setattr(precision, "_seconds", lambda dtype, _device: seconds[dtype])
    assert fastest_precision(CPU) == expected


@pytest.mark.parametrize("requested", ["float32", "bfloat16", "float16"])
def test_a_given_precision_is_kept(requested: Precision) -> None:
    config = recipe(requested)
    assert resolve_precision(config, CPU) is config


def test_auto_becomes_a_precision_of_this_machine() -> None:
    config = resolve_precision(recipe("auto"), CPU)
    assert config.precision in ("float32", "bfloat16")


def recipe(requested: Precision) -> TrainConfig:
    return TrainConfig(name="any", precision=requested, data=DataConfig(manifests=(Path("any.jsonl"),)))
