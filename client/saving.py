"""Save captions while they come: to a file that is complete after every utterance, or onto the end of a pipe."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import IO

from streamasr.cues import DEFAULT_LIMITS, CueLimits
from streamasr.errors import ConfigError
from streamasr.protocol.messages import Final
from streamasr.subtitles import SubtitleFile

FORMATS = ("srt", "vtt", "txt")
"""The formats, by the endings of the file's name. A pipe or a device may have any name, and then gets ``txt``."""
_OWN_DESCRIPTOR = re.compile(r"/dev/(?:stdout|stderr|fd/(\d+))")


class SavedCaptions:
    """Writes finals to a file. If that fails, it reports so once, and later finals are not saved.

    Args:
        path: a file; or a pipe or a device, to which captions are appended. What a file contains is replaced by the
            first final, or when the context ends without an error, so that a wrong input costs no old captions.
        limits: the limits of subtitle cues.
        channels_apart: finals come from several channels; never change what was written, and let cues overlap.

    Raises:
        ConfigError: the file cannot be written, or its name has no known ending; the message begins with ``--save``.
    """

    def __init__(
        self, path: Path, limits: CueLimits = DEFAULT_LIMITS, *, channels_apart: bool = False
    ) -> None:
        self._path = path
        self._limits = limits
        self._channels_apart = channels_apart
        self.failed = False
        own = _OWN_DESCRIPTOR.fullmatch(str(path))
        self._format = path.suffix.removeprefix(".").lower()
        self._is_file = own is None and (not path.exists() or path.is_file() or path.is_dir())
        if self._format not in FORMATS:
            if self._is_file:
                endings = ", ".join(f".{ending}" for ending in FORMATS)
                raise ConfigError(f"--save {path}: the name must end in one of {endings}")
            self._format = "txt"
        self._subtitles: SubtitleFile | None = None
        try:
            self._file = _open(path, own)
            try:
                if not self._is_file:
                    self._begin()
            except OSError:
                self._close()
                raise
        except OSError as error:
            if error.errno == errno.ENXIO:
                raise ConfigError(
                    f"--save {path}: no program reads from this pipe; start that program first"
                ) from None
            raise ConfigError(f"--save {path}: cannot be written: {error.strerror}") from None

    def add(self, final: Final, label: str = "") -> str | None:
        """Save an utterance, labelled with its channel. Return a sentence if that failed for the first time."""
        return self._try(lambda: (self._subtitles or self._begin()).add(final, label))

    def finish(self) -> str | None:
        """Replace what the file contained, if no final did. Return a sentence as :meth:`add`."""
        return None if self._subtitles else self._try(self._begin)

    def _try(self, write: Callable[[], object]) -> str | None:
        if self.failed:
            return None
        try:
            write()
        except OSError as error:
            self.failed = True
            self._close()
            reason = "its reader is too slow" if isinstance(error, BlockingIOError) else error.strerror
            return f"--save {self._path}: captions are no longer saved: {reason}"
        return None

    def _begin(self) -> SubtitleFile:
        if self._is_file:
            self._file.truncate(0)
        self._subtitles = SubtitleFile(
            self._file,
            self._format,
            self._limits,
            append=self._channels_apart or not self._is_file,
            overlapping=self._channels_apart,
        )
        self._file.flush()
        return self._subtitles

    def __enter__(self) -> SavedCaptions:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.finish()
        self._close()

    def _close(self) -> None:
        # What could not be written is written once more by close(); only the first failure is reported.
        with contextlib.suppress(OSError):
            self._file.close()


def _open(path: Path, own: re.Match[str] | None) -> IO[str]:
    if own is not None:
        number = own[1] or {"/dev/stdout": 1, "/dev/stderr": 2}[own[0]]
        return os.fdopen(os.dup(int(number)), "w", encoding="utf-8")
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISREG(path.stat().st_mode):
            # Without O_NONBLOCK, a pipe would wait for a reader here, and later for a slow one.
            return os.fdopen(os.open(path, os.O_WRONLY | os.O_NONBLOCK), "w", encoding="utf-8")
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT, 0o666), "w", encoding="utf-8")
