"""Run the Python programs of README.md, docs/quickstart.md and docs/clients.md against a daemon with en-small."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import soundfile

from streamasr.recognition.model import packaged_models
from streamasr.scoring import word_edits
from tests.integration.conftest import Daemon, run_daemon

ROOT = Path(__file__).parents[2]
CLIP = ROOT / "tests" / "data" / "librispeech" / "481-123719-0000.flac"
TRANSCRIPT = "it was followed by remorse i tried to drive it away i felt too sick"
PUBLISHED_URL = "ws://127.0.0.1:8765/v1/stream"
PROGRAMS = [
    pytest.param(program, id=f"{name}-{number}")
    for name in ("README.md", "docs/quickstart.md", "docs/clients.md")
    for number, program in enumerate(
        re.findall(r"```python\n(.*?)```", (ROOT / name).read_text(encoding="utf-8"), re.DOTALL)
    )
]

pytestmark = pytest.mark.skipif(
    not (packaged_models().get("en-small", Path("en-small")) / "model.safetensors").is_file(),
    reason="the model en-small has no weights here",
)


@pytest.fixture(scope="module")
def default_daemon() -> Iterator[Daemon]:
    """A daemon with the default model."""
    with run_daemon() as daemon:
        yield daemon


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that the programs open."""
    folder = tmp_path_factory.mktemp("audio")
    samples, rate = soundfile.read(CLIP, dtype="int16")
    soundfile.write(folder / "speech.wav", samples, rate)
    soundfile.write(folder / "talk.flac", samples, rate)
    return folder


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_documented_program_prints_the_words(default_daemon: Daemon, folder: Path, program: str) -> None:
    assert PUBLISHED_URL in program
    ran = subprocess.run(
        [sys.executable, "-c", program.replace(PUBLISHED_URL, default_daemon.url)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    last = ran.stdout.replace("\033[K", "").rstrip("\n").replace("\r", "\n").splitlines()[-1]
    assert word_edits(TRANSCRIPT, last).errors <= 2


def test_there_are_programs() -> None:
    assert len(PROGRAMS) >= 4
