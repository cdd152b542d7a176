"""Test unusable transcripts: they are left out, counted and named, and refused if there are many."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from streamasr.errors import ConfigError, DataError
from streamasr.training.config import DataConfig, TokensConfig, TrainConfig
from streamasr.training.data.batches.rows import BucketPlan
from streamasr.training.data.shards.packing import write_shards
from streamasr.training.monitoring.events import DevReport, Diagnosis, Event
from streamasr.training.trainer import Trainer
from tests.training.beeping import ALONE, recipe, run

TEXTS = {3: "", 5: " … ", 8: "abc d", 11: "a 7"}
PROBLEMS = [
    "3.wav: the transcript is empty ('')",
    "5.wav: the transcript is empty (' … ')",
    "8.wav: characters outside the tokens: ['d'] in 'abc d'",
    "11.wav: ['7'] in 'a 7': write numbers and symbols as they are spoken",
]


@pytest.fixture
def faulty(beep_manifest: Path, tmp_path: Path) -> Path:
    """The beeps with four unusable transcripts of thirty."""
    rows = [json.loads(line) for line in beep_manifest.read_text().splitlines()]
    for number, row in enumerate(rows):
        row["audio_filepath"] = str(beep_manifest.parent / row["audio_filepath"])
        row["text"] = TEXTS.get(number, row["text"])
    path = tmp_path / "faulty" / "manifest.jsonl"
    path.parent.mkdir()
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def trained_on(manifest: Path, dev: Path, share: float = 0.2, steps: int = 1) -> TrainConfig:
    config = recipe(dev, steps)
    return replace(config, data=replace(config.data, manifests=(manifest,), unusable_share=share))


def transcript_findings(events: list[Event]) -> list[str]:
    return [e.finding for e in events if isinstance(e, Diagnosis) and e.kind == "transcripts"]


def test_unusable_transcripts_are_left_out_counted_and_named(
    faulty: Path, beep_manifest: Path, tmp_path: Path
) -> None:
    trainer, events = run(trained_on(faulty, beep_manifest), tmp_path)
    (finding,) = transcript_findings(events)
    assert finding.startswith("4 of 30 transcripts (training) cannot be used and are left out: ")
    for problem in PROBLEMS[:3]:
        assert f"{beep_manifest.parent}/{problem}" in finding
    assert finding.endswith("and 1 more.")
    names = [Path(name).name for name in trainer.speech.builder.corpus.names]
    assert names == [f"{number}.wav" for number in range(30) if number not in TEXTS]
    assert all(trainer.speech.builder.token_ids)
    assert isinstance(trainer.speech.plan, BucketPlan)
    assert len(trainer.speech.plan.lengths) == 26


def test_a_resumed_run_does_not_report_them_again(faulty: Path, beep_manifest: Path, tmp_path: Path) -> None:
    config = trained_on(faulty, beep_manifest, steps=2)
    steps = iter(range(100))
    _, first = run(config, tmp_path, until=lambda: next(steps) == 1)
    _, second = run(config, tmp_path)
    assert (len(transcript_findings(first)), len(transcript_findings(second))) == (1, 0)


def test_many_unusable_transcripts_are_an_error_before_decoding(
    faulty: Path, beep_manifest: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataError) as refused:
        Trainer(trained_on(faulty, beep_manifest, 0.1), tmp_path, ALONE, lambda event: None)
    message = refused.value.message
    assert message.startswith(
        "4 of 30 training transcripts cannot be used, but data.unusable_share allows 10.0%: "
    )
    assert PROBLEMS[0] in message
    assert "`streamasr data check --tokens RECIPE` lists all" in message
    assert not (tmp_path / "cache").exists()


def test_a_recipe_cannot_leave_out_all_transcripts(beep_manifest: Path, tmp_path: Path) -> None:
    config = replace(trained_on(beep_manifest, beep_manifest, 1.0), tokens=TokensConfig(characters="xyz"))
    with pytest.raises(DataError, match="30 of 30 training transcripts cannot be used"):
        Trainer(config, tmp_path, ALONE, lambda event: None)
    with pytest.raises(ConfigError, match="unusable_share must be a share from 0 to 1"):
        DataConfig(manifests=(beep_manifest,), unusable_share=1.5)


def test_unusable_dev_transcripts_count_in_the_error_rates(
    faulty: Path, beep_manifest: Path, tmp_path: Path
) -> None:
    _, clean = run(trained_on(beep_manifest, beep_manifest), tmp_path / "clean")
    trainer, events = run(trained_on(beep_manifest, faulty), tmp_path / "faulty")
    (finding,) = transcript_findings(events)
    assert finding.startswith(
        "3 of 30 transcripts (faulty) cannot be used and count in the error rates but not in the loss: "
    )
    (dev,) = trainer.speech.dev
    assert [number for number, ids in enumerate(dev.token_ids) if ids is None] == [5, 8, 11]
    assert dev.token_ids[3] == []  # an utterance without speech
    assert len(dev.references) == 30
    losses = [[e.loss for e in run_events if isinstance(e, DevReport)] for run_events in (clean, events)]
    # After one step all frames have a similar loss, so leaving some out changes little.
    assert losses[1] == pytest.approx(losses[0], rel=0.2)


def test_shards_leave_out_the_same_transcripts(
    faulty: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_shards([faulty], tmp_path / "shards", workers=1)
    data = DataConfig(
        shards=(str(tmp_path / "shards"),), row_seconds=2.0, max_gap_seconds=0.2, rows_per_batch=2
    )
    run(replace(recipe(faulty, 3), data=data), tmp_path / "run")
    for problem in PROBLEMS:
        reason = problem.split(": ", 1)[1]
        assert any(f"{reason}; left out" in message for message in caplog.messages), reason


def test_missing_manifests_are_named_with_the_commands_that_make_them(
    beep_manifest: Path, tmp_path: Path
) -> None:
    made, noise = tmp_path / "made" / "manifest.jsonl", tmp_path / "noise" / "manifest.jsonl"
    config = recipe(beep_manifest, 1)
    config = replace(config, data=replace(config.data, manifests=(beep_manifest, made)))
    with pytest.raises(DataError) as one:
        Trainer(config, tmp_path / "run", ALONE, lambda event: None)
    assert one.value.message.startswith(f"{made}: no such file. `streamasr data import` makes manifests")
    assert f"`streamasr synthesise TEXT --out {made.parent}`" in one.value.message
    config = replace(config, data=replace(config.data, noise_manifests=(noise,)))
    with pytest.raises(DataError) as two:
        Trainer(config, tmp_path / "run", ALONE, lambda event: None)
    assert two.value.message.startswith(f"{made}, {noise}: no such file.")
