"""Test `streamasr transcribe --ray` on a cluster of this machine whose worker is killed in the middle of the run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import soundfile

from streamasr.cli import main
from tests.recognition.tiny import noise, save_model

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROWS = 300
FILES = 10


def write_manifest(folder: Path) -> Path:
    save_model(folder / "model")
    for number in range(FILES):
        soundfile.write(folder / f"{number}.wav", noise(2.0 + number / 4, seed=number), 16_000)
    names = [f"{number % FILES}.wav" for number in range(ROWS)]
    names[7] = "missing.wav"
    manifest = folder / "in.jsonl"
    manifest.write_text(
        "".join(json.dumps({"audio_filepath": name, "duration": 2.0}) + "\n" for name in names)
    )
    return manifest


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def actors(process: psutil.Process) -> list[psutil.Process]:
    """The processes that hold the model."""
    return [child for child in process.children(recursive=True) if "MapWorker" in " ".join(child.cmdline())]


def test_a_killed_worker_costs_no_row(tmp_path: Path) -> None:
    pytest.importorskip(
        "ray.data", reason="needs Ray Data: pip install 'streamasr[ray]'", exc_type=ImportError
    )
    manifest = write_manifest(tmp_path)
    out, alone = tmp_path / "out.jsonl", tmp_path / "alone.jsonl"
    words = ["transcribe", "--manifest", str(manifest), "--model", str(tmp_path / "model"), "--retries", "1"]
    assert main([*words, "--out", str(alone)]) == 1

    # Two CPUs, so two workers, whatever this machine has.
    environment = {**os.environ, "RAY_OVERRIDE_RESOURCES": '{"CPU": 2}', "RAY_ADDRESS": ""}
    run = psutil.Popen(
        [sys.executable, "-m", "streamasr.cli", *words, "--out", str(out), "--ray"],
        stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    while not out.exists() or out.stat().st_size < 1_000:
        assert run.poll() is None, run.stderr.read()
        time.sleep(0.05)
    workers = actors(run)
    assert len(workers) == 2
    workers[0].kill()
    _, printed = run.communicate(timeout=500)
    assert run.returncode == 1, printed
    assert f"{ROWS} rows: {ROWS - 1} transcribed, 1 failed" in printed
    assert "Traceback" not in printed
    results = read(out)
    assert results == read(alone)
    assert [row["line"] for row in results] == list(range(1, ROWS + 1))
    assert results[7]["error"].endswith("missing.wav: no such file")
    assert results[7]["attempts"] == 2

    out.write_bytes(b"".join(out.read_bytes().splitlines(keepends=True)[:250]))
    again = subprocess.run(
        [*run.args, ""], stderr=subprocess.PIPE, text=True, env=environment, check=False, timeout=300
    )
    assert "51 transcribed" not in again.stderr
    assert f"{ROWS} rows: 50 transcribed, 1 failed, 249 finished before" in again.stderr, again.stderr
    assert read(out) == results
