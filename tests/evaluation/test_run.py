"""Test that a finished run gets its evaluation, model card and page."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import soundfile

from streamasr.evaluation.evaluate import Progress
from streamasr.evaluation.run import evaluate_run
from streamasr.report.results import read_evaluation
from streamasr.training.monitoring.events import RunStarted
from streamasr.training.monitoring.log import EventLog
from tests.recognition.tiny import noise, save_model


def test_a_run_gets_its_evaluation_card_and_page(tmp_path: Path) -> None:
    run, dev = tmp_path / "run", tmp_path / "dev"
    run.mkdir()
    dev.mkdir()
    save_model(run / "model")
    soundfile.write(dev / "a.wav", noise(1.0), 16_000)
    manifest = dev / "manifest.jsonl"
    manifest.write_text(json.dumps({"audio_filepath": "a.wav", "duration": 1.0, "text": "a bad cab"}))
    with EventLog(run / "events.jsonl") as log:
        log(RunStarted(step=0, steps=10, name="tiny", frame_ms=20.0))
    counted: list[int] = []
    progress_calls: list[int | None] = []

    @contextmanager
    def watch(count: int) -> Iterator[Progress]:
        counted.append(count)
        yield lambda _name, chunk_ms: progress_calls.append(chunk_ms)

    evaluation = evaluate_run(run, [manifest], "cpu", watch)
    assert evaluation is not None
    assert evaluation == read_evaluation(run / "evaluation.json")
    assert counted == [4]
    assert progress_calls == [m.chunk_ms for m in evaluation.measurements] == [80, 160, 320, None]
    assert "| 160 ms chunks |" in (run / "model" / "README.md").read_text()
    assert "Errors: dev, 320 ms, greedy" in (run / "report.html").read_text()


def test_without_dev_manifests_nothing_is_measured(tmp_path: Path) -> None:
    assert evaluate_run(tmp_path, []) is None
    assert list(tmp_path.iterdir()) == []
