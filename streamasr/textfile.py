"""Read UTF-8 text files of any system: with or without a byte order mark, with LF or CRLF."""

from __future__ import annotations

from pathlib import Path

ENCODING = "utf-8-sig"
"""Python's name of UTF-8 whose byte order mark, if there is one, is not part of the text."""


def read_text(path: Path) -> str:
    """Return the text without its byte order mark, with ``\\n`` at the end of each line.

    Raises:
        OSError: the file cannot be read.
        UnicodeDecodeError: the file is not UTF-8.
    """
    return path.read_bytes().decode(ENCODING).replace("\r\n", "\n")


def read_lines(path: Path) -> list[str]:
    """Return the lines of a file. Only a line feed ends a line: ``str.splitlines`` would cut at characters of a text.

    Raises:
        OSError: the file cannot be read.
        UnicodeDecodeError: the file is not UTF-8.
    """
    lines = read_text(path).split("\n")
    return lines if lines[-1] else lines[:-1]
