"""Test `streamasr transcribe --manifest`: results, resuming, failures, signals, exit status."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import soundfile

from streamasr.cli import main
from tests.recognition.tiny import noise, save_model

LENGTHS_S = (2.0, 9.0, 0.0, 5.0, 12.0, 3.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model, and a manifest of six files."""
    folder = tmp_path_factory.mktemp("manifest")
    save_model(folder / "model")
    rows = []
    for number, length_s in enumerate(LENGTHS_S):
        soundfile.write(folder / f"{number}.wav", noise(length_s, seed=number), 16_000)
        rows.append({"audio_filepath": f"{number}.wav", "duration": length_s, "speaker": f"s{number}"})
    write_rows(folder / "in.jsonl", rows)
    return folder


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def command(folder: Path, out: Path, *flags: object, manifest: str = "in.jsonl") -> list[str]:
    words = ["transcribe", "--manifest", folder / manifest, "--out", out, "--model", folder / "model", *flags]
    return [str(word) for word in words]


def test_results_are_those_of_single_files_in_the_order_of_the_manifest(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.jsonl"
    assert main(command(folder, out, "--workers", "2", "--batch", "2")) == 0
    assert "6 rows: 6 transcribed; 31.0 s of audio, " in capsys.readouterr().err
    results = read(out)
    assert [(row["line"], row["audio_filepath"], row["speaker"]) for row in results] == [
        (number + 1, f"{number}.wav", f"s{number}") for number in range(6)
    ]
    local = ["transcribe", "--local", "--model", str(folder / "model"), "--format", "json"]
    for row in results:
        assert main([*local, str(folder / row["audio_filepath"])]) == 0
        alone = json.loads(capsys.readouterr().out)
        assert (row["text"], row["utterances"]) == (alone["text"], alone["utterances"])
    assert [row["duration"] for row in results] == list(LENGTHS_S)
    assert len([row for row in results if row["text"]]) >= 3


def test_finished_rows_are_skipped(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole, out = tmp_path / "whole.jsonl", tmp_path / "out.jsonl"
    assert main(command(folder, whole)) == 0
    lines = whole.read_bytes().splitlines(keepends=True)
    out.write_bytes(lines[4].replace(b'"text": "', b'"text": "kept ') + lines[1] + lines[0][:50])
    capsys.readouterr()
    assert main(command(folder, out)) == 0
    assert "6 rows: 4 transcribed, 2 finished before; " in capsys.readouterr().err
    results = read(out)
    assert results[4]["text"].startswith("kept ")
    assert [*results[:4], results[5]] == [*read(whole)[:4], read(whole)[5]]
    assert main(command(folder, out)) == 0
    assert capsys.readouterr().err == "6 rows: 0 transcribed, 6 finished before\n"


def test_failures_are_recorded_and_tried_again_by_the_next_run(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, late, cut = tmp_path / "out.jsonl", tmp_path / "late.wav", tmp_path / "cut.wav"
    whole = (folder / "4.wav").read_bytes()
    cut.write_bytes(whole[: len(whole) // 2])
    rows = [{"audio_filepath": str(path)} for path in (late, folder / "1.wav", cut, folder / "in.jsonl")]
    write_rows(tmp_path / "in.jsonl", [{**row, "text": "as read"} for row in rows])
    words = command(folder, out, "--retries", "1")
    words[2] = str(tmp_path / "in.jsonl")
    assert main(words) == 1
    printed = capsys.readouterr().err
    assert "4 rows: 2 transcribed, 1 of them incomplete, 2 failed; " in printed
    results = read(out)
    assert results[0]["error"] == f"{late}: no such file"
    assert (results[0]["attempts"], "text" in results[0]) == (2, False)
    assert "not an audio file that can be read" in results[3]["error"]
    assert results[2]["incomplete_at_s"] == results[2]["duration"] == pytest.approx(6.0, abs=0.01)
    assert "incomplete: the audio ends at" in results[2]["warnings"][0]
    assert [row["reference"] for row in results] == ["as read"] * 4

    late.write_bytes(whole)
    assert main(words) == 1
    assert "4 rows: 1 transcribed, 1 failed, 2 finished before; " in capsys.readouterr().err
    assert [("error" in row) for row in read(out)] == [False, False, False, True]


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGINT,
        pytest.param(signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param(signal.SIGKILL, marks=pytest.mark.slow),
    ],
)
def test_an_interrupted_run_goes_on(folder: Path, tmp_path: Path, number: signal.Signals) -> None:
    """About 10 s for each signal."""
    out = tmp_path / "out.jsonl"
    rows = [{"audio_filepath": str(folder / "0.wav")}] * 9_000
    write_rows(tmp_path / "in.jsonl", rows)
    words = command(folder, out)
    words[2] = str(tmp_path / "in.jsonl")
    run = subprocess.Popen(
        [sys.executable, "-m", "streamasr.cli", *words], stderr=subprocess.PIPE, text=True, env=os.environ
    )
    while not out.exists() or out.stat().st_size < 1_000:
        assert run.poll() is None
    run.send_signal(number)
    _, printed = run.communicate(timeout=60)
    if number is signal.SIGKILL:
        assert run.returncode == -signal.SIGKILL
    else:
        assert run.returncode == 130
        assert printed.endswith("interrupted; the same command goes on with the rest\n")
        assert "Traceback" not in printed
    finished = out.read_bytes().count(b"\n")
    assert 0 < finished < len(rows)
    last = max(row["line"] for row in map(json.loads, out.read_bytes().splitlines()[:finished]))
    write_rows(tmp_path / "in.jsonl", rows[: last + 3])
    assert main(words) == 0
    assert [row["line"] for row in read(out)] == list(range(1, last + 4))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["a.wav"], "give FILEs or --manifest, not both"),
        (["--retries", "-1"], "--retries must be 0 or more, got -1"),
        (["--batch", "0"], "--batch must be 1 or more, got 0"),
        (["--workers", "0"], "--workers must be 1 or more, got 0"),
        (["--channels", "each"], "--channels each needs FILEs"),
        (["--format", "srt"], "--output and --format are for FILEs"),
        (["--encoding", "mulaw"], "give its --rate, too"),
    ],
)
def test_wrong_flags_are_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], message: str
) -> None:
    assert main([*command(folder, tmp_path / "out.jsonl"), *flags]) == 1
    assert message in capsys.readouterr().err


def test_a_manifest_needs_a_file_for_results(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["transcribe", "--manifest", str(folder / "in.jsonl")]) == 1
    assert "--manifest needs --out" in capsys.readouterr().err
    assert main(["transcribe"]) == 1
    assert "nothing to transcribe; name FILEs, or a manifest with --manifest" in capsys.readouterr().err
    assert main(["transcribe", "a.wav", "--out", "b.jsonl"]) == 1
    assert "--out needs --manifest" in capsys.readouterr().err
