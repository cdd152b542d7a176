"""Test checkpoints: written atomically, the newest kept, damaged ones skipped."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from streamasr.training.averaging import mean_weights
from streamasr.training.checkpoints import Checkpoints, write_atomically

CPU = torch.device("cpu")


def state(value: float) -> dict[str, object]:
    return {"step": int(value), "encoder": {"weight": torch.full((2,), value)}}


def test_the_newest_checkpoints_are_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "run", keep=2)
    assert checkpoints.newest(CPU) is None
    for step in (5, 10, 200):
        checkpoints.save(step, state(step))
    assert [path.name for path in checkpoints.paths()] == ["step-00000200.pt", "step-00000010.pt"]
    newest = checkpoints.newest(CPU)
    assert newest is not None
    assert newest["step"] == 200


def test_a_damaged_checkpoint_is_skipped(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=3)
    checkpoints.save(1, state(1))
    damaged = checkpoints.save(2, state(2))
    damaged.write_bytes(damaged.read_bytes()[:100])
    newest = checkpoints.newest(CPU)
    assert newest is not None
    assert newest["step"] == 1


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    write_atomically(tmp_path / "best.pt", {"value": 1})
    with pytest.raises((AttributeError, TypeError, RuntimeError)):
        write_atomically(tmp_path / "best.pt", {"value": lambda: None})
    assert torch.load(tmp_path / "best.pt", weights_only=True) == {"value": 1}


def test_the_mean_is_taken_weight_by_weight(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in (2, 4, 6):
        checkpoints.save(step, state(step))
    assert checkpoints.mean(CPU, "encoder")["weight"].tolist() == [5.0, 5.0]
    halves = [{"w": torch.tensor([value], dtype=torch.float16)} for value in (1.0, 2.0)]
    assert mean_weights(halves)["w"].dtype == torch.float16
