"""Test what commands import before their first line: what they do not need costs a second or more."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

MODEL_PACKAGES = {"torch", "torchaudio", "onnxruntime", "kenlm", "safetensors", "streamasr.recognition.model"}
"""What only those need who run a model in their process."""
SERVICE_PACKAGES = {"websockets", "uvicorn", "starlette", "prometheus_client", "streamasr.service.server"}


def imported(statement: str) -> set[str]:
    """Return the modules that a new Python process has imported after a statement."""
    program = (
        f"import contextlib, io, sys\n"
        f"with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):\n"
        f"    {statement}\n"
        f"print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    return set(done.stdout.split())


def test_the_list_of_commands_imports_none_of_them() -> None:
    modules = imported("from streamasr.cli import main; main(['--help'])")
    assert not modules & (MODEL_PACKAGES | SERVICE_PACKAGES | {"numpy", "rich", "asyncio", "sounddevice"})
    assert not {name for name in modules if name.startswith("streamasr.cli.")} - {"streamasr.cli.output"}


@pytest.mark.parametrize(("chosen", "expected"), [("", "1"), ("4", "4")])
def test_numpy_works_with_one_thread_unless_told_otherwise(chosen: str, expected: str) -> None:
    program = (
        "import os; from streamasr.cli import main\n"
        "main(['data', 'check', 'none.jsonl'])\n"
        "print(os.environ['OPENBLAS_NUM_THREADS'])"
    )
    environment = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment | ({"OPENBLAS_NUM_THREADS": chosen} if chosen else {}),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.split()[-1] == expected


@pytest.mark.parametrize("command", ["listen", "transcribe", "serve", "doctor", "bench"])
def test_the_help_of_a_command_loads_no_model(command: str) -> None:
    modules = imported(f"from streamasr.cli import main; main(['{command}', '--help'])")
    assert f"streamasr.cli.{command}" in modules
    assert not modules & MODEL_PACKAGES


def test_live_captions_of_a_microphone_import_neither_a_model_nor_the_daemon() -> None:
    """Everything that ``listen`` imports until it connects, to a daemon that is not there."""
    modules = imported(
        "from streamasr.cli import main; main(['listen', '--url', 'ws://127.0.0.1:9/v1/stream'])"
    )
    assert "streamasr_client.live" in modules
    assert not modules & (MODEL_PACKAGES | (SERVICE_PACKAGES - {"websockets"}))


def test_the_daemon_imports_a_model_only_when_it_loads_one() -> None:
    modules = imported("import streamasr.cli.serve")
    assert "streamasr.service.server" in modules
    assert not modules & MODEL_PACKAGES
