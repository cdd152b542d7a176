"""Find out from a file's headers how long it should be, and repair headers that were never filled in.

libsndfile decodes the audio; it silently shortens a file that ends too early, and takes a WAV file whose length was
never written for an empty one. Formats: RIFF/WAVE and RF64 (EBU Tech 3306), Sony Wave64, AIFF, Sun AU, CAF, NIST
SPHERE, FLAC, Ogg (RFC 3533), MP3.
"""

from __future__ import annotations

import io
import math
import mmap
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import BinaryIO, Literal

from streamasr.media.flac import (
    COUNT_AT,
    FLAC_HEADER_BYTES,
    FLAC_TAIL_BYTES,
    stated_samples,
    uncounted_samples,
)
from streamasr.media.mpeg import FrameCount, count_frames, stated_bytes, xing_frame

_ByteOrder = Literal["little", "big"]
_UNKNOWN_32 = (range(0x7FFFF000, 0x80000001), range(0xFFFFF000, 0x100000000))
"""Lengths that programs write before they know the true one."""
_W64_DATA = b"data\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"
_W64_RIFF = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00"
_SPHERE_HEADER_BYTES = 1_024
_SMALL_REST = 1_024
"""Fewer bytes than this after the audio of a WAV file are no audio."""
_MOST_CHUNKS = 10_000
"""How many chunks of a file are looked at to find its audio data."""
_OGG_TAIL_BYTES = 1 << 17
"""An Ogg page has at most 65,307 bytes, so that this holds the last whole page."""

_OGG_FIRST_PAGE = b"OggS\x00\x02"
"""The beginning of a page that begins a stream."""
_MPEG_TAG_BYTES = 1_024
"""After the audio that a Xing frame states, more bytes than this may be other MP3 files, not only small tags."""

NEVER_FILLED_IN = "its header gives no length, so it is read to its end"


@dataclass(frozen=True, slots=True)
class Layout:
    """What the headers of a file tell about its length."""

    cut: bool = False
    """Whether the file ends before the end that its headers state."""
    warning: str = ""
    patches: Mapping[int, bytes] = field(default_factory=dict)
    """Bytes to be read in place of the file's own, by their offsets."""
    prefix: bytes = b""
    """Bytes to be read in place of the first ``skipped_bytes`` of the file."""
    skipped_bytes: int = 0
    mpeg: FrameCount | None = None
    end: int | None = None
    """Where libsndfile, which stumbles over what follows, shall see the file end."""
    links: tuple[int, ...] = ()
    """Offsets at which the streams of a chained Ogg file begin; empty if there is only one."""


def is_unknown_length(length: int) -> bool:
    """Whether a program that could not know the length of a WAV stream wrote this one."""
    return not length or any(length in unknown for unknown in _UNKNOWN_32)


def looks_like_audio(rest: bytes) -> bool:
    """Whether bytes after the audio of a WAV stream may be more audio, such as another file, and no chunk."""
    rest = rest.lstrip(b"\0")
    is_chunk = rest[:4].isascii() and rest[:4].decode("ascii").isprintable()
    return len(rest) >= _SMALL_REST and (not is_chunk or rest[:4] in (b"RIFF", b"data"))


