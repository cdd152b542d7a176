"""Define audio sources and formats, and read audio files."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Iterator
from contextlib import aclosing
from pathlib import Path
from types import TracebackType
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from streamasr.frontend.pcm import Samples
from streamasr.media.channels import check_channel
from streamasr.media.inputs import AudioInput
from streamasr.media.reader import AudioReader
from streamasr.protocol.audio import (
    AudioFormat,
    Encoding,
    encode_blocks,
    wire_format,
)
from streamasr.units import samples_to_ms

Block = TypeVar("Block")

BLOCK_MS = 50
"""Default length of a block of audio."""
SILENCE_DBFS = -90.0
"""The lowest level reported, that of digital silence."""


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
    """Audio that is not live: a file, or another input, as one channel of PCM blocks.

    The sample rate stays as it is if the protocol allows it; other rates become :data:`PREFERRED_RATE`. Samples of
    up to 16 bits of one channel are sent as ``pcm_s16le``, all others as ``pcm_f32le``, so that no precision is lost.

    Args:
        source: the audio. A pipe can be read once only.
        channel: the channel to send, counted from 0; by default, all channels are mixed.

    Raises:
        DataError: the audio cannot be read, or it has no such channel.
    """

    def __init__(self, source: Path | AudioInput, *, channel: int | None = None) -> None:
        self.source = AudioInput(source, str(source)) if isinstance(source, Path) else source
        self.channel = channel
        self._unread: AudioReader | None = self.source.open()
        self._last = reader = self._unread
        self.name = reader.name
        self.channels = reader.channels
        """Channels of the source."""
        if channel is not None and channel >= reader.channels:
            reader.close()
            check_channel(reader.name, channel, reader.channels)
        self.format = wire_format(reader, mixed=channel is None)
        self.duration_ms: int | None = None
        """Duration in milliseconds, if the source states it."""
        if reader.frames is not None:
            self.duration_ms = samples_to_ms(reader.frames, reader.sample_rate)

    @property
    def warnings(self) -> list[str]:
        """Sentences about the audio; complete once all blocks were read."""
        return self._last.warnings

    @property
    def incomplete_at_s(self) -> float | None:
        """Where the audio was cut off, in seconds, once all blocks were read; ``None`` if it is complete."""
        return self._last.incomplete_at_s

    def samples(self, sample_rate: int) -> Iterator[Samples]:
        """Yield all samples at ``sample_rate`` Hz, in blocks of any length.

        Raises:
            DataError: the audio cannot be read, or a sample cannot be used.
        """
        reader, self._unread = self._unread or self.source.open(), None
        self._last = reader
        with reader:
            yield from reader.mono_blocks(sample_rate, self.channel)

    def blocks(self, block_ms: int = BLOCK_MS) -> Generator[bytes, None, None]:
        """Yield the whole audio in blocks of ``block_ms`` milliseconds; the last one may be shorter.

        Raises:
            DataError: as :meth:`samples`.
        """
        yield from encode_blocks(self.samples(self.format.sample_rate), self.format, block_ms)

    async def blocks_from_thread(self, block_ms: int = BLOCK_MS) -> AsyncGenerator[bytes, None]:
        """Yield the same blocks as :meth:`blocks`; the event loop runs while a source has to be waited for."""
        async with aclosing(in_thread(self.blocks(block_ms), self.interrupt)) as blocks:
            async for block in blocks:
                yield block

    def close(self) -> None:
        """Close the source. :meth:`samples` and :meth:`blocks` close it themselves at their end."""
        self._last.close()

    def __enter__(self) -> SoundFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def interrupt(self) -> None:
        """End the reading of a pipe or a URL soon; files end by themselves."""
        self._last.interrupt()


async def in_thread(
    blocks: Generator[Block, None, None], interrupt: Callable[[], None]
) -> AsyncGenerator[Block, None]:
    """Yield what ``blocks`` yields; it runs in a thread, and ``interrupt`` must let its next block come soon."""
    try:
        while True:
            reading = asyncio.ensure_future(asyncio.to_thread(next, blocks, None))
            try:
                block = await asyncio.shield(reading)
            except asyncio.CancelledError:
                interrupt()
                await asyncio.gather(reading, return_exceptions=True)
                raise
            if block is None:
                return
            yield block
    finally:
        blocks.close()


CATCH_UP_S = 5.0
"""How much audio of a source that paused may come at once; more would outrun a daemon that keeps up with speech."""


class PacedFile:
    """An :class:`AudioSource` that plays an audio file in real time, like a microphone.

    Args:
        source: the file, or another input.
        channel: the channel to play, counted from 0; by default, all channels are mixed.
        clock: returns a monotonic time in seconds; by default the event loop's.
        sleep: waits the given number of seconds; by default ``asyncio.sleep``.

    Raises:
        DataError: the file cannot be read.
    """

    def __init__(
        self,
        source: Path | AudioInput,
        *,
        channel: int | None = None,
        clock: Callable[[], float] | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.file = SoundFile(source, channel=channel)
        self.format = self.file.format
        self._clock = clock
        self._sleep = sleep
        self._stopped = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield each block when its last sample would have been played."""
        clock = self._clock or asyncio.get_running_loop().time
        due = clock()
        async for block in self.file.blocks_from_thread():
            due = max(due, clock() - CATCH_UP_S)
            due += len(block) / self.format.frame_bytes / self.format.sample_rate
            await self._sleep(max(0.0, due - clock()))
            if self._stopped:
                return
            yield block

    def stop(self) -> None:
        """See :class:`AudioSource`."""
        self._stopped = True
        self.file.interrupt()


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
