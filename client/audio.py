"""Define audio sources and formats, and read audio files."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
import soundfile

from streamasr.units import ms_to_samples, samples_to_ms
from streamasr_client.errors import MediaError

Encoding = Literal["pcm_s16le", "pcm_f32le"]

BLOCK_MS = 50
"""Default length of a block of audio."""
SILENCE_DBFS = -90.0
"""The lowest level reported, that of digital silence."""

_INTEGER_SUBTYPES = frozenset({"PCM_U8", "PCM_S8", "PCM_16", "ULAW", "ALAW", "IMA_ADPCM", "MS_ADPCM"})
"""Sample formats of libsndfile that fit into 16 bits without loss."""


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


class AudioSource(Protocol):
    """A live audio source, such as :class:`~streamasr_client.microphone.Microphone` or :class:`PacedFile`."""

    format: AudioFormat

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield blocks of whole frames until the audio ends or :meth:`stop` is called."""
        ...

    def stop(self) -> None:
        """End the audio soon. Blocks that were already captured are still yielded."""
        ...


class SoundFile:
    """An audio file that is read in PCM blocks.

    Files with up to 16 bits per sample are read as ``pcm_s16le``, all others as ``pcm_f32le``, so that no
    precision is lost. More than two channels are mixed down to one.

    Args:
        path: a file in a format that libsndfile reads: WAV, FLAC, Ogg, Opus, MP3 and others.

    Raises:
        MediaError: the file is missing, or libsndfile cannot read it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with soundfile.SoundFile(path) as file:
                self.frames: int = file.frames
                channels: int = file.channels
                subtype: str = file.subtype
                sample_rate: int = file.samplerate
        except (soundfile.LibsndfileError, OSError) as error:
            if not path.exists():
                raise MediaError(f"{path}: no such file") from None
            raise MediaError(
                f"{path}: not a readable audio file ({error}); use WAV, FLAC, Ogg, Opus or MP3"
            ) from None
        exact = subtype in _INTEGER_SUBTYPES and channels <= 2
        encoding: Encoding = "pcm_s16le" if exact else "pcm_f32le"
        self.format = AudioFormat(sample_rate, channels if channels <= 2 else 1, encoding)

    @property
    def duration_ms(self) -> int:
        """Duration in milliseconds."""
        return samples_to_ms(self.frames, self.format.sample_rate)

    def blocks(self, block_ms: int = BLOCK_MS) -> Iterator[bytes]:
        """Yield the whole file in blocks of ``block_ms`` milliseconds; the last one may be shorter.

        Raises:
            MediaError: the file is damaged.
        """
        frames = ms_to_samples(block_ms, self.format.sample_rate)
        dtype = "int16" if self.format.encoding == "pcm_s16le" else "float32"
        wire_dtype = "<i2" if self.format.encoding == "pcm_s16le" else "<f4"
        mix_down = self.format.channels == 1
        try:
            for block in soundfile.blocks(self.path, blocksize=frames, dtype=dtype, always_2d=True):
                samples = block.mean(axis=1) if mix_down and block.shape[1] > 1 else block
                yield samples.astype(wire_dtype).tobytes()
        except soundfile.LibsndfileError as error:
            raise MediaError(f"{self.path}: damaged: {error}") from None


class PacedFile:
    """An :class:`AudioSource` that plays an audio file in real time, like a microphone.

    Args:
        path: the file.
        clock: returns a monotonic time in seconds; by default the event loop's.
        sleep: waits the given number of seconds; by default ``asyncio.sleep``.

    Raises:
        MediaError: the file cannot be read.
    """

    def __init__(
        self,
        path: Path,
        *,
        clock: Callable[[], float] | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._file = SoundFile(path)
        self.format = self._file.format
        self._clock = clock
        self._sleep = sleep
        self._stopped = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield each block when its last sample would have been played."""
        clock = self._clock or asyncio.get_running_loop().time
        due = clock()
        for block in self._file.blocks():
            due += len(block) / self.format.frame_bytes / self.format.sample_rate
            await self._sleep(max(0.0, due - clock()))
            if self._stopped:
                return
            yield block

    def stop(self) -> None:
        """See :class:`AudioSource`."""
        self._stopped = True


def level_dbfs(pcm: bytes, encoding: Encoding) -> float:
    """Return the RMS level of a block in dBFS, at least :data:`SILENCE_DBFS`."""
    samples: npt.NDArray[np.float64]
    if encoding == "pcm_s16le":
        samples = np.frombuffer(pcm, "<i2").astype(np.float64) / 32_768
    else:
        samples = np.frombuffer(pcm, "<f4").astype(np.float64)
    if not samples.size:
        return SILENCE_DBFS
    power = float(np.mean(np.square(samples)))
    return max(SILENCE_DBFS, 10 * np.log10(power)) if power > 0 else SILENCE_DBFS
