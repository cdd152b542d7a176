"""Test that `listen`, `transcribe` with a real daemon and `transcribe --local` return the same text."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
import soundfile

from streamasr.cli import main
from streamasr.protocol.messages import Final, Start
from streamasr_client.audio import PacedFile
from streamasr_client.live import LiveEvent, LiveStream
from tests.recognition.tiny import noise, save_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny model of random weights."""
    return save_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def url(model: Path) -> Iterator[str]:
    """The stream of a daemon that runs the tiny model."""
    command = [sys.executable, "-m", "streamasr.cli", "serve", "--port", "0", "--model", str(model)]
    with subprocess.Popen([*command, "--device", "cpu"], stdout=subprocess.PIPE, text=True) as daemon:
        assert daemon.stdout is not None
        first = daemon.stdout.readline()
        assert first.startswith("ready ws://127.0.0.1:"), first
        yield first.split()[1]
        daemon.terminate()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A 16-bit file, a stereo file with another rate, a file of floats, and rates that the protocol does not take."""
    folder = tmp_path_factory.mktemp("sound")
    samples = noise(6.0, seed=5)
    soundfile.write(folder / "plain.wav", samples, 16_000, subtype="PCM_16")
    soundfile.write(folder / "stereo.flac", [[x, -x / 2] for x in samples], 22_050, subtype="PCM_16")
    soundfile.write(folder / "float.wav", samples, 48_000, subtype="FLOAT")
    for rate in (6_000, 88_200, 96_000, 192_000):
        soundfile.write(folder / f"{rate}.wav", samples[: 3 * 16_000], rate, subtype="PCM_16")
    names = ("plain.wav", "stereo.flac", "float.wav", "6000.wav", "88200.wav", "96000.wav", "192000.wav")
    return [folder / name for name in names]


async def caption(url: str, file: Path) -> list[LiveEvent]:
    async def no_sleep(seconds: float) -> None:
        return None

    stream = LiveStream(url, Start(latency_ms=160), PacedFile(file, sleep=no_sleep))
    async with aclosing(stream.events()) as events:
        return [event async for event in events]


def transcribed(capsys: pytest.CaptureFixture[str], *args: object) -> list[list[dict[str, Any]]]:
    """Run `transcribe` and return the `utterances` of every file."""
    assert main(["transcribe", "--format", "json", "--latency-ms", "160", *map(str, args)]) == 0
    return [json.loads(line)["utterances"] for line in capsys.readouterr().out.splitlines()]


async def test_listen_transcribe_and_local_agree(
    url: str, model: Path, files: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    local = transcribed(capsys, "--local", "--model", model, *files)
    texts = [[utterance["text"] for utterance in each] for each in local]
    assert all(" ".join(each) for each in texts)
    streams = [await caption(url, file) for file in files]
    assert [[event.text for event in events if isinstance(event, Final)] for events in streams] == texts


def test_the_daemon_and_local_agree_in_every_field(
    url: str, model: Path, files: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    through_daemon = transcribed(capsys, "--url", url, *files)
    local = transcribed(capsys, "--local", "--model", model, *files)
    for ours, theirs in zip(local, through_daemon, strict=True):
        for mine, other in zip(ours, theirs, strict=True):
            assert mine["text"] == other["text"]
            assert [(w["word"], w["start_ms"], w["end_ms"]) for w in mine["words"]] == [
                (w["word"], w["start_ms"], w["end_ms"]) for w in other["words"]
            ]
