"""Test `streamasr doctor`: every check finds what is right and what is wrong."""

from __future__ import annotations

import os
import re
import socket
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from streamasr.cli import main
from streamasr.cli.doctor import (
    Finding,
    check_certificate,
    check_microphone,
    check_model,
    check_port,
    check_uploads,
)
from streamasr.engine import step_cost
from streamasr.engine.headroom import StepCost
from streamasr.service.config import ServerConfig
from streamasr.service.tls import Certificate
from streamasr_client import devices
from streamasr_client.errors import MicrophoneError
from tests.service.conftest import certificate

__all__ = ["certificate"]


def test_a_machine_that_can_run_the_default_model(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    assert main(["doctor", "--port", "0"]) == 0
    lines = capsys.readouterr().out.splitlines()
    subjects = [line.split()[1].rstrip(":") for line in lines]
    assert subjects == ["program", "settings", "port", "uploads", "model", "speed", "microphone", "ffmpeg"]
    assert re.search(r"en-small \(\w+, (float32|bfloat16|int8), cpu\) loaded", lines[4])
    assert "s of computing for a second of audio, enough for about" in lines[5]


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


def test_every_port_and_the_certificate_are_checked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.pem"
    broken.write_text("not a certificate")
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = str(other.getsockname()[1])
        flags = ["--port", "0", "--vosk-port", taken, "--wyoming-port", "0", "--model", "gone"]
        assert main(["doctor", *flags, "--tls-cert", str(broken), "--tls-key", str(broken)]) == 1
    output = capsys.readouterr().out
    assert f"problem  vosk_port: cannot listen on 127.0.0.1 port {taken}" in output
    assert "choose another one with --vosk-port" in output
    assert "ok       wyoming_port: a free one is chosen" in output
    assert f"problem  certificate: tls_cert {broken}" in output


def test_the_room_for_uploads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=5_000_000_000))
    small = check_uploads(ServerConfig(max_uploads=5, max_upload_bytes=1_000_000_000))
    assert (small.state, "5.0 GB free; all uploads together take up to 5.0 GB" in small.text) == ("ok", True)
    large = check_uploads(ServerConfig(max_uploads=6, max_upload_bytes=1_000_000_000))
    assert (large.state, "point TMPDIR to a larger disk" in large.text) == ("warning", True)

    def nowhere() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr("tempfile.gettempdir", nowhere)
    assert "No usable temporary directory found" in check_uploads(ServerConfig()).text


def test_the_end_of_the_certificate_is_told(certificate: Path) -> None:
    validity = Certificate(certificate, certificate).validity
    assert validity is not None
    for now_s, state, words in (
        (validity.begin_s, "ok", "can be used; valid until 20"),
        (validity.end_s - 86_400, "warning", "is valid until 20"),
        (validity.end_s, "problem", "was valid until 20"),
    ):
        finding = check_certificate(certificate, certificate, now_s)
        assert (finding.state, words in finding.text) == (state, True)


@pytest.mark.parametrize("listen", ["127.0.0.1:{port} (Stream)", "127.0.0.1:1 (Stream)"])
def test_a_port_that_systemd_has_for_the_daemon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listen: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        systemctl = tmp_path / "systemctl"
        systemctl.write_text(
            f"#!/bin/sh\necho 'ActiveState=active'; echo 'Listen={listen.format(port=port)}'\n"
        )
        systemctl.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        finding = check_port(ServerConfig(port=port))
    assert finding.state == ("ok" if "{port}" in listen else "problem")


def slow(monkeypatch: pytest.MonkeyPatch, factor: float) -> list[Finding]:
    """Return the findings about a model whose steps take ``factor`` times 9 ms."""
    cost = StepCost(chunk_frames=32, batch=8, alone_s=0.009, full_s=0.036, cpu_s=0.07)
    slower = replace(cost, **{name: getattr(cost, name) * factor for name in ("alone_s", "full_s", "cpu_s")})
    monkeypatch.setattr(step_cost, "step_cost", lambda *_: slower)
    monkeypatch.setattr(step_cost, "usable_cores", lambda: 2)
    return list(check_model(ServerConfig()))


def test_speed_is_the_number_of_sessions_that_the_daemon_admits(monkeypatch: pytest.MonkeyPatch) -> None:
    _, fast = slow(monkeypatch, 1)
    assert (fast.state, fast.text) == (
        "ok",
        "0.039 s of computing for a second of audio, enough for about 40 live streams at once",
    )
    _, slower = slow(monkeypatch, 20)
    assert slower.state == "ok"
    assert "enough for about 2 live streams at once" in slower.text
    _, hopeless = slow(monkeypatch, 200)
    assert hopeless.state == "warning"
    assert "enough for about one live stream at once; captions will be late" in hopeless.text


def test_the_microphone(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> Any:
        raise MicrophoneError("recording needs the PortAudio library")

    monkeypatch.setattr(devices, "load_portaudio", missing)
    assert check_microphone() == Finding("warning", "microphone", "recording needs the PortAudio library")
    device = {"name": "Headset", "max_input_channels": 1, "default_samplerate": 48_000.0}
    found = SimpleNamespace(default=SimpleNamespace(device=(0, 0)), query_devices=lambda: [device])
    monkeypatch.setattr(devices, "load_portaudio", lambda: found)
    assert check_microphone() == Finding("ok", "microphone", "Headset (48000 Hz)")
