"""Test that a daemon without PyTorch, ONNX Runtime and their like serves the packaged model with the same text."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamasr import load_model, transcribe
from streamasr.protocol.messages import Start
from streamasr_client.audio import SoundFile
from streamasr_client.transcription import transcribe_file

CLIP = Path(__file__).parents[1] / "data" / "librispeech" / "2136-5147-0011.flac"
ABSENT = ("torch", "torchaudio", "onnxruntime", "scipy", "sentencepiece", "sounddevice")
HIDE = f"""
import importlib.machinery, sys
class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {ABSENT}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Hide())
import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name in {ABSENT} else found(name, package)
from streamasr.cli import main
sys.exit(main(sys.argv[1:]))
"""


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", HIDE, *arguments]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    flags = ["serve", "--port", "0", "--threads", "1", "--precision", "float32", "--log-level", "warning"]
    with subprocess.Popen(command(*flags), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            assert line.startswith("ready "), line
            yield line.removeprefix("ready ").strip()
        finally:
            process.kill()


def test_the_text_is_the_same(url: str) -> None:
    finals = asyncio.run(transcribe_file(url, Start(), SoundFile(CLIP)))
    expected = transcribe(load_model("en-small", device="cpu", threads=1), CLIP)
    assert " ".join(final.text for final in finals) == expected.text


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--device", "cuda"), "device 'cuda' needs PyTorch, which is not installed; use cpu or auto"),
        (("--backend", "torch"), "without its native step, an encoder needs PyTorch, which is not installed"),
    ],
)
def test_what_needs_pytorch_says_so(flags: tuple[str, ...], message: str) -> None:
    run = subprocess.run(command("serve", "--port", "0", *flags), capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert message in run.stderr
    assert "Traceback" not in run.stderr
