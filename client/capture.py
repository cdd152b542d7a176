"""Capture blocks from one recording device, and convert them to the format that is sent.

PortAudio calls back on its own thread; a bounded queue passes the blocks to the event loop. Blocks that do not fit
are counted.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np

from streamasr.frontend.pcm import Samples
from streamasr.frontend.resample import Resampler
from streamasr.media.channels import WINDOW_S, next_taken
from streamasr.media.pcm import Samples2D
from streamasr.protocol.audio import PREFERRED_RATE, encode_pcm
from streamasr.protocol.limits import DEFAULT_LIMITS
from streamasr.units import MS_PER_SECOND, ms_to_samples
from streamasr_client.audio import BLOCK_MS

COMMON_RATES = (48_000, 44_100, 32_000, 22_050, 8_000, 96_000, 88_200, 192_000)
"""Rates in Hz that are tried if a device records neither at :data:`PREFERRED_RATE` nor at its default rate."""


@dataclass(frozen=True, slots=True)
class CaptureFormat:
    """How a device records, in 16-bit samples."""

    sample_rate: int
    """Hz."""
    channels: int

    @property
    def wire_rate(self) -> int:
        """Return the rate in Hz at which the audio is sent: the same if the protocol takes it."""
        return self.sample_rate if self.sample_rate in DEFAULT_LIMITS.sample_rate else PREFERRED_RATE


def supported_format(
    portaudio: Any, device: int, channels: int, default_rate: int, wanted_rate: int = PREFERRED_RATE
) -> CaptureFormat:
    """Return the best format that a device supports: ``wanted_rate`` and one channel, if possible.

    Args:
        portaudio: the sounddevice module.
        device: the device's index.
        channels: most channels of the device.
        default_rate: the device's default rate in Hz; it is returned if the device supports none of the tried ones.
        wanted_rate: the rate in Hz that is tried first.
    """
    rates = dict.fromkeys((wanted_rate, PREFERRED_RATE, default_rate, *COMMON_RATES))
    for count in dict.fromkeys((1, channels)):
        for rate in rates:
            try:
                portaudio.check_input_settings(device=device, channels=count, dtype="int16", samplerate=rate)
            except portaudio.PortAudioError:
                continue
            return CaptureFormat(rate, count)
    return CaptureFormat(default_rate, 1)


class Converter:
    """Converts captured blocks to mono ``pcm_s16le`` at ``target_rate`` Hz; passes such blocks unchanged.

    Of two channels with opposite phases, whose mean would be silence, it takes the louder one.
    """

    def __init__(self, captured: CaptureFormat, target_rate: int) -> None:
        self._channels = captured.channels
        self._unchanged = captured == CaptureFormat(target_rate, 1)
        self._resampler = Resampler(captured.sample_rate, target_rate)
        self._recent: deque[Samples2D] = deque(maxlen=round(WINDOW_S * MS_PER_SECOND / BLOCK_MS))
        self._taken: int | None = None

    @property
    def opposite_phases(self) -> bool:
        """Whether the two channels have had opposite phases for half a second."""
        return self._taken is not None and len(self._recent) == self._recent.maxlen

    def __call__(self, block: bytes) -> bytes:
        """Return the part of the converted audio that is ready. The rest, up to 0.1 s, comes later."""
        if self._unchanged:
            return block
        samples_SC = np.frombuffer(block, "<i2").reshape(-1, self._channels).astype(np.float32) / 32_768
        return encode_pcm(self._resampler.feed(self._mono(samples_SC)), "pcm_s16le")

    def flush(self) -> bytes:
        """End the audio: return what was held back, and start afresh."""
        return encode_pcm(self._resampler.flush(), "pcm_s16le")

    def _mono(self, samples_SC: Samples2D) -> Samples:
        if self._channels == 2:
            self._recent.append(samples_SC)
            self._taken = next_taken(np.concatenate(self._recent), self._taken)
        return samples_SC.mean(axis=1) if self._taken is None else samples_SC[:, self._taken].copy()


class CaptureStream:
    """An open stream of a device.

    Args:
        portaudio: the sounddevice module.
        device: the device's index.
        captured: the format; see :func:`supported_format`.
        queue_blocks: largest number of blocks that wait for the event loop.
        loop: the event loop, on which the blocks are read.

    Raises:
        PortAudioError: (of sounddevice) the device cannot be opened.
    """

    def __init__(
        self,
        portaudio: Any,
        device: int,
        captured: CaptureFormat,
        queue_blocks: int,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._queue_blocks = queue_blocks
        self._loop = loop
        self.overruns = 0
        """Blocks lost so far, because the queue was full or the device reported an overflow."""

        def on_block(data: Any, _frames: int, _time: Any, status: Any) -> None:
            """Pass a block to the event loop; called on PortAudio's thread."""
            loop.call_soon_threadsafe(self._put, bytes(data), bool(status and status.input_overflow))

        self._stream = portaudio.RawInputStream(
            device=device,
            channels=captured.channels,
            dtype="int16",
            samplerate=captured.sample_rate,
            blocksize=ms_to_samples(BLOCK_MS, captured.sample_rate),
            callback=on_block,
            finished_callback=lambda: loop.call_soon_threadsafe(self._queue.put_nowait, None),
        )
        try:
            self._stream.start()
        except portaudio.PortAudioError:
            self._stream.close()
            raise

    async def read(self, timeout_s: float) -> bytes | None:
        """Return the next block, empty if none came in time; ``None`` when the stream has ended."""
        try:
            async with asyncio.timeout(timeout_s):
                return await self._queue.get()
        except TimeoutError:
            return b"" if self._queue.empty() else self._queue.get_nowait()

    def stop(self) -> None:
        """End the stream after the blocks that were already captured."""
        self._loop.call_soon(self._queue.put_nowait, None)  # behind blocks that are on their way to the queue

    def close(self) -> None:
        """Close the device."""
        self._stream.close()

    def _put(self, block: bytes, overflowed: bool) -> None:
        self.overruns += overflowed
        if self._queue.qsize() >= self._queue_blocks:
            self.overruns += 1
        else:
            self._queue.put_nowait(block)
