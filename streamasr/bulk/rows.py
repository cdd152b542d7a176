"""Read the rows of a manifest by number, with only their places and durations in memory."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streamasr.errors import DataError
from streamasr.jsonlines import parse_object
from streamasr.manifest import MAX_DURATION_S

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a manifest."""

    line: int
    """Its line in the manifest, counted from 1."""
    audio: str
    """``audio_filepath`` as the manifest has it."""
    duration_s: float
    """Length of the audio in seconds; 0 if the manifest does not state it."""
    fields: dict[str, Any]
    """All fields of the row."""


class Rows:
    """The rows of a manifest. A row takes 28 bytes of memory; its text is read again when it is needed.

    Unlike training data, a row needs no ``text`` and no ``duration``.

    Args:
        path: the manifest.

    Raises:
        DataError: no such file, no row, or a line that cannot be used; the message names file and line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offsets, self._lengths, self._lines = array("q"), array("l"), array("q")
        self.durations_s = array("f")
        """Stated durations in seconds; 0 where there is none."""
        self._index: dict[int, int] | None = None
        try:
            self._file = path.open("rb")
        except (FileNotFoundError, IsADirectoryError):
            raise DataError(f"{path}: no such file") from None
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror}") from None
        for offset, number, line in self._raw_lines():
            row = self._parse(line, number)
            self._offsets.append(offset)
            self._lengths.append(len(line))
            self._lines.append(number)
            self.durations_s.append(row.duration_s)
        if not self._lines:
            raise DataError(f"{path}: contains no rows")

    def __len__(self) -> int:
        return len(self._lines)

    def __getitem__(self, index: int) -> Row:
        """Read row ``index``, counted from 0. Any thread may call this.

        Raises:
            DataError: the manifest has been changed since.
        """
        line = os.pread(self._file.fileno(), self._lengths[index], self._offsets[index])
        return self._parse(line, self._lines[index])

    def index_of_line(self, line: int) -> int | None:
        """Return the index of the row in ``line``, counted from 1; ``None`` if there is no row."""
        if self._lines[-1] == len(self):  # no blank lines
            return line - 1 if 1 <= line <= len(self) else None
        if self._index is None:
            self._index = {number: index for index, number in enumerate(self._lines)}
        return self._index.get(line)

    def longest_first(self, indices: Iterator[int]) -> array[int]:
        """Sort row indices: rows of unknown length, then the longest; rows of one length keep their order."""
        durations = self.durations_s
        return array("q", sorted(indices, key=lambda index: -(durations[index] or float("inf"))))

    def audio_path(self, row: Row) -> str:
        """Return the path of a row's audio, which is relative to the manifest's folder, or its URL."""
        return row.audio if "://" in row.audio else str(self.path.parent / row.audio)

    def _raw_lines(self) -> Iterator[tuple[int, int, bytes]]:
        """Yield offset, number and bytes of each line that is not blank."""
        offset = 0
        for number, raw in enumerate(self._file, start=1):
            mark = len(_BYTE_ORDER_MARK) if number == 1 and raw.startswith(_BYTE_ORDER_MARK) else 0
            if line := raw[mark:].strip(b" \t\r\n"):
                yield offset + raw.index(line, mark), number, line
            offset += len(raw)

    def _parse(self, line: bytes, number: int) -> Row:
        where = f"{self.path}:{number}"
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            raise DataError(f"{where}: not UTF-8: {error}") from None
        fields = parse_object(text, where)
        audio = fields.get("audio_filepath")
        if not isinstance(audio, str) or not audio:
            raise DataError(f"{where}: 'audio_filepath' must be the path of an audio file, got {audio!r}")
        duration = fields.get("duration") or 0.0
        if (
            isinstance(duration, bool)
            or not isinstance(duration, (int, float))
            or not 0 <= duration < MAX_DURATION_S
        ):
            raise DataError(f"{where}: 'duration' must be a number of seconds, got {duration!r}")
        return Row(number, audio, float(duration), fields)
