"""Test runs in separate processes, as users start them: killed and resumed, and with two processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from streamasr.toml import to_toml
from streamasr.training.config import TrainConfig
from tests.training.beeping import deterministic_rows, recipe

COMMAND = "import sys; from streamasr.cli import main; sys.exit(main(sys.argv[1:]))"
LIMIT_S = 90.0
KILLED_AT = """
import os, signal
from streamasr.training.monitoring.events import StepReport
from streamasr.training.trainer import Trainer

emit = Trainer._emit

def emit_and_die(self, event):
    emit(self, event)
    if isinstance(event, StepReport) and event.step == {step}:
        os.kill(os.getpid(), signal.SIGKILL)

Trainer._emit = emit_and_die
"""
"""Kills the process as soon as it has reported the step, however fast the machine is."""


def arguments(recipe_file: Path, out: Path) -> list[str]:
    return [
        "train",
        str(recipe_file),
        "--out",
        str(out),
        "--device",
        "cpu",
        "--threads",
        "1",
        "--no-tensorboard",
    ]


def saved(config: TrainConfig, path: Path) -> Path:
    path.write_text(to_toml(config), encoding="utf-8")
    return path


def curve(out: Path) -> dict[int, float]:
    """Return step and loss of the reports in the run's log."""
    events = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
    return {event["step"]: event["loss"] for event in events if event["event"] == "step"}


def weights(out: Path) -> dict[str, Any]:
    newest = max((out / "checkpoints").glob("step-*.pt"))
    state: dict[str, Any] = torch.load(newest, weights_only=True)
    return state


@pytest.mark.timeout(240)
def test_a_run_that_was_killed_resumes_to_the_same_curve(beep_manifest: Path, tmp_path: Path) -> None:
    config = replace(
        recipe(beep_manifest, 60), log_every_steps=5, save_every_steps=10, evaluate_every_steps=1000,
    )  # fmt: skip
    config = replace(config, data=replace(config.data, dev_manifests=(), cache=tmp_path / "cache"))
    file = saved(config, tmp_path / "recipe.toml")
    run = [sys.executable, "-c", COMMAND]
    subprocess.run([*run, *arguments(file, tmp_path / "whole")], check=True, timeout=LIMIT_S)

    out = tmp_path / "killed"
    killed = [sys.executable, "-c", KILLED_AT.format(step=25) + COMMAND.replace("; ", "\n")]
    process = subprocess.run([*killed, *arguments(file, out)], check=False, timeout=LIMIT_S)
    assert process.returncode == -signal.SIGKILL
    assert weights(out)["step"] == 20
    assert list(curve(out)) == [5, 10, 15, 20, 25]
    subprocess.run([*run, *arguments(file, out)], check=True, timeout=LIMIT_S)

    whole, resumed = curve(tmp_path / "whole"), curve(out)
    assert list(resumed) == list(whole) == list(range(5, 61, 5))
    assert resumed == pytest.approx(whole, rel=1e-3, abs=1e-4)
    for name, weight in weights(tmp_path / "whole")["average"].items():
        torch.testing.assert_close(weights(out)["average"][name], weight, atol=1e-4, rtol=1e-3)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_torchrun_restarts_a_failed_process_and_the_run_resumes(beep_manifest: Path, tmp_path: Path) -> None:
    config = replace(
        recipe(beep_manifest, 40), log_every_steps=5, save_every_steps=5, evaluate_every_steps=1000
    )
    config = replace(config, data=replace(config.data, dev_manifests=()))
    file, out, died = saved(config, tmp_path / "recipe.toml"), tmp_path / "run", tmp_path / "died"
    script = tmp_path / "train.py"
    # It kills itself the first time only.
    dies = f"import pathlib\n\ndied = pathlib.Path({str(died)!r})\nif not died.exists():\n    died.touch()\n"
    dies += textwrap.indent(KILLED_AT.format(step=15), "    ")
    script.write_text(dies + COMMAND.replace("; ", "\n"))
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "1"]
    launch += ["--max-restarts", "2", str(script)]
    subprocess.run(
        [*launch, *arguments(file, out)],
        check=True, timeout=4 * LIMIT_S, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert died.exists()
    assert list(curve(out)) == list(range(5, 41, 5))
    events = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
    assert [event["step"] > 0 for event in events if event["event"] == "run"] == [False, True]
    assert (out / "model" / "model.safetensors").exists()


@pytest.mark.timeout(240)
def test_two_processes_train_to_the_same_weights_as_one(beep_manifest: Path, tmp_path: Path) -> None:
    config = replace(recipe(beep_manifest, 6), log_every_steps=2, evaluate_every_steps=6)
    config = replace(config, data=replace(config.data, cache=tmp_path / "cache"))
    alone = deterministic_rows(config, 2)
    alone = replace(alone, optim=replace(alone.optim, accumulate_batches=2, freeze_encoder_steps=2))
    two = replace(alone, optim=replace(alone.optim, accumulate_batches=1))
    subprocess.run(
        [sys.executable, "-c", COMMAND, *arguments(saved(alone, tmp_path / "one.toml"), tmp_path / "one")],
        check=True, timeout=LIMIT_S,
    )  # fmt: skip
    script = tmp_path / "train.py"
    script.write_text(COMMAND)
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        str(script),
    ]
    subprocess.run(
        [*launch, *arguments(saved(two, tmp_path / "two.toml"), tmp_path / "two")],
        check=True, timeout=2 * LIMIT_S, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    one, other = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert other["seconds"] == pytest.approx(one["seconds"])
    assert curve(tmp_path / "two") == pytest.approx(curve(tmp_path / "one"), rel=1e-3)
    for name, weight in one["encoder"].items():
        torch.testing.assert_close(other["encoder"][name], weight, atol=2e-4, rtol=1e-3)
    logs = [
        [json.loads(line) for line in (tmp_path / run / "events.jsonl").read_text().splitlines()]
        for run in ("one", "two")
    ]
    dev = [[event for event in events if event["event"] == "dev"] for events in logs]
    assert len(dev[0]) == len(dev[1]) == 4
    assert [event["cer"] for event in dev[1]] == pytest.approx([event["cer"] for event in dev[0]], abs=0.05)
