"""Find out what a command's FILE argument is: a file, a pipe or a URL; and open it, once or several times."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

import soundfile

from streamasr.errors import DataError
from streamasr.filename import check_file_name
from streamasr.media.decoders import PcmDecoder
from streamasr.media.ffmpeg import READ_TIMEOUT_S, URL_PROTOCOLS, FfmpegDecoder, find_ffmpeg, shown_url
from streamasr.media.pcm import Pipe, RawFormat
from streamasr.media.reader import AudioReader, open_file

STDIN = "-"
"""The argument that means standard input."""
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")


@dataclass(frozen=True, slots=True)
class AudioInput:
    """Where audio comes from.

    Args:
        source: a file, or a URL that ffmpeg reads.
        name: its name in messages.
        raw: the format of raw audio; without it, the input states its format.
        read_timeout_s: seconds without any data after which a URL is given up.
        is_pipe: whether the source is a pipe, which can be read once only; :data:`STDIN` is standard input.
        cut_off: sentences about the input of which this is a copy, without its name, if it broke off; else ``None``.
    """

    source: Path | str
    name: str
    raw: RawFormat | None = None
    read_timeout_s: float = READ_TIMEOUT_S
    is_pipe: bool = False
    cut_off: tuple[str, ...] | None = None

    @property
    def is_url(self) -> bool:
        """Whether ffmpeg reads it from a server."""
        return isinstance(self.source, str) and not self.is_pipe

    @property
    def is_live(self) -> bool:
        """Whether reading may have to wait for more audio."""
        return self.is_pipe or self.is_url

    @property
    def path(self) -> Path | None:
        """The file; ``None`` for a URL or a pipe."""
        return self.source if isinstance(self.source, Path) and not self.is_pipe else None

    @property
    def stem(self) -> str:
        """A name for files made from it."""
        if isinstance(self.source, Path):
            return self.source.stem
        if self.is_pipe:
            return "stdin"
        parts = urlsplit(self.source)
        return Path(unquote(parts.path)).stem or parts.hostname or "url"

    def open(self) -> AudioReader:
        """Open it. A pipe must send raw audio, or WAV.

        Raises:
            DataError: it cannot be read; the message says why.
        """
        if self.is_pipe:
            pipe = Pipe(_open_pipe(self), self.name)
            return AudioReader(PcmDecoder(pipe, self.name, self.raw), self.name)
        if isinstance(self.source, Path):
            reader = open_file(self.source, name=self.name, raw=self.raw, read_timeout_s=self.read_timeout_s)
            if self.cut_off is not None:
                reader.mark_incomplete(self.cut_off)
            return reader
        ffmpeg = _ffmpeg_for(self.name)
        return AudioReader(FfmpegDecoder(self.source, ffmpeg, self.name, self.read_timeout_s), self.name)


def parse_input(
    text: str, *, raw: RawFormat | None = None, read_timeout_s: float = READ_TIMEOUT_S
) -> AudioInput:
    """Return the input that ``text`` names: ``-``, a URL, or a path. A missing file is reported when it is opened.

    Raises:
        DataError: a URL of a scheme that is not read, or a text that cannot be the name of a file.
    """
    check_file_name(text)
    if text == STDIN:
        return AudioInput(STDIN, "standard input", raw, read_timeout_s, is_pipe=True)
    if found := _URL.match(text):
        scheme = found[1].lower()
        if scheme == "file":
            return parse_input(url2pathname(urlsplit(text).path), raw=raw, read_timeout_s=read_timeout_s)
        if scheme not in URL_PROTOCOLS:
            known = ", ".join((*URL_PROTOCOLS, "file"))
            raise DataError(f"{shown_url(text)}: URLs of the kind {scheme} are not read, only {known}")
        return AudioInput(text, shown_url(text), raw, read_timeout_s)
    path = Path(text)
    is_pipe = False
    with contextlib.suppress(OSError):
        mode = path.stat().st_mode
        is_pipe = stat.S_ISFIFO(mode) or stat.S_ISCHR(mode) or stat.S_ISSOCK(mode)
    return AudioInput(path, text, raw, read_timeout_s, is_pipe)


@contextlib.contextmanager
def stored(source: AudioInput) -> Iterator[AudioInput]:
    """Copy a pipe, or a URL's audio, to a temporary file, which can be read several times; files stay as they are.

    The pipe is read to its end first. Its audio may have any format.

    Raises:
        DataError: it cannot be read, or there is no room in the folder for temporary files.
    """
    if not source.is_live:
        yield source
        return
    with tempfile.NamedTemporaryFile(prefix="streamasr-", suffix=".audio") as file:
        try:
            if source.is_pipe:
                with contextlib.closing(_open_pipe(source)) as pipe:
                    shutil.copyfileobj(pipe, file)
                copy = dataclasses.replace(source, source=Path(file.name), is_pipe=False)
            else:
                cut_off = _store_url(source, Path(file.name))
                copy = dataclasses.replace(source, source=Path(file.name), cut_off=cut_off)
            file.flush()
        except OSError as error:
            with contextlib.suppress(OSError):
                file.close()  # It fails alike if samples still wait to be written.
            raise DataError(
                f"{source.name}: cannot be kept in {tempfile.gettempdir()}: {error.strerror or error}"
            ) from None
        except soundfile.LibsndfileError:
            # libsndfile does not say why it could not write.
            raise DataError(
                f"{source.name}: cannot be kept in {tempfile.gettempdir()}; is its disk full?"
            ) from None
        yield copy


def _store_url(source: AudioInput, path: Path) -> tuple[str, ...] | None:
    """Write the audio of a URL to a file; return what was said about it if it broke off."""
    with (
        source.open() as reader,
        soundfile.SoundFile(
            path, "w", reader.sample_rate, reader.channels, subtype="FLOAT", format="W64"
        ) as file,
    ):
        for block_SC in reader.blocks():
            file.write(block_SC)
        if reader.incomplete_at_s is None:
            return None
        return tuple(warning.removeprefix(f"{source.name}: ") for warning in reader.warnings[:-1])


def _open_pipe(source: AudioInput) -> BinaryIO:
    if source.source != STDIN:
        try:
            return Path(source.source).open("rb", buffering=0)
        except OSError as error:
            raise DataError(f"{source.name}: cannot be read: {error.strerror or error}") from None
    if sys.stdin is None or sys.stdin.closed:
        raise DataError("standard input is closed; send audio through a pipe")
    if sys.stdin.isatty():
        raise DataError("standard input is a terminal; send audio through a pipe")
    return os.fdopen(os.dup(sys.stdin.fileno()), "rb", buffering=0)


def _ffmpeg_for(name: str) -> str:
    ffmpeg = find_ffmpeg()
    if ffmpeg is None:
        raise DataError(
            f"{name}: a URL needs ffmpeg, which is not installed; on Debian or Ubuntu: sudo apt install ffmpeg"
        )
    return ffmpeg
