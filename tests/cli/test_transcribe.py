"""Test `streamasr transcribe`: formats, files and failures, with a fake of the daemon's client."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from streamasr.cli import main
from streamasr.cli import transcribe as command
from streamasr.protocol.messages import Final, Start
from streamasr_client.audio import SoundFile
from streamasr_client.errors import DaemonError

CLIPS = Path(__file__).parents[1] / "data" / "librispeech"
ONE, TWO = CLIPS / "2136-5147-0011.flac", CLIPS / "481-123719-0000.flac"


@pytest.fixture(autouse=True)
def starts(monkeypatch: pytest.MonkeyPatch) -> list[Start]:
    """Recognise the name of a file in it, and refuse one file."""
    seen: list[Start] = []

    async def transcribe(url: str, start: Start, file: SoundFile, **options: Any) -> list[Final]:
        seen.append(start)
        if file.source.path == TWO and start.token == "wrong":
            raise DaemonError("a token is needed", code="unauthorized", fault="client")
        options["on_progress"](file.duration_ms)
        return [Final(utterance=0, text=file.source.stem, confidence=1.0, start_ms=0, end_ms=2_000)]

    monkeypatch.setattr(command, "transcribe_file", transcribe)
    return seen


def test_one_file_to_standard_output(capsys: pytest.CaptureFixture[str], starts: list[Start]) -> None:
    assert main(["transcribe", str(ONE), "--latency-ms", "1280"]) == 0
    assert capsys.readouterr().out == "2136-5147-0011\n"
    assert starts[0].latency_ms == 1_280


def test_several_files_have_headings(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["transcribe", str(ONE), str(TWO)]) == 0
    assert capsys.readouterr().out == f"== {ONE} ==\n2136-5147-0011\n== {TWO} ==\n481-123719-0000\n"
    assert main(["transcribe", str(ONE), str(TWO), "--format", "json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["file"], line["text"]) for line in lines] == [(str(ONE), ONE.stem), (str(TWO), TWO.stem)]


def test_output_is_a_file_for_one_and_a_folder_for_several(tmp_path: Path) -> None:
    assert main(["transcribe", str(ONE), "--format", "srt", "--output", str(tmp_path / "a" / "b.srt")]) == 0
    assert (tmp_path / "a" / "b.srt").read_text() == "1\n00:00:00,000 --> 00:00:02,000\n2136-5147-0011\n\n"
    assert main(["transcribe", str(ONE), str(TWO), "--format", "vtt", "--output", str(tmp_path / "c")]) == 0
    assert {path.name for path in (tmp_path / "c").iterdir()} == {f"{ONE.stem}.vtt", f"{TWO.stem}.vtt"}


def test_one_file_may_go_into_a_folder(tmp_path: Path) -> None:
    assert main(["transcribe", str(ONE), "--output", str(tmp_path)]) == 0
    assert (tmp_path / f"{ONE.stem}.txt").read_text() == f"{ONE.stem}\n"
    assert main(["transcribe", str(ONE), "--output", f"{tmp_path}/new/"]) == 0
    assert (tmp_path / "new" / f"{ONE.stem}.txt").read_text() == f"{ONE.stem}\n"


def test_a_place_that_cannot_be_written_is_refused_before_any_work(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    starts: list[Start],
) -> None:
    (tmp_path / f"{ONE.stem}.txt").mkdir()
    assert main(["transcribe", str(ONE), "--output", str(tmp_path)]) == 1
    assert f"{ONE.stem}.txt: cannot be written: Is a directory" in capsys.readouterr().err
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)  # root may write everywhere
    for output in (tmp_path, tmp_path / "a.txt"):
        assert main(["transcribe", str(TWO), "--output", str(output)]) == 1
        assert ".txt: cannot be written: Permission denied" in capsys.readouterr().err
    assert starts == []


@pytest.mark.parametrize("form", ["srt", "vtt"])
def test_subtitles_have_the_size_of_the_flags(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    async def transcribe(url: str, start: Start, file: SoundFile, **options: Any) -> list[Final]:
        return [Final(utterance=0, text="good morning all", confidence=1.0, start_ms=0, end_ms=3_400)]

    monkeypatch.setattr(command, "transcribe_file", transcribe)
    flags = ["--max-line-chars", "7", "--max-lines", "2", "--max-cue-seconds", "2.5"]
    assert main(["transcribe", str(ONE), "--format", form, *flags]) == 0
    assert capsys.readouterr().out == (
        "1\n00:00:00,000 --> 00:00:01,000\ngood\n\n2\n00:00:01,000 --> 00:00:03,400\nmorning\nall\n\n"
        if form == "srt"
        else "WEBVTT\n\n00:00:00.000 --> 00:00:01.000\ngood\n\n00:00:01.000 --> 00:00:03.400\nmorning\nall\n\n"
    )


def test_one_failure_does_not_stop_the_others(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    gone = tmp_path / "gone.wav"
    assert main(["transcribe", str(gone), str(TWO), str(ONE), "--token", "wrong"]) == 1
    printed = capsys.readouterr()
    assert printed.out == f"== {ONE} ==\n{ONE.stem}\n"
    assert f"{gone}: no such file" in printed.err
    assert f"{TWO}: a token is needed" in printed.err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--model", "x"], "--model needs --local"),
        (["--format", "srt"], "name a folder for them with --output"),
        (["--output", str(ONE)], "cannot be made a folder: File exists"),
        (["--local", "--model", "no-such-model"], "no such folder and no packaged model"),
    ],
)
def test_wrong_flags_are_refused(capsys: pytest.CaptureFixture[str], flags: list[str], message: str) -> None:
    assert main(["transcribe", str(ONE), str(TWO), *flags]) == 1
    assert message in capsys.readouterr().err


def test_results_never_share_a_file_or_replace_an_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], starts: list[Start]
) -> None:
    paths = [tmp_path / "a" / "talk.flac", tmp_path / "b" / "talk.flac"]
    for path in paths:
        path.parent.mkdir()
        path.write_bytes(ONE.read_bytes())
    assert main(["transcribe", *map(str, paths), "--output", str(tmp_path / "c")]) == 1
    assert f"{paths[0]} and {paths[1]} would both be written to {tmp_path / 'c' / 'talk.txt'}" in (
        capsys.readouterr().err
    )
    assert main(["transcribe", str(paths[0]), "--output", str(paths[0])]) == 1
    assert f"would overwrite the input {paths[0]}" in capsys.readouterr().err
    assert paths[0].read_bytes() == ONE.read_bytes()
    assert starts == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_full_disk_is_an_error_and_no_traceback() -> None:
    code = (
        "import sys; from streamasr.cli.output import write_stdout; from streamasr.errors import ConfigError\n"
        "try: write_stdout('text')\n"
        "except ConfigError as error: sys.exit(error.message)"
    )
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 1
    assert done.stderr == "standard output: cannot be written: No space left on device\n"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--encoding", "pcm_f32le"], "--encoding and --raw-channels describe raw PCM: give its --rate, too"),
        (["--rate", "10"], "the rate of raw audio must be 1000 to 768000 Hz, got 10"),
        (["--rate", "8000", "--raw-channels", "65"], "raw audio must have 1 to 64 channels, got 65"),
        (["--read-timeout", "0"], "--read-timeout must be positive, got 0"),
    ],
)
def test_flags_of_raw_audio(capsys: pytest.CaptureFixture[str], flags: list[str], message: str) -> None:
    assert main(["transcribe", str(ONE), *flags]) == 1
    assert message in capsys.readouterr().err
