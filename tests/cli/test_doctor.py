"""Test `streamasr doctor`: every check finds what is right and what is wrong."""

from __future__ import annotations

import socket
from types import SimpleNamespace
from typing import Any

import pytest

from streamasr.cli import main
from streamasr.cli.doctor import Finding, check_microphone, check_port, measure_speed, streams_for
from streamasr.service.config import ServerConfig
from streamasr_client import devices
from streamasr_client.errors import MicrophoneError
from tests.recognition.tiny import tiny_model


def test_a_machine_that_can_run_the_default_model(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    assert main(["doctor", "--port", "0"]) == 0
    lines = capsys.readouterr().out.splitlines()
    subjects = [line.split()[1].rstrip(":") for line in lines]
    assert subjects == ["program", "settings", "port", "model", "speed", "microphone", "ffmpeg"]
    assert "en-small" in lines[3]
    assert "s of computing for a second of audio, enough for about" in lines[4]


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--model", "gone", "--port", "0"], "problem  model: gone: no such folder"),
        (["--host", "0.0.0.0"], "problem  settings: "),
        (["--log-level", "loud"], "problem  settings: log_level must be"),
    ],
)
def test_problems_are_named(capsys: pytest.CaptureFixture[str], flags: list[str], line: str) -> None:
    assert main(["doctor", *flags]) == 1
    assert line in capsys.readouterr().out


def test_a_port_that_another_program_has() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        finding = check_port(ServerConfig(port=port))
        assert (finding.state, finding.subject) == ("problem", "port")
        assert f"cannot listen on 127.0.0.1 port {port}" in finding.text
    assert check_port(ServerConfig(port=port)) == Finding("ok", "port", f"127.0.0.1 port {port} is free")


def test_speed_is_seconds_of_computing_for_a_second_of_audio() -> None:
    times = iter((100.0, 112.0))
    assert measure_speed(tiny_model(), lambda: next(times)) == pytest.approx(12 / (8 * 6))
    assert [streams_for(cost) for cost in (0.068, 0.3, 5.0)] == [10, 2, 1]


def test_the_microphone(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> Any:
        raise MicrophoneError("recording needs the PortAudio library")

    monkeypatch.setattr(devices, "load_portaudio", missing)
    assert check_microphone() == Finding("warning", "microphone", "recording needs the PortAudio library")
    device = {"name": "Headset", "max_input_channels": 1, "default_samplerate": 48_000.0}
    found = SimpleNamespace(default=SimpleNamespace(device=(0, 0)), query_devices=lambda: [device])
    monkeypatch.setattr(devices, "load_portaudio", lambda: found)
    assert check_microphone() == Finding("ok", "microphone", "Headset (48000 Hz)")
