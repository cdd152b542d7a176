"""Test `streamasr transcribe --local` with the default model on files that are cut, odd, or not files at all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from streamasr.cli import main

pytestmark = [pytest.mark.usefixtures("en_small"), pytest.mark.timeout(300)]

CLIPS = Path(__file__).parents[1] / "data" / "librispeech"
CLIP, OTHER = CLIPS / "2136-5147-0011.flac", CLIPS / "5789-70653-0013.flac"
WORDS = [
    "looking",
    "down",
    "from",
    "the",
    "corners",
    "of",
    "her",
    "eyes",
    "in",
    "an",
    "interesting",
    "dejection",
]


def local(*arguments: object) -> int:
    return main(["transcribe", "--local", *map(str, arguments)])


def texts(out: str) -> dict[str, str]:
    return {line["file"]: line["text"] for line in map(json.loads, out.splitlines())}


def test_cut_files_give_the_words_up_to_the_cut(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    samples, rate = soundfile.read(CLIP, dtype="float32")
    paths = []
    for name, subtype in (
        ("a.wav", None),
        ("a.flac", None),
        ("a.mp3", None),
        ("a.ogg", None),
        ("a.opus", "OPUS"),
    ):
        path = tmp_path / name
        soundfile.write(path, samples, rate, format="OGG" if subtype else None, subtype=subtype)
        # Before the long word: of its first half, a recogniser may make two short ones.
        path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
        paths.append(path)
    assert local("--format", "json", *paths, CLIP) == 1
    printed = capsys.readouterr()
    found = texts(printed.out)
    assert found.pop(str(CLIP)) == " ".join(WORDS)
    assert set(found) == set(map(str, paths))
    for path in paths:
        recognised = found[str(path)].split()
        assert 6 <= len(recognised) <= 11  # the last word may be cut itself
        assert recognised[:-1] == WORDS[: len(recognised) - 1]
    assert [line.split(": incomplete: ")[0] for line in printed.err.splitlines()] == list(map(str, paths))


def test_a_file_with_nan_is_refused_and_the_others_are_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    samples, rate = soundfile.read(CLIP, dtype="float32")
    samples[40_000] = np.nan
    soundfile.write(tmp_path / "nan.wav", samples, rate, subtype="FLOAT")
    assert local(tmp_path / "nan.wav", CLIP) == 1
    printed = capsys.readouterr()
    assert printed.out == f"== {CLIP} ==\n{' '.join(WORDS)}\n"
    assert printed.err.startswith(f"{tmp_path / 'nan.wav'}: sample 40000 of channel 1 (2.500 s) is nan")


def test_channels_of_a_call(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, rate = soundfile.read(CLIP, dtype="float32")
    second, _ = soundfile.read(OTHER, dtype="float32")
    stereo = np.zeros((len(first) + len(second), 2), dtype=np.float32)
    stereo[: len(first), 0], stereo[len(first) :, 1] = first, second
    soundfile.write(tmp_path / "call.wav", stereo, rate)
    assert local("--channels", "left", tmp_path / "call.wav") == 0
    assert capsys.readouterr().out == " ".join(WORDS) + "\n"
    assert local("--channels", "each", tmp_path / "call.wav") == 0
    first_line, *further = capsys.readouterr().out.splitlines()
    assert first_line == "left: " + " ".join(WORDS)
    assert further[0].startswith("right: and what time it was")
    assert all(line.startswith("right: ") for line in further)
    assert local("--channels", "each", "--format", "json", tmp_path / "call.wav") == 0
    utterances = json.loads(capsys.readouterr().out)["utterances"]
    assert [each["channel"] for each in utterances] == ["left"] + ["right"] * len(further)
    assert utterances[1]["start_ms"] > 4_000
    assert local("--channels", "each", "--format", "srt", tmp_path / "call.wav") == 0
    cues = capsys.readouterr().out.split("\n\n")
    assert cues[0].splitlines()[2].startswith("left: looking down")
    assert any(cue.splitlines()[2].startswith("right: and what time") for cue in cues if cue)
    assert max(map(len, cues[0].splitlines())) <= 42
    assert local("--channels", "right", CLIP) == 1
    assert f"{CLIP}: has no right channel, only 1 channel" in capsys.readouterr().err


def test_opposite_phases_are_recognised(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    samples, rate = soundfile.read(CLIP, dtype="float32")
    soundfile.write(tmp_path / "a.wav", np.stack([samples, -samples], axis=1), rate)
    assert local(tmp_path / "a.wav") == 0
    printed = capsys.readouterr()
    assert printed.out == " ".join(WORDS) + "\n"
    assert "its channels have opposite phases" in printed.err


@pytest.mark.parametrize("how", ["flac", "raw", "cp1252"])
def test_standard_input(tmp_path: Path, how: str) -> None:
    """Also with a locale and an encoding that lack the characters of a file's name."""
    command = [sys.executable, "-m", "streamasr.cli", "transcribe", "--local"]
    environment = {**os.environ, "LC_ALL": "C"}
    stdin = CLIP.read_bytes()
    if how == "raw":
        samples, _ = soundfile.read(CLIP, dtype="int16")
        stdin = samples.astype(">i2").tobytes()
        command += ["--rate", "16000", "--encoding", "pcm_s16be", "/dev/stdin"]
    elif how == "flac":
        command += ["-"]
    else:
        named = tmp_path / "演说 čeština.flac"
        named.write_bytes(stdin)
        environment["PYTHONIOENCODING"] = "cp1252"
        command += [str(named), "-"]
    done = subprocess.run(command, input=stdin, capture_output=True, env=environment, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    lines = done.stdout.decode("cp1252").splitlines()
    assert [line for line in lines if not line.startswith("==")] == [" ".join(WORDS)] * (
        2 if how == "cp1252" else 1
    )


def test_colons_in_a_message_make_no_emoji(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a:smile:b.wav"
    assert local(path) == 1
    assert f"{path}: no such file" in capsys.readouterr().err.replace("\n", "")
