"""Find out from the last frame of a FLAC file how many samples it has (RFC 9639)."""

from __future__ import annotations

FLAC_HEADER_BYTES = 42
"""Size of the signature and the STREAMINFO block, which come first in every file."""
FLAC_TAIL_BYTES = 1 << 16
"""How much of the end of a file is searched: frames of speech have a few thousand bytes."""

COUNT_AT = 21
"""Offset of the byte whose lower half begins the number of samples, which has 36 bits."""
_BLOCK_SIZES = {1: 192, **{code: 576 << (code - 2) for code in range(2, 6)}} | {
    code: 256 << (code - 8) for code in range(8, 16)
}


def stated_samples(header: bytes) -> int:
    """Return the number of samples of a channel that the header states; 0 if it states none, or is too short."""
    if len(header) < FLAC_HEADER_BYTES:
        return 0
    return int.from_bytes(header[COUNT_AT : COUNT_AT + 5], "big") & ((1 << 36) - 1)


def uncounted_samples(header: bytes, tail: bytes) -> int | None:
    """Return the true number of samples of a file that states a smaller one; ``None`` if it has no more than stated.

    Args:
        header: the first :data:`FLAC_HEADER_BYTES` of the file.
        tail: its last bytes, which must end with a whole frame.
    """
    if not (stated := stated_samples(header)):
        return None
    block_size = int.from_bytes(header[8:10], "big")
    at, found = tail.rfind(b"\xff"), None
    while at >= 0 and (found := _frame_end(tail, at, block_size)) is None:
        at = tail.rfind(b"\xff", 0, at)
    if found is None or found <= stated or _remainder(tail[at:], 16, 0x8005):
        return None
    return found


def _frame_end(data: bytes, at: int, block_size: int) -> int | None:
    """Return where the frame whose header is at ``at`` ends, in samples; ``None`` if there is no header."""
    if len(data) < at + 6 or data[at + 1] & 0xFE != 0xF8 or data[at + 3] & 1:
        return None
    number_bytes = max(1, 8 - (data[at + 4] ^ 0xFF).bit_length())
    number = data[at + 4] & (0x7F if number_bytes == 1 else 0x7F >> number_bytes)
    end = at + 4 + number_bytes
    for byte in data[at + 5 : end]:
        number = number << 6 | byte & 0x3F
    code, rate_code = data[at + 2] >> 4, data[at + 2] & 15
    extra = {6: 1, 7: 2}.get(code, 0)
    samples = int.from_bytes(data[end : end + extra], "big") + 1 if extra else _BLOCK_SIZES.get(code)
    end += extra + {12: 1, 13: 2, 14: 2}.get(rate_code, 0)
    if samples is None or len(data) <= end or _remainder(data[at : end + 1], 8, 0x07):
        return None
    return (number if data[at + 1] & 1 else number * block_size) + samples


def _remainder(data: bytes, bits: int, polynomial: int) -> int:
    """Return the cyclic redundancy check of ``data``, which is 0 for data that ends with its own check."""
    value, top, mask = 0, 1 << (bits - 1), (1 << bits) - 1
    for byte in data:
        value ^= byte << (bits - 8)
        for _ in range(8):
            value = (value << 1 ^ polynomial if value & top else value << 1) & mask
    return value
