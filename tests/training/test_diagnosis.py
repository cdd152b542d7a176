"""The four classic failures of CTC training, each provoked in a real run, each told once and in plain words."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from streamasr.errors import TrainingError
from streamasr.training.config import DiagnosisConfig, TrainConfig
from streamasr.training.diagnosis import TrainingDiagnostics, doubled_share
from streamasr.training.monitoring.events import Diagnosis, Event, PreparationProgress, StepReport
from streamasr.training.trainer import Trainer
from tests.training.beeping import ALONE, recipe, run


def findings(events: Sequence[Event | PreparationProgress], kind: str) -> list[Diagnosis]:
    return [event for event in events if isinstance(event, Diagnosis) and event.kind == kind]


def rewritten(manifest: Path, folder: Path, change: str) -> Path:
    """The manifest with ``aa bb`` for every ``a b`` (``doubled``), or with one text far too long (``endless``)."""
    lines = [json.loads(line) for line in manifest.read_text().splitlines()]
    for line in lines:
        line["audio_filepath"] = str(manifest.parent / line["audio_filepath"])
        if change == "doubled":
            line["text"] = "".join(letter if letter == " " else 2 * letter for letter in line["text"])
    if change == "endless":
        lines[3]["text"] = "abc " * 200
    path = folder / f"{change}.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_a_loss_that_is_no_number_is_left_out_and_told(beep_manifest: Path, tmp_path: Path) -> None:
    events: list[Event | PreparationProgress] = []
    trainer = Trainer(recipe(beep_manifest, 4), tmp_path, ALONE, events.append)
    before = trainer.encoder.head.weight.detach().clone()
    with torch.no_grad():
        trainer.encoder.head.bias[0] = float("inf")
    trainer.train()
    (told,) = findings(events, "not_finite")
    assert "not a finite number" in told.finding.replace("no finite", "not a finite")
    assert "optim.learning_rate" in told.remedy
    torch.testing.assert_close(trainer.encoder.head.weight, before)


def test_a_run_that_is_never_finite_gives_up(beep_manifest: Path, tmp_path: Path) -> None:
    config = replace(recipe(beep_manifest, 100), diagnosis=DiagnosisConfig(not_finite_steps=5))
    trainer = Trainer(config, tmp_path, ALONE, lambda event: None)
    with torch.no_grad():
        trainer.encoder.head.bias[0] = float("nan")
    with pytest.raises(TrainingError, match=r"5 steps in a row .* lower optim\.learning_rate"):
        trainer.train()
    assert trainer.step == 4


def test_a_learning_rate_that_is_far_too_high_is_noticed(beep_manifest: Path, tmp_path: Path) -> None:
    config = recipe(beep_manifest, 10)
    config = replace(config, optim=replace(config.optim, learning_rate=1e20, warmup_steps=1))
    _, events = run(config, tmp_path)
    (told,) = findings(events, "not_finite")
    assert told.step == 2  # the first step after the one that broke the weights


def test_a_model_that_only_says_blank_is_told(beep_manifest: Path, tmp_path: Path) -> None:
    config = recipe(beep_manifest, 40)
    config = replace(
        config, log_every_steps=10, diagnosis=DiagnosisConfig(all_blank_grace_steps=20),
        optim=replace(config.optim, learning_rate=1e-9),
    )  # fmt: skip
    events: list[Event | PreparationProgress] = []
    trainer = Trainer(config, tmp_path, ALONE, events.append)
    with torch.no_grad():
        trainer.encoder.head.bias[0] = 20.0
    trainer.train()
    (told,) = findings(events, "all_blank")
    assert told.step == 20  # not before the grace is over, and only once
    assert told.finding.startswith("100.0% of the frames say blank")
    assert "learning rate" in told.cause
    reports = [event for event in events if isinstance(event, StepReport)]
    assert reports[-1].blank_share == 1.0


def test_a_model_that_stutters_is_told(beep_manifest: Path, tmp_path: Path) -> None:
    config = recipe(beep_manifest, 250)
    doubled = rewritten(beep_manifest, tmp_path, "doubled")
    config = replace(config, data=replace(config.data, manifests=(doubled,)))
    _, events = run(config, tmp_path / "run")
    (told,) = findings(events, "repeats")
    assert "the model stutters" in told.finding
    assert "(0.0% in the references)" in told.finding


def test_texts_too_long_for_their_sound_are_counted_and_named(beep_manifest: Path, tmp_path: Path) -> None:
    endless = rewritten(beep_manifest, tmp_path, "endless")
    config = replace(recipe(beep_manifest, 30), log_every_steps=10)
    config = replace(config, data=replace(config.data, manifests=(endless,)))
    trainer, events = run(config, tmp_path / "run")
    told = findings(events, "lengths")
    assert told
    assert "3.wav: its text needs 799 encoder frames, but there are " in told[0].finding
    reports = [event for event in events if isinstance(event, StepReport)]
    assert reports[-1].unalignable == trainer.diagnostics.unalignable > 0
    assert all(np.isfinite(report.loss) for report in reports)


def test_findings_are_told_once_until_the_trouble_has_been_away() -> None:
    watcher = TrainingDiagnostics(DiagnosisConfig(all_blank_grace_steps=0))
    shares = [0.99, 0.99, 0.5, 0.99]
    told = [bool(list(watcher.check_blanks(step, share))) for step, share in enumerate(shares)]
    assert told == [True, False, False, True]
    counts = [
        len(list(watcher.check_step(step, finite=True, unalignable=["row"] * rows)))
        for step, rows in enumerate([1, 1, 8, 1])
    ]
    assert counts == [1, 0, 1, 0]  # at 1 and at 10


def test_doubled_letters_are_counted() -> None:
    assert doubled_share(["hello"]) == pytest.approx(0.2)
    assert doubled_share(["hheelllloo", ""]) == pytest.approx(0.6)
    assert doubled_share([]) == 0.0


def test_sound_that_is_broken_is_named_before_training(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "fine.wav", np.zeros(16_000), 16_000)
    (tmp_path / "broken.wav").write_bytes(b"no sound")
    rows = [{"audio_filepath": name, "duration": 1.0, "text": "a"} for name in ("fine.wav", "broken.wav")]
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config: TrainConfig = recipe(manifest, 1)
    with pytest.raises(Exception, match=r"broken\.wav"):
        Trainer(config, tmp_path / "run", ALONE, lambda event: None)
