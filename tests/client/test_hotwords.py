"""Test that users see how their hotwords were read, and which ones are not used."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from streamasr.cli import main
from streamasr.protocol.messages import HotwordReading, Ready, Start, Warning
from streamasr_client.audio import SoundFile
from streamasr_client.hotwords import describe_readings
from streamasr_client.render import CaptionState, update
from streamasr_client.terminal import PlainView
from streamasr_client.transcription import transcribe_file
from tests.client.scripted import ScriptedConnection, ScriptedDaemon
from tests.recognition.tiny import tiny_model

READINGS = (
    HotwordReading(text="B2B", read_as="b two b"),
    HotwordReading(text="Ada  Lovelace", read_as="ada lovelace"),
    HotwordReading(text="?"),
)
SENTENCE = "hotwords are read as spoken: 'B2B' as 'b two b'"
READY = Ready(session="s", sample_rate=16_000, latency_ms=640, model="en-small", hotwords=READINGS)
CLIP = Path(__file__).parents[1] / "data" / "librispeech" / "481-123719-0000.flac"


def test_only_readings_that_change_more_than_capitals_are_described() -> None:
    assert describe_readings(READINGS) == SENTENCE
    assert describe_readings(READINGS[1:]) == ""


def test_both_views_show_them() -> None:
    out, err = Console(file=io.StringIO()), Console(file=io.StringIO(), width=20)
    PlainView(out, err).show(READY)
    assert isinstance(err.file, io.StringIO)
    assert err.file.getvalue() == f"{SENTENCE}\n"
    assert update(CaptionState(), READY).notice == SENTENCE


async def test_a_transcription_passes_them_on_with_the_daemons_warnings(daemon: ScriptedDaemon) -> None:
    async def script(connection: ScriptedConnection) -> None:
        await connection.socket.recv()
        connection.start = {"sample_rate": 16_000, "channels": 1, "encoding": "pcm_s16le"}
        await connection.send(READY, Warning(code="bad_hotwords", message="not used: '?'"))
        await connection.finish()

    daemon.scripts = [script]
    notices: list[str] = []
    with SoundFile(CLIP) as file:
        await transcribe_file(daemon.url, Start(), file, on_notice=notices.append)
    assert notices == [SENTENCE, "not used: '?'"]


def test_a_local_transcription_prints_them_once(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamasr.recognition.model.load_model", lambda *_, **__: tiny_model())
    flags = ["--local", "--hotword", "?", "--hotword", "É-bad"]
    assert main(["transcribe", str(CLIP), str(CLIP), *flags]) == 0
    err = capsys.readouterr().err
    assert err.count("hotwords are read as spoken: 'É-bad' as 'e bad'") == 1
    assert err.count("these hotwords are not used: '?' has no letter that this model can write") == 1
