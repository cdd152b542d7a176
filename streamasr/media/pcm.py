"""Decode interleaved PCM from a pipe, raw or in a WAV stream of unknown length.

Shape suffixes: S samples (frames of audio), C channels.
"""

from __future__ import annotations

import os
import select
from dataclasses import dataclass
from typing import IO, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from streamasr.errors import DataError
from streamasr.frontend.pcm import decode_pcm
from streamasr.media.containers import is_unknown_length

Samples2D = NDArray[np.float32]
"""Samples of all channels, of shape ``[S, C]``."""

RawEncoding = Literal[
    "pcm_u8", "pcm_s8", "pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s24be", "pcm_s32le", "pcm_s32be",
    "pcm_f32le", "pcm_f32be", "pcm_f64le", "pcm_f64be", "mulaw", "alaw",
]  # fmt: skip
RAW_ENCODINGS: tuple[RawEncoding, ...] = get_args(RawEncoding)
"""Encodings of raw audio, by the names that ffmpeg gives them (``mulaw`` and ``alaw`` as in the protocol)."""
MAX_RAW_CHANNELS = 64
RAW_RATES = range(1_000, 768_001)
"""Sample rates of raw audio, in Hz."""


class ByteStream(Protocol):
    """Bytes that are read forwards."""

    def read(self, size: int, /) -> bytes:
        """Return the next bytes, up to ``size`` of them; none at the end."""
        ...

    def close(self) -> None:
        """Close the stream."""
        ...


_WAVE_ENCODINGS: dict[tuple[int, int], RawEncoding] = {
    (1, 8): "pcm_u8", (1, 16): "pcm_s16le", (1, 24): "pcm_s24le", (1, 32): "pcm_s32le",
    (3, 32): "pcm_f32le", (3, 64): "pcm_f64le", (6, 8): "alaw", (7, 8): "mulaw",
}  # fmt: skip
"""By the format tag and the bits of a sample (RFC 2361)."""
_POLL_S = 0.1
"""How often a read that waits looks whether it was interrupted."""
_EXTENSIBLE = 0xFFFE
_LARGEST_CHUNK = 1 << 20


class Pipe:
    """A :class:`ByteStream` that reads from a pipe. Another thread may interrupt it.

    Args:
        pipe: the end to read from.
        name: begins every error message.
        timeout_s: seconds without any data after which the pipe is given up; ``None`` for no limit.
    """

    def __init__(self, pipe: IO[bytes], name: str, timeout_s: float | None = None) -> None:
        self._pipe, self._name, self._timeout_s = pipe, name, timeout_s
        self.interrupted = False
        self.timed_out = False

    def read(self, size: int) -> bytes:
        """See :class:`ByteStream`.

        Raises:
            DataError: the pipe sent nothing for too long.
        """
        waited_s = 0.0
        while not self.interrupted:
            if select.select([self._pipe], [], [], _POLL_S)[0]:
                return os.read(self._pipe.fileno(), size)
            waited_s += _POLL_S
            if self._timeout_s is not None and waited_s >= self._timeout_s:
                self.timed_out = True
                raise DataError(f"{self._name}: sent nothing for {self._timeout_s:g} s and was given up")
        return b""

    def read_waiting(self, size: int) -> bytes:
        """Return up to ``size`` bytes that have come or come in a moment; none if there are none."""
        ready = not self.interrupted and select.select([self._pipe], [], [], _POLL_S)[0]
        return os.read(self._pipe.fileno(), size) if ready else b""

    def interrupt(self) -> None:
        """Let :meth:`read` return nothing, from now on, even if it is waiting."""
        self.interrupted = True

    def close(self) -> None:
        """Close the pipe."""
        self._pipe.close()


