"""Parse MPEG audio frames, count those of a file, and write the Xing frame that it lacks.

libsndfile takes the length of an MP3 file from its Xing frame (https://www.codeproject.com/Articles/8295). Without
one it guesses the length from the first frame's bit rate, and reads no further than that: with a variable bit rate
it would lose the rest of the file. A Xing frame put before the file's bytes states the true length.
Frame headers: ISO/IEC 11172-3, section 2.4.1.3, and ISO/IEC 13818-3.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass

_BITRATES_1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_BITRATES_2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
"""kbit/s of layer III by index; index 0 is the free format, whose frames state no length."""
_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
"""Hz by the header's version bits: MPEG-1, MPEG-2 and MPEG-2.5."""
_FIXED_BITS = 0xFFFE0C00
"""Sync word, version, layer and rate: the same in all frames of a file."""
_SEARCHED_BYTES = 65_536
"""How far from the expected place a frame is looked for."""
_TAGS = (b"TAG", b"APETAGEX", b"LYRICSBEGIN")


@dataclass(frozen=True, slots=True)
class FrameCount:
    """The MPEG frames of a file."""

    start: int
    """Offset of the first frame in bytes, after tags."""
    frames: int
    """Complete frames with audio; a Xing frame is not counted."""
    frame_samples: int
    """Samples of each channel in a frame."""
    sample_rate: int
    """Hz."""
    stated_frames: int | None
    """Frames that the Xing frame states; ``None`` without one."""
    cut: bool
    """Whether the file ends within a frame, or before the stated number of frames."""
    first_header: bytes


@dataclass(frozen=True, slots=True)
class _Header:
    fixed_bits: int
    size: int
    samples: int
    sample_rate: int
    xing_offset: int


def count_frames(data: mmap.mmap | bytes, *, only_without_xing: bool = False) -> FrameCount | None:
    """Walk over all frames of an MPEG layer III file.

    Args:
        data: the bytes of the file.
        only_without_xing: return at once if the file has a Xing frame that states its length.

    Returns:
        ``None`` if the file is not MPEG layer III, if its frames state no length, or as ``only_without_xing`` says.
    """
    size, position = len(data), _after_id3(data)
    first = _find(data, position, None)
    if first is None:
        return None
    start, header = first
    position = start
    first_header, fixed_bits = data[position : position + 4], header.fixed_bits
    stated = _stated_frames(data, position, header)
    if stated is not None:
        if only_without_xing:
            return None
        position += header.size
    frames, cut = 0, False
    parsed: dict[bytes, _Header | None] = {}
    while position + 4 <= size:
        word = data[position : position + 4]
        found = parsed[word] if word in parsed else parsed.setdefault(word, _parse(word))
        if found is None or found.fixed_bits != fixed_bits:
            if data[position : position + 11].startswith(_TAGS):
                break
            further = _find(data, _after_id3(data, position), fixed_bits)  # of a file that was appended
            if further is None:
                break
            position = further[0]
            continue
        if position + found.size > size:
            cut = True
            break
        frames += 1
        position += found.size
    cut = cut or (position < size < position + 4 and data[position] == 0xFF)
    cut = cut or (stated is not None and frames < stated)
    return FrameCount(start, frames, header.samples, header.sample_rate, stated, cut, first_header)


def frame_bytes(word: bytes) -> int:
    """Return the length in bytes of the layer III frame that ``word`` begins; 0 if it is not such a header."""
    header = _parse(word)
    return 0 if header is None else header.size


def stated_bytes(data: mmap.mmap | bytes) -> tuple[int, int, int] | None:
    """Return where the Xing frame states the number of bytes, that number, and the number that there are.

    ``None`` if the file has no Xing frame, or one that does not state it.
    """
    first = _find(data, _after_id3(data), None)
    if first is None:
        return None
    start, header = first
    tag = start + header.xing_offset
    flags = int.from_bytes(data[tag + 4 : tag + 8], "big")
    if data[tag : tag + 4] not in (b"Xing", b"Info") or not flags & 2:
        return None
    at = tag + (12 if flags & 1 else 8)
    return at, int.from_bytes(data[at : at + 4], "big"), len(data) - start


def xing_frame(count: FrameCount) -> bytes:
    """Return a Xing frame for a file of ``count.frames`` frames."""
    # The bit rate is replaced by 64 kbit/s or more, which leaves room for the tag in a frame of any rate.
    word = int.from_bytes(count.first_header, "big") & ~0xF000 | (
        0x8000 if count.frame_samples < 1152 else 0x9000
    )
    word |= 0x10000  # no checksum
    header_bytes = word.to_bytes(4, "big")
    header = _parse(header_bytes)
    assert header is not None
    tag = b"Xing" + (1).to_bytes(4, "big") + count.frames.to_bytes(4, "big")
    frame = header_bytes + bytes(header.xing_offset - 4) + tag
    return frame + bytes(header.size - len(frame))


def _parse(word: bytes) -> _Header | None:
    if len(word) < 4 or word[0] != 0xFF or word[1] & 0xE0 != 0xE0:
        return None
    version, layer = (word[1] >> 3) & 3, (word[1] >> 1) & 3
    bitrate, rate = word[2] >> 4, (word[2] >> 2) & 3
    if version == 1 or layer != 1 or bitrate in (0, 15) or rate == 3:
        return None
    sample_rate, samples = _RATES[version][rate], 1152 if version == 3 else 576
    kbits = (_BITRATES_1 if version == 3 else _BITRATES_2)[bitrate]
    size = samples // 8 * kbits * 1000 // sample_rate + ((word[2] >> 1) & 1)
    mono = word[3] >> 6 == 3
    side_bytes = (17 if mono else 32) if version == 3 else (9 if mono else 17)
    fixed_bits = int.from_bytes(word, "big") & _FIXED_BITS
    return _Header(fixed_bits, size, samples, sample_rate, 4 + side_bytes)


def _find(data: mmap.mmap | bytes, start: int, fixed_bits: int | None) -> tuple[int, _Header] | None:
    """Return the next frame that another frame, or the end of the file, follows."""
    limit = min(len(data), start + _SEARCHED_BYTES)
    position = data.find(b"\xff", start, limit)
    while position >= 0:
        header = _parse(data[position : position + 4])
        if header is not None and fixed_bits in (None, header.fixed_bits):
            after = position + header.size
            following = _parse(data[after : after + 4])
            if after >= len(data) or (following is not None and following.fixed_bits == header.fixed_bits):
                return position, header
        position = data.find(b"\xff", position + 1, limit)
    return None


def _after_id3(data: mmap.mmap | bytes, start: int = 0) -> int:
    """Return the place after the ID3v2 tag at ``start``, or ``start`` if there is none."""
    header = data[start : start + 10]
    if header[:3] != b"ID3" or len(header) < 10:
        return start
    size = 0
    for byte in header[6:]:
        size = size << 7 | byte & 0x7F
    return start + 10 + size


def _stated_frames(data: mmap.mmap | bytes, position: int, header: _Header) -> int | None:
    tag = position + header.xing_offset
    if data[tag : tag + 4] in (b"Xing", b"Info"):
        flags = int.from_bytes(data[tag + 4 : tag + 8], "big")
        return int.from_bytes(data[tag + 8 : tag + 12], "big") if flags & 1 else None
    if data[position + 36 : position + 40] == b"VBRI":
        return int.from_bytes(data[position + 50 : position + 54], "big")
    return None
