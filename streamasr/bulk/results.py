"""Keep the file of results: one JSON object per finished row, repaired when a run continues, sorted at its end."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from streamasr.bulk.rows import Rows
from streamasr.errors import ConfigError, DataError

SETTINGS = ("model", "latency_ms", "format")
"""Fields of a result that all results of one file share."""


class ResultsFile:
    """An open file of results. Opening it repairs it, so that it holds at most one complete result of each row.

    Dropped are: an incomplete last line, which an interrupted run leaves; results with an ``error``, whose rows are
    to be tried again; and a second result of a row. A lock keeps a second process from writing the same file.

    Args:
        path: the file; it is made if it does not exist.
        rows: the manifest.
        settings: the values of :data:`SETTINGS`; results of other settings are refused.

    Raises:
        ConfigError: the file cannot be written, is being written by another process, or has other settings.
        DataError: it holds something else than results of this manifest; the message names the line.
    """

    def __init__(self, path: Path, rows: Rows, settings: Mapping[str, Any]) -> None:
        self.path = path
        self._rows = rows
        self._settings = dict(settings)
        self.finished = bytearray(len(rows))
        """1 for each row that has a result."""
        if path.exists() and path.samefile(rows.path):
            raise ConfigError(f"--out {path}: is the manifest itself; name another file")
        if path.exists() and not path.is_file():
            raise ConfigError(f"--out {path}: is not a regular file, which a run that continues could read")
        self._locks: list[int] = []
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise ConfigError(f"--out {path}: cannot be written: {error.strerror}") from None
        try:
            self._lock(self._file)
            self._repair()
        except BaseException:
            self.close()
            raise

    def write(self, index: int, result: Mapping[str, Any]) -> None:
        """Append the result of row ``index``, which must have none yet. The system has it when this returns.

        Raises:
            ConfigError: it cannot be written, for example because the disk is full; no part of it is left.
        """
        assert not self.finished[index], "a row has one result"
        line = json.dumps({**result, **self._settings}, ensure_ascii=False).encode(errors="replace") + b"\n"
        size = os.fstat(self._file).st_size
        try:
            written = 0
            while written < len(line):
                written += os.write(self._file, line[written:])
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, size)
            raise ConfigError(f"--out {self.path}: cannot be written: {error.strerror}") from None
        self.finished[index] = 1

    def sort(self) -> None:
        """Put the results in the order of the manifest. The file is replaced at once or not at all.

        Raises:
            ConfigError: there is no room for the sorted copy.
        """
        places = [(-1, 0)] * len(self._rows)
        order, last = True, -1
        with self.path.open("rb") as file:
            offset = 0
            for line in file:
                index = self._index(json.loads(line)["line"])
                places[index] = (offset, len(line))
                order, last = order and index > last, index
                offset += len(line)
        if not order:
            self._replace([place for place in places if place[0] >= 0])

    def close(self) -> None:
        """Write the file to the disk, close it and release its lock."""
        with contextlib.suppress(OSError):
            os.fsync(self._file)
        for file in {self._file, *self._locks}:
            with contextlib.suppress(OSError):
                os.close(file)

    def __enter__(self) -> ResultsFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _lock(self, file: int) -> None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"--out {self.path}: another process is writing this file") from None
        except OSError:
            pass  # some network file systems have no locks
        self._locks.append(file)

    def _repair(self) -> None:
        kept: list[tuple[int, int]] = []
        offset = lines = 0
        with self.path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            for number, line in enumerate(file, start=1):
                end = offset + len(line)
                result = self._result(line, number, is_last=end == size)
                if result is not None and "error" not in result:
                    index = self._index(result["line"])
                    if not self.finished[index]:
                        self.finished[index] = 1
                        kept.append((offset, len(line)))
                offset, lines = end, number
        if len(kept) < lines:
            self._replace(kept)

    def _result(self, line: bytes, number: int, *, is_last: bool) -> dict[str, Any] | None:
        """Return the result in a line; ``None`` for an incomplete last line."""
        where = f"--out {self.path}:{number}"
        try:
            if is_last and not line.endswith(b"\n"):
                return None
            result = json.loads(line)
        except ValueError:
            if is_last:
                return None
            raise DataError(f"{where}: not a result; name another file, or remove the line") from None
        if not isinstance(result, dict) or not isinstance(result.get("line"), int):
            raise DataError(f"{where}: not a result; name another file, or remove the line")
        index = self._rows.index_of_line(result["line"])
        if index is None or self._rows[index].audio != result.get("audio_filepath"):
            raise DataError(
                f"{where}: the result of {result.get('audio_filepath')!r}, which is not in line "
                f"{result['line']} of {self._rows.path}; name another file for another manifest"
            )
        for name, value in self._settings.items():
            if "error" not in result and result.get(name) != value:
                raise ConfigError(
                    f"{where}: made with {name} {result.get(name)!r}, this run has {value!r}; "
                    "name another file, or use the same settings"
                )
        return result

    def _index(self, line: int) -> int:
        index = self._rows.index_of_line(line)
        assert index is not None
        return index

    def _replace(self, places: list[tuple[int, int]]) -> None:
        """Replace the file by these parts of it, each an offset and a length."""
        copy = self.path.with_name(self.path.name + ".new")
        try:
            file = os.open(copy, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o666)
            try:
                self._lock(file)
                with self.path.open("rb") as source, os.fdopen(os.dup(file), "ab") as target:
                    for offset, length in places:
                        source.seek(offset)
                        target.write(source.read(length))
                os.fsync(file)
                os.replace(copy, self.path)
            except BaseException:
                copy.unlink(missing_ok=True)
                raise
        except OSError as error:
            raise ConfigError(f"--out {self.path}: cannot be written: {error.strerror}") from None
        self._file = file
