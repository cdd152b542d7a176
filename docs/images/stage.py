"""Prepare what both pictures need: a running daemon, and recorded speech for it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import soundfile

CLIPS = Path(__file__).parents[2] / "tests" / "data"
PAUSE_S = 1.5
"""Silence before each clip: enough for an endpoint."""
PEAK = 0.7
"""Largest sample of each clip."""


@contextmanager
def daemon(*flags: str) -> Iterator[str]:
    """Run a daemon; yields the address of its stream.

    Raises:
        SystemExit: it did not start; its own message is on standard error.
    """
    command = [sys.executable, "-m", "streamasr.cli", "serve", "--device", "cpu", *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        word, _, url = process.stdout.readline().strip().partition(" ")
        if word != "ready":
            raise SystemExit("the daemon did not start; see its message above")
        try:
            yield url
        finally:
            process.terminate()


def write_speech(path: Path, clips: Iterable[str]) -> None:
    """Join clips of tests/data, with a pause before each."""
    pieces = []
    for name in clips:
        samples, rate = soundfile.read(CLIPS / name, dtype="float32")
        pieces += [np.zeros(round(PAUSE_S * rate), dtype=np.float32), PEAK * samples / np.abs(samples).max()]
    soundfile.write(path, np.concatenate(pieces), rate)
