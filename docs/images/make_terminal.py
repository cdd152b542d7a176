"""Record the terminal session that README.md shows as an SVG.

The script starts the daemon on its default port, joins clips of tests/data into talk.flac, runs
`streamasr transcribe` and `streamasr listen` in a pseudo-terminal, and draws what they printed. `streamasr listen` is
drawn in the middle of an utterance.

    python -m docs.images.make_terminal
"""

from __future__ import annotations

import argparse
import fcntl
import io
import os
import pty
import re
import shlex
import struct
import subprocess
import sys
import tempfile
import termios
from pathlib import Path

from rich.console import Console
from rich.text import Text

from docs.images.stage import daemon, write_speech

CLIPS = (
    "librispeech/481-123719-0000.flac",
    "l2/029170055.flac",
)
COLUMNS = 84
TRANSCRIBE = "streamasr transcribe --local --format srt talk.flac"
LISTEN = "streamasr listen --file talk.flac"
LAST_WORDS = "conclusion was"
"""The picture of `streamasr listen` is taken when these words are in its last line of captions."""


def main() -> int:
    """Write the picture; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("terminal.svg"))
    args = parser.parse_args()
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    with tempfile.TemporaryDirectory() as folder, daemon():
        write_speech(Path(folder, "talk.flac"), CLIPS)
        for command, until in ((TRANSCRIBE, ""), (LISTEN, LAST_WORDS)):
            console.print(Text.assemble(("$ ", "bold green"), (command, "bold")))
            for line in run(command, Path(folder), until):
                console.print(Text.from_ansi(line), no_wrap=True)
    args.out.write_text(without_web_fonts(console.export_svg(title="streamasr")), encoding="utf-8")
    print(f"{args.out}: {args.out.stat().st_size} bytes")
    return 0


def without_web_fonts(svg: str) -> str:
    """Rich's SVG with the reader's own monospaced font instead of one that is loaded from the web."""
    return re.sub(r"@font-face \{.*?\}\n", "", svg, flags=re.DOTALL).replace("Fira Code, ", "")


def run(command: str, folder: Path, until: str) -> list[str]:
    """Run a command in a pseudo-terminal; returns the lines on the screen at its end, or once ``until`` is there."""
    terminal, inside = pty.openpty()
    fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", 40, COLUMNS, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "streamasr.cli", *shlex.split(command)[1:]],
        cwd=folder,
        stdin=inside,
        stdout=inside,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "TERM": "xterm-256color"},
    )
    os.close(inside)
    screen = Screen()
    try:
        while data := _read(terminal):
            screen.feed(data.decode("utf-8", "replace"))
            if until and until in _plain(screen.lines):
                break
    finally:
        process.terminate()
        process.wait()
        os.close(terminal)
    return [line for line in screen.lines if line.strip()] if until else screen.lines[:-1]


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65_536)
    except OSError:  # Linux reports a terminal whose last program has ended as an error
        return b""


def _plain(lines: list[str]) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(lines))


class Screen:
    """Lines of a terminal, with their colours, under the few control codes that rich's live display uses."""

    _CODE = re.compile(r"(\r\n|\r|\n|\x1b\[[0-9;?]*[A-Za-z])")

    def __init__(self) -> None:
        self.lines = [""]
        self._row = 0

    def feed(self, text: str) -> None:
        """Take in what a program printed."""
        for part in self._CODE.split(text):
            if part in ("\r\n", "\n"):
                self._row += 1
                if self._row == len(self.lines):
                    self.lines.append("")
            elif part == "\x1b[2K":
                self.lines[self._row] = ""
            elif match := re.fullmatch(r"\x1b\[(\d*)A", part):
                self._row -= int(match[1] or 1)
            elif part != "\r" and not re.fullmatch(r"\x1b\[\?\d+[hl]", part):
                self.lines[self._row] += part


if __name__ == "__main__":
    sys.exit(main())