@dataclass(frozen=True, slots=True)
class RawFormat:
    """The format of raw audio, which its bytes do not state.

    Raises:
        DataError: a value out of range.
    """

    sample_rate: int
    """Hz."""
    encoding: RawEncoding = "pcm_s16le"
    channels: int = 1

    def __post_init__(self) -> None:
        if self.sample_rate not in RAW_RATES:
            raise DataError(
                f"the rate of raw audio must be {RAW_RATES[0]} to {RAW_RATES[-1]} Hz, got {self.sample_rate}"
            )
        if not 1 <= self.channels <= MAX_RAW_CHANNELS:
            raise DataError(f"raw audio must have 1 to {MAX_RAW_CHANNELS} channels, got {self.channels}")

    @property
    def sample_bytes(self) -> int:
        """Size of one sample of one channel, in bytes."""
        if self.encoding in ("mulaw", "alaw", "pcm_u8", "pcm_s8"):
            return 1
        return int(self.encoding.removeprefix("pcm_")[1:3]) // 8

    @property
    def frame_bytes(self) -> int:
        """Size of one sample of every channel, in bytes."""
        return self.sample_bytes * self.channels


def decode_raw(data: bytes, raw: RawFormat) -> Samples2D:
    """Return the samples of whole frames, integers scaled to −1..1 and floats as they are."""
    encoding = raw.encoding
    if encoding in ("mulaw", "alaw"):
        samples = decode_pcm(data, "mulaw" if encoding == "mulaw" else "alaw", 1)
    elif encoding == "pcm_u8":
        samples = (np.frombuffer(data, np.uint8).astype(np.float32) - 128) / 128
    else:
        kind, bits = encoding[4], int(encoding[5:].rstrip("lbe"))
        order = ">" if encoding.endswith("be") else "<"
        if bits == 24:
            # Each sample becomes the upper three bytes of an integer of four.
            padded = np.zeros((len(data) // 3, 4), dtype=np.uint8)
            where = slice(0, 3) if order == ">" else slice(1, 4)
            padded[:, where] = np.frombuffer(data, np.uint8).reshape(-1, 3)
            samples = (padded.view(f"{order}i4")[:, 0] / 2.0**31).astype(np.float32)
        elif kind == "s":
            integers = np.frombuffer(data, f"{order}i{bits // 8}")
            samples = (integers / 2.0 ** (bits - 1)).astype(np.float32)
        else:
            with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused as such
                samples = np.frombuffer(data, f"{order}f{bits // 8}").astype(np.float32)
    return samples.reshape(-1, raw.channels)


def read_wave_header(stream: ByteStream, name: str) -> tuple[RawFormat, int | None]:
    """Read a WAV stream up to the first sample of its ``data`` chunk, without seeking.

    Returns:
        the format, and the bytes of audio that follow; ``None`` if the program that wrote the header did not know.

    Raises:
        DataError: no WAV stream, or one of an encoding that is not PCM; the message begins with ``name``.
    """
    head = _exactly(stream, 12, name)
    if head[:4] not in (b"RIFF", b"RF64", b"BW64") or head[8:] != b"WAVE":
        raise DataError(
            f"{name}: not a WAV stream; for raw audio give --rate and, if needed, --encoding and --raw-channels"
        )
    raw: RawFormat | None = None
    while True:
        chunk = _exactly(stream, 8, name)
        length = int.from_bytes(chunk[4:], "little")
        if chunk[:4] == b"data":
            if raw is None:
                raise DataError(f"{name}: a WAV stream without a format chunk before its audio")
            return raw, None if is_unknown_length(length) else length
        if length > _LARGEST_CHUNK:
            raise DataError(f"{name}: a damaged WAV header: a chunk of {length} bytes before the audio")
        content = _exactly(stream, length + (length & 1), name)
        if chunk[:4] == b"fmt " and length >= 16:
            tag, channels = (int.from_bytes(content[at : at + 2], "little") for at in (0, 2))
            rate, bits = int.from_bytes(content[4:8], "little"), int.from_bytes(content[14:16], "little")
            if tag == _EXTENSIBLE and length >= 26:
                tag = int.from_bytes(content[24:26], "little")
            encoding = _WAVE_ENCODINGS.get((tag, bits))
            if encoding is None:
                raise DataError(f"{name}: a WAV stream of format {tag} with {bits} bits; send PCM")
            try:
                raw = RawFormat(rate, encoding, channels)
            except DataError as error:
                raise DataError(f"{name}: a damaged WAV header: {error.message}") from None


def _exactly(stream: ByteStream, size: int, name: str) -> bytes:
    data = b""
    while len(data) < size:
        part = stream.read(size - len(data))
        if not part:
            raise DataError(f"{name}: ended before any audio")
        data += part
    return data