def inspect(file: BinaryIO, *, count_mpeg: bool = False) -> Layout:
    """Read the headers of a file, and the end of an Ogg file.

    Args:
        file: a file of any kind, open for reading; for kinds that are not listed above, the layout is empty.
        count_mpeg: walk over all frames of an MP3 file even if it states its own length.

    Raises:
        OSError: the file cannot be read.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    magic = file.read(16)
    if magic[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64") and magic[8:12] == b"WAVE":
        return _wave(file, size, "big" if magic[:4] == b"RIFX" else "little")
    if magic[:4] == b"RIFF":  # AVI, which ffmpeg reads
        return _compare(size - 8, int.from_bytes(magic[4:8], "little"))
    if magic == _W64_RIFF:
        return _wave64(file, size)
    if magic[:4] == b"FORM" and magic[8:12] in (b"AIFF", b"AIFC"):
        return _aiff(file, size)
    if magic[:4] == b".snd":
        return _au(file, size)
    if magic[:4] == b"caff":
        return _caf(file, size)
    if magic[:8] == b"NIST_1A\n":
        return _sphere(file, size)
    if magic[:4] == b"fLaC":
        return _flac(file, size)
    if magic[:4] == b"OggS":
        return _ogg(file, size)
    if size and (magic[:3] == b"ID3" or (magic[0] == 0xFF and magic[1:2] >= b"\xe0")):
        return _mpeg(file, count_mpeg)
    return Layout()


def _wave(file: BinaryIO, size: int, order: _ByteOrder) -> Layout:
    """Walk over the chunks up to ``data``. RF64 keeps the long sizes in the chunk ``ds64``."""
    position, long_size, long_offset, block_bytes = 12, 0, 0, 1
    for _ in range(_MOST_CHUNKS):
        if position + 8 > size:
            break
        file.seek(position)
        chunk = file.read(16)
        name, length = chunk[:4], int.from_bytes(chunk[4:8], order)
        if name == b"ds64":
            file.seek(position + 16)
            long_offset, long_size = position + 16, int.from_bytes(file.read(8), "little")
        if name == b"fmt ":
            file.seek(position + 20)
            block_bytes = int.from_bytes(file.read(2), order) or 1
        if name == b"data":
            start = position + 8
            if long_offset and length == 0xFFFFFFFF:
                if long_size in (0, (1 << 64) - 1):
                    # riff size, data size and the number of frames, all of which libsndfile checks
                    sizes = (size - 8, size - start)
                    patch = b"".join(value.to_bytes(8, "little") for value in sizes)
                    patches = {long_offset - 8: patch}
                    return Layout(warning=NEVER_FILLED_IN, patches=patches) if size > start else Layout()
                return _compare(size - start, long_size)
            if any(length in unknown for unknown in _UNKNOWN_32):
                return Layout(warning=NEVER_FILLED_IN) if size > start else Layout()
            if length == 0 and size > start and not _only_chunks(file, start, size, order):
                return Layout(warning=NEVER_FILLED_IN, patches={position + 4: b"\xff\xff\xff\xff"})
            if size - start < length:
                # Of a part of a compressed block, libsndfile makes a whole block of noise.
                return Layout(cut=True, end=start + (size - start) // block_bytes * block_bytes)
            end = start + length + (length & 1)
            unread = _unread(file, end, size, order)
            return Layout(warning=unread, end=end if unread else None)
        position += 8 + length + (length & 1)
    return Layout()


def _unread(file: BinaryIO, end: int, size: int, order: _ByteOrder) -> str:
    """A sentence about bytes after the audio that may be audio, too: another file, or a length that is too small."""
    file.seek(end)
    is_file = file.read(4) in (b"RIFF", b"RIFX", b"data")
    if size - end < _SMALL_REST or (not is_file and _only_chunks(file, end, size, order)):
        return ""
    return f"{size - end} bytes after the length that its header gives are not read"


def _only_chunks(file: BinaryIO, position: int, size: int, order: _ByteOrder) -> bool:
    """Whether the rest of a RIFF file consists of whole chunks, as after a ``data`` chunk that is truly empty."""
    while position + 8 <= size:
        file.seek(position)
        chunk = file.read(8)
        if not chunk[:4].isascii() or not chunk[:4].decode("ascii").isprintable():
            return False
        length = int.from_bytes(chunk[4:8], order)
        position += 8 + length + (length & 1)
    return position in (size, size + 1)


def _wave64(file: BinaryIO, size: int) -> Layout:
    position = 40
    for _ in range(_MOST_CHUNKS):
        if position + 24 > size:
            break
        file.seek(position)
        chunk = file.read(24)
        length = int.from_bytes(chunk[16:24], "little")
        if chunk[:16] == _W64_DATA:
            if length <= 24 or length >= 1 << 62:
                return Layout(warning=NEVER_FILLED_IN) if size > position + 24 else Layout()
            return _compare(size - position, length)
        if length < 24:
            break
        position += -(-length // 8) * 8
    return Layout()


def _aiff(file: BinaryIO, size: int) -> Layout:
    position = 12
    for _ in range(_MOST_CHUNKS):
        if position + 8 > size:
            break
        file.seek(position)
        chunk = file.read(8)
        length = int.from_bytes(chunk[4:8], "big")
        if chunk[:4] == b"SSND":
            if length <= 8 or any(length in unknown for unknown in _UNKNOWN_32):
                return Layout(warning=NEVER_FILLED_IN) if size > position + 16 else Layout()
            return _compare(size - position - 8, length)
        position += 8 + length + (length & 1)
    return Layout()


def _au(file: BinaryIO, size: int) -> Layout:
    file.seek(4)
    start, length = (int.from_bytes(file.read(4), "big") for _ in range(2))
    if length == 0xFFFFFFFF:  # the format's own way to leave the length open
        return Layout()
    if length == 0 and size > start:
        return Layout(warning=NEVER_FILLED_IN, patches={8: b"\xff\xff\xff\xff"})
    return _compare(size - start, length)


def _caf(file: BinaryIO, size: int) -> Layout:
    position = 8
    for _ in range(_MOST_CHUNKS):
        if position + 12 > size:
            break
        file.seek(position)
        chunk = file.read(12)
        length = int.from_bytes(chunk[4:12], "big", signed=True)
        if chunk[:4] == b"data":
            if length < 0:
                return Layout()
            # libsndfile refuses a CAF file that is shorter than it states.
            available = size - position - 12
            patches = {position + 4: available.to_bytes(8, "big")} if 0 < available < length else {}
            return Layout(cut=available < length, patches=patches)
        position += 12 + max(0, length)
    return Layout()


def _sphere(file: BinaryIO, size: int) -> Layout:
    """Compare the size with the fields of a NIST SPHERE header; compressed audio has no stated size."""
    file.seek(0)
    header = file.read(_SPHERE_HEADER_BYTES)
    start = int(header[8:16]) if header[8:16].strip().isdigit() else 0
    fields = dict(re.findall(rb"^(\w+) -i (\d+)$", header, re.MULTILINE))
    parts = [int(fields.get(name, 0)) for name in (b"sample_count", b"channel_count", b"sample_n_bytes")]
    if b"embedded-" in header or not all((start, *parts)):
        return Layout()
    return _compare(size - start, math.prod(parts))


def _flac(file: BinaryIO, size: int) -> Layout:
    """Compare the number of samples that the header states with the place of the last frame."""
    file.seek(0)
    begin = file.read(FLAC_HEADER_BYTES)
    file.seek(max(0, size - FLAC_TAIL_BYTES))
    if (found := uncounted_samples(begin, file.read())) is None:
        return Layout()
    # Without a number, libsndfile reads on to the end.
    patches = {COUNT_AT: bytes([begin[COUNT_AT] & 0xF0, 0, 0, 0, 0])}
    warning = f"its header states {stated_samples(begin)} samples, but it has {found}, which are read"
    return Layout(warning=warning, patches=patches)


def _ogg(file: BinaryIO, size: int) -> Layout:
    """Look at the last page: it must be whole and carry the flag that ends the stream."""
    begin = max(0, size - _OGG_TAIL_BYTES)
    file.seek(begin)
    tail = file.read()
    position = tail.rfind(b"OggS\x00")
    while position >= 0:
        segments = tail[position + 26] if position + 26 < len(tail) else -1
        table = tail[position + 27 : position + 27 + segments]
        if segments >= 0 and len(table) == segments:
            whole = position + 27 + segments + sum(table) <= len(tail)
            return Layout(cut=not (whole and tail[position + 5] & 4), links=_ogg_links(file))
        position = tail.rfind(b"OggS\x00", 0, position)
        if position >= 0:
            return Layout(cut=True)
    return Layout(cut=True)


def _ogg_links(file: BinaryIO) -> tuple[int, ...]:
    """Return where the streams of a chained file begin (RFC 3533, section 4); empty if it has one only."""
    with _mapped(file) as data:
        links: list[int] = []
        after = position = data.find(_OGG_FIRST_PAGE)
        while position >= 0:
            if position != after or not links:  # else a page of another stream that begins at the same time
                links.append(position)
            segments = data[position + 26] if position + 26 < len(data) else 0
            after = position + 27 + segments + sum(data[position + 27 : position + 27 + segments])
            position = data.find(_OGG_FIRST_PAGE, position + 1)
    return tuple(links) if len(links) > 1 else ()


@contextmanager
def _mapped(file: BinaryIO) -> Iterator[mmap.mmap | bytes]:
    """The bytes of a file, which is not empty."""
    if isinstance(file, io.BytesIO):
        yield file.getvalue()
        return
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        yield data


def _mpeg(file: BinaryIO, count_all: bool) -> Layout:
    with _mapped(file) as data:
        return _mpeg_layout(data, count_all)


def _mpeg_layout(data: mmap.mmap | bytes, count_all: bool) -> Layout:
    size = stated_bytes(data)
    appended = size is not None and size[2] - size[1] > _MPEG_TAG_BYTES
    counted = count_frames(data, only_without_xing=not (count_all or appended))
    if counted is not None and counted.stated_frames is None:
        return Layout(cut=counted.cut, prefix=xing_frame(counted), skipped_bytes=counted.start, mpeg=counted)
    patches = {}
    if size is not None and appended and counted is not None and counted.stated_frames is not None:
        # libsndfile reads no more than the first file's frames.
        frames = max(counted.frames, counted.stated_frames)
        patches = {size[0]: size[2].to_bytes(4, "big"), size[0] - 4: frames.to_bytes(4, "big")}
    elif size is not None and size[1] > size[2]:
        # Otherwise mpg123 prints a warning of its own.
        patches = {size[0]: size[2].to_bytes(4, "big")}
    return Layout(cut=counted is not None and counted.cut, patches=patches, mpeg=counted)


def _compare(available: int, stated: int) -> Layout:
    return Layout(cut=available < stated)


class PatchedFile:
    """A file as libsndfile shall see it: with the prefix and the patches of a :class:`Layout`.

    It has the methods that the package soundfile asks of a file object.

    Args:
        file: the file.
        layout: what is changed or left out.
    """

    def __init__(self, file: BinaryIO, layout: Layout) -> None:
        self._file = file
        self._layout = layout
        self._shift = len(layout.prefix) - layout.skipped_bytes
        self._size = self._shift + (file.seek(0, os.SEEK_END) if layout.end is None else layout.end)
        self._position = 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to ``offset`` bytes from the start, the position or the end."""
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = max(0, origin + offset)
        return self._position

    def tell(self) -> int:
        """Return the position in bytes."""
        return self._position

    def read(self, size: int = -1) -> bytes:
        """Return up to ``size`` bytes from the position on."""
        begin = min(self._position, self._size)
        end = self._size if size < 0 else min(self._size, begin + size)
        data = bytearray(self._layout.prefix[begin:end])
        self._file.seek(max(begin, len(self._layout.prefix)) - self._shift)
        data += self._file.read(end - begin - len(data))
        for offset, patch in self._layout.patches.items():
            for index, value in enumerate(patch, start=self._shift + offset - begin):
                if 0 <= index < len(data):
                    data[index] = value
        self._position = begin + len(data)
        return bytes(data)

    def readinto(self, buffer: memoryview) -> int:
        """Fill ``buffer`` and return the number of bytes."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)
