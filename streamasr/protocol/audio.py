"""Choose the format in which a recording is sent to a session, and encode its samples."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from streamasr.frontend.pcm import Samples
from streamasr.media.reader import AudioReader
from streamasr.protocol.limits import DEFAULT_LIMITS
from streamasr.units import ms_to_samples, samples_to_ms

Encoding = Literal["pcm_s16le", "pcm_f32le"]

PREFERRED_RATE = 16_000
"""Sample rate of most models, in Hz. Audio at a rate that the protocol does not take is resampled to it."""


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """The format of a source's audio, as sent in the ``start`` message."""

    sample_rate: int
    """Hz."""
    channels: int = 1
    encoding: Encoding = "pcm_s16le"

    @property
    def frame_bytes(self) -> int:
        """Size of a frame, that is one sample of every channel, in bytes."""
        return self.channels * (2 if self.encoding == "pcm_s16le" else 4)

    def bytes_to_ms(self, size: int) -> int:
        """Return the duration of ``size`` bytes of audio, in milliseconds."""
        return samples_to_ms(size // self.frame_bytes, self.sample_rate)

    def ms_to_bytes(self, ms: float) -> int:
        """Return the size of ``ms`` milliseconds of audio in bytes, as a whole number of frames."""
        return ms_to_samples(ms, self.sample_rate) * self.frame_bytes


def wire_format(reader: AudioReader, *, mixed: bool) -> AudioFormat:
    """Return the format in which one channel of an input, or all of them mixed, is sent without loss."""
    as_is = reader.sample_rate in DEFAULT_LIMITS.sample_rate
    exact = reader.sixteen_bits and (reader.channels == 1 or not mixed)
    encoding: Encoding = "pcm_s16le" if exact and as_is else "pcm_f32le"
    return AudioFormat(reader.sample_rate if as_is else PREFERRED_RATE, 1, encoding)


def encode_pcm(samples_S: Samples, encoding: Encoding) -> bytes:
    """Return the bytes of samples in −1..1."""
    if encoding == "pcm_s16le":
        integers_S = np.round(samples_S * np.float32(32_768)).clip(-32_768, 32_767)
        return bytes(integers_S.astype("<i2").tobytes())
    return samples_S.astype("<f4").tobytes()


def encode_blocks(samples: Iterator[Samples], audio: AudioFormat, block_ms: int) -> Iterator[bytes]:
    """Yield samples in the format ``audio``, in blocks of ``block_ms`` milliseconds; the last one may be shorter."""
    size = audio.ms_to_bytes(block_ms)
    held = bytearray()
    for samples_S in samples:
        held += encode_pcm(samples_S, audio.encoding)
        whole = len(held) // size * size
        for begin in range(0, whole, size):
            yield bytes(held[begin : begin + size])
        del held[:whole]
    if held:
        yield bytes(held)
