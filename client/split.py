"""Play the channels of one audio file apart, all at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from contextlib import aclosing

from streamasr.media.channels import channel_label
from streamasr.media.inputs import AudioInput
from streamasr.protocol.audio import AudioFormat, encode_pcm, wire_format
from streamasr.units import ms_to_samples
from streamasr_client.audio import BLOCK_MS, CATCH_UP_S, in_thread

QUEUED_BLOCKS = 100
"""Blocks of one channel that wait for its stream: five seconds."""


class ChannelSource:
    """One channel of a :class:`SplitFile`, an :class:`~streamasr_client.audio.AudioSource`."""

    def __init__(self, audio_format: AudioFormat, stop: Callable[[], None]) -> None:
        self.format = audio_format
        self.queue: asyncio.Queue[bytes | None] = asyncio.Queue(QUEUED_BLOCKS)
        self.stop = stop

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the blocks that :meth:`SplitFile.play` puts into the queue."""
        while (block := await self.queue.get()) is not None:
            yield block


class SplitFile:
    """Plays an audio file in real time, each channel as a source of its own.

    Args:
        source: the file, or another input.
        clock: returns a monotonic time in seconds; by default the event loop's.
        sleep: waits the given number of seconds; by default ``asyncio.sleep``.

    Raises:
        DataError: the file cannot be read.
    """

    def __init__(
        self,
        source: AudioInput,
        *,
        clock: Callable[[], float] | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._reader = reader = source.open()
        self._clock = clock
        self._sleep = sleep
        self._stopped = False
        self._format = wire_format(reader, mixed=False)
        self.channels = {
            channel_label(number, reader.channels): ChannelSource(self._format, self.stop)
            for number in range(reader.channels)
        }
        """The sources by the names of their channels."""

    @property
    def warnings(self) -> list[str]:
        """Sentences about the audio; complete at its end."""
        return self._reader.warnings

    @property
    def incomplete_at_s(self) -> float | None:
        """Where the audio was cut off, in seconds, known at its end; ``None`` if it is complete."""
        return self._reader.incomplete_at_s

    async def play(self) -> None:
        """Put each block into its channel's queue when its last sample would have been played.

        Raises:
            DataError: the audio cannot be read, or a sample cannot be used. The sources end then, too.
        """
        clock = self._clock or asyncio.get_running_loop().time
        due = clock()
        try:
            async with aclosing(in_thread(self._blocks(), self._reader.interrupt)) as blocks:
                async for parts in blocks:
                    due = max(due, clock() - CATCH_UP_S)
                    due += len(parts[0]) / self._format.frame_bytes / self._format.sample_rate
                    await self._sleep(max(0.0, due - clock()))
                    if self._stopped:
                        break
                    for source, part in zip(self.channels.values(), parts, strict=True):
                        await source.queue.put(part)
        finally:
            self._reader.close()
            for source in self.channels.values():
                await source.queue.put(None)

    def stop(self) -> None:
        """See :class:`~streamasr_client.audio.AudioSource`."""
        self._stopped = True
        self._reader.interrupt()

    def close(self) -> None:
        """Close the file. :meth:`play` closes it itself at its end."""
        self._reader.close()

    def _blocks(self) -> Generator[list[bytes], None, None]:
        size = ms_to_samples(BLOCK_MS, self._format.sample_rate)
        for samples in self._reader.channel_blocks(self._format.sample_rate):
            for begin in range(0, len(samples[0]), size):
                yield [encode_pcm(part_S[begin : begin + size], self._format.encoding) for part_S in samples]
