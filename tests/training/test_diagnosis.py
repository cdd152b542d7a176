"""Provoke the common problems of CTC training in real runs; each is reported once."""

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
from streamasr.training.diagnosis import TrainingDiagnostics, repeated_share
from streamasr.training.monitoring.events import Diagnosis, Event, PreparationProgress, StepReport
from streamasr.training.trainer import Trainer
from tests.training.beeping import ALONE, recipe, run


def findings(events: Sequence[Event | PreparationProgress], kind: str) -> list[Diagnosis]:
    return [event for event in events if isinstance(event, Diagnosis) and event.kind == kind]


def changed_manifest(manifest: Path, folder: Path, change: str) -> Path:
    """Copy the manifest with ``aa bb`` for ``a b`` (``doubled``), or with one text far too long (``too_long``)."""
    lines = [json.loads(line) for line in manifest.read_text().splitlines()]
    for line in lines:
        line["audio_filepath"] = str(manifest.parent / line["audio_filepath"])
        if change == "doubled":
            line["text"] = "".join(letter if letter == " " else 2 * letter for letter in line["text"])
    if change == "too_long":
        lines[3]["text"] = "abc " * 200
    path = folder / f"{change}.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_a_step_with_an_infinite_loss_is_skipped_and_reported(beep_manifest: Path, tmp_path: Path) -> None:
    events: list[Event | PreparationProgress] = []
    trainer = Trainer(recipe(beep_manifest, 4), tmp_path, ALONE, events.append)
    before = trainer.encoder.head.weight.detach().clone()
    with torch.no_grad():
        trainer.encoder.head.bias[0] = float("inf")
    trainer.train()
    (diagnosis,) = findings(events, "not_finite")
    assert "is not finite (NaN or infinity); the step was skipped" in diagnosis.finding
    assert "optim.learning_rate" in diagnosis.remedy
    torch.testing.assert_close(trainer.encoder.head.weight, before)


def test_a_run_that_is_never_finite_ends_with_an_error(beep_manifest: Path, tmp_path: Path) -> None:
    config = replace(recipe(beep_manifest, 100), diagnosis=DiagnosisConfig(not_finite_steps=5))
    trainer = Trainer(config, tmp_path, ALONE, lambda event: None)
    with torch.no_grad():
        trainer.encoder.head.bias[0] = float("nan")
    with pytest.raises(TrainingError, match=r"5 steps in a row .* lower optim\.learning_rate"):
        trainer.train()
    assert trainer.step == 4


def test_a_learning_rate_that_is_far_too_high_is_reported(beep_manifest: Path, tmp_path: Path) -> None:
    config = recipe(beep_manifest, 10)
    config = replace(config, optim=replace(config.optim, learning_rate=1e20, warmup_steps=1))
    _, events = run(config, tmp_path)
    (diagnosis,) = findings(events, "not_finite")
    assert diagnosis.step == 2  # the first step after the one that broke the weights


def test_a_model_that_outputs_only_blanks_is_reported(beep_manifest: Path, tmp_path: Path) -> None:
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
    (diagnosis,) = findings(events, "all_blank")
    assert diagnosis.step == 20  # not in the first steps, and only once
    assert diagnosis.finding.startswith("100.0% of the frames are blank")
    assert "learning rate" in diagnosis.cause
    reports = [event for event in events if isinstance(event, StepReport)]
    assert reports[-1].blank_share == 1.0


def test_a_model_that_repeats_letters_is_reported(beep_manifest: Path, tmp_path: Path) -> None:
    config = recipe(beep_manifest, 250)
    doubled = changed_manifest(beep_manifest, tmp_path, "doubled")
    config = replace(config, data=replace(config.data, manifests=(doubled,)))
    _, events = run(config, tmp_path / "run")
    (diagnosis,) = findings(events, "repeats")
    assert "the model repeats letters" in diagnosis.finding
    assert "(0.0% in the references)" in diagnosis.finding


def test_texts_too_long_for_their_audio_are_counted_and_named(beep_manifest: Path, tmp_path: Path) -> None:
    too_long = changed_manifest(beep_manifest, tmp_path, "too_long")
    config = replace(recipe(beep_manifest, 30), log_every_steps=10)
    config = replace(config, data=replace(config.data, manifests=(too_long,)))
    trainer, events = run(config, tmp_path / "run")
    diagnoses = findings(events, "lengths")
    assert diagnoses
    assert "3.wav: its text needs 799 encoder frames, but there are " in diagnoses[0].finding
    reports = [event for event in events if isinstance(event, StepReport)]
    assert reports[-1].unalignable == trainer.diagnostics.unalignable > 0
    assert all(np.isfinite(report.loss) for report in reports)


def test_a_problem_is_reported_again_only_after_it_disappeared() -> None:
    diagnostics = TrainingDiagnostics(DiagnosisConfig(all_blank_grace_steps=0))
    shares = [0.99, 0.99, 0.5, 0.99]
    reported = [bool(list(diagnostics.check_blanks(step, share))) for step, share in enumerate(shares)]
    assert reported == [True, False, False, True]
    counts = [
        len(list(diagnostics.check_step(step, finite=True, unalignable=["row"] * rows)))
        for step, rows in enumerate([1, 1, 8, 1])
    ]
    assert counts == [1, 0, 1, 0]  # at 1 and at 10


def test_repeated_letters_are_counted() -> None:
    assert repeated_share(["hello"]) == pytest.approx(0.2)
    assert repeated_share(["hheelllloo", ""]) == pytest.approx(0.6)
    assert repeated_share([]) == 0.0


def test_broken_audio_is_named_before_training(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "fine.wav", np.zeros(16_000), 16_000)
    (tmp_path / "broken.wav").write_bytes(b"no sound")
    rows = [{"audio_filepath": name, "duration": 1.0, "text": "a"} for name in ("fine.wav", "broken.wav")]
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config: TrainConfig = recipe(manifest, 1)
    with pytest.raises(Exception, match=r"broken\.wav"):
        Trainer(config, tmp_path / "run", ALONE, lambda event: None)
