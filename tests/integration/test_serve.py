"""Test ``streamasr serve`` as a process: its startup errors, and ``streamasr bench server`` with it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile

from streamasr.dialects.clients import CLIENTS
from tests.integration.conftest import Daemon
from tests.recognition.tiny import noise

pytestmark = pytest.mark.timeout(300)
"""Starting processes takes long on a busy machine."""


def streamasr(*args: str) -> subprocess.CompletedProcess[str]:
    """Run one command and return its result."""
    command = [sys.executable, "-m", "streamasr.cli", *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--host", "0.0.0.0"], "refusing to listen on 0.0.0.0 without a token"),
        (["--model", "/nowhere/model"], "/nowhere/model: no such folder and no packaged model"),
        (["--port", "http"], "--port: expected a number, got 'http'"),
        (["--config", "/nowhere/c.toml"], "/nowhere/c.toml: No such file"),
    ],
)
def test_a_startup_error_is_one_clear_line(flags: list[str], words: str) -> None:
    result = streamasr("serve", "--port", "0", *flags)
    assert (result.returncode, result.stdout) == (1, "")
    assert words in result.stderr
    assert result.stderr.startswith("streamasr serve: ")
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("command", ["serve", "bench"])
def test_help_shows_an_example(command: str) -> None:
    result = streamasr(command, "--help")
    assert result.returncode == 0
    assert f"example:\n  streamasr {command}" in result.stdout


def test_bench_ends_with_one_json_line(daemon: Daemon, tmp_path: Path) -> None:
    audio = tmp_path / "noise.wav"
    soundfile.write(audio, noise(3.0, seed=1), 16_000)
    flags = ["--streams", "2", "--audio", str(audio), "--duration", "2", "--latency-ms", "160"]
    result = streamasr("bench", "server", "--url", daemon.url, *flags)
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout.splitlines()[-1])
    assert (report["streams"], report["failed"], report["latency_ms"], report["audio_s"]) == (2, 0, 160, 4.0)
    assert report["partials"] > 0
    assert report["cpu_s_per_audio_s"] > 0
    for name in ("partial_lag_ms", "first_partial_ms", "flush_ms"):
        assert 0 < report[name]["p50"] <= report[name]["p95"] <= report[name]["p99"]


@pytest.mark.parametrize("dialect", [name for name in CLIENTS if name != "native"])
def test_bench_drives_every_live_dialect(daemon: Daemon, tmp_path: Path, dialect: str) -> None:
    audio = tmp_path / "noise.wav"
    soundfile.write(audio, noise(3.0, seed=1), 16_000)
    flags = ["--streams", "2", "--audio", str(audio), "--duration", "3", "--dialect", dialect]
    if dialect == "wyoming":
        flags += ["--tcp-port", daemon.dialect_urls[dialect].rsplit(":", 1)[1]]
    result = streamasr("bench", "server", "--url", daemon.url, *flags)
    report = json.loads(result.stdout.splitlines()[-1])
    assert (report["failed"], report["errors"], report["audio_s"]) == (0, [], 6.0)
    assert report["finals"] > 0
    assert report["final_lag_ms"]["p95"] > 0
    result = streamasr("bench", "server", "--url", daemon.url, *flags, "--latency-ms", "160")
    assert result.returncode == 1
    assert "only the native protocol can ask for a latency" in result.stderr


def test_bench_reports_failed_streams(daemon: Daemon, tmp_path: Path) -> None:
    audio = tmp_path / "noise.wav"
    soundfile.write(audio, noise(1.0), 16_000)
    url = daemon.url.replace(str(daemon.port), "1")
    result = streamasr("bench", "server", "--url", url, "--streams", "2", "--audio", str(audio))
    assert result.returncode == 1
    report = json.loads(result.stdout.splitlines()[-1])
    assert (report["failed"], report["cpu_s_per_audio_s"]) == (2, None)
    assert "Connect call failed" in report["errors"][0]
