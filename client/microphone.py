"""Record from a microphone through PortAudio, and go on when it comes back after it was unplugged."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

from streamasr.protocol.audio import PREFERRED_RATE, AudioFormat
from streamasr.units import MS_PER_SECOND
from streamasr_client.audio import BLOCK_MS
from streamasr_client.capture import CaptureFormat, CaptureStream, Converter, supported_format
from streamasr_client.devices import Device, choose_device, list_devices, load_portaudio, rescan_devices
from streamasr_client.errors import MicrophoneError

BLOCK_S = BLOCK_MS / MS_PER_SECOND
QUEUE_BLOCKS = 100
"""Largest number of queued blocks of 50 ms: five seconds."""
STALL_MS = 1_500
"""A device that has sent no audio for so long has stopped."""
FIRST_BLOCK_S = 5.0
"""Some devices, such as Bluetooth headsets, need so long until they send audio."""
RETRY_MS = 1_000
"""Waiting time between attempts to open a device again."""
NO_SIGNAL_MS = 5_000
"""So much audio of exact zeros is reported."""


class Microphone:
    """A recording device as an :class:`~streamasr_client.audio.AudioSource`, mono ``pcm_s16le``.

    If the device stops sending audio, for example because it was unplugged, silence takes its place, so that the
    session goes on and its times include the gap; the device is opened again when it is back.

    Args:
        wanted: the device's number, its name or a part of its name; ``None`` for the default device.
        queue_blocks: largest number of blocks that wait for the event loop.
        portaudio: the sounddevice module, or a substitute with the same interface.
        stall_ms: a device that has sent no audio for so long is reported.
        retry_ms: the waiting time between attempts to open a device again.

    Raises:
        MicrophoneError: PortAudio is not installed, or there is no such device.
    """

    def __init__(
        self,
        wanted: str | None = None,
        *,
        queue_blocks: int = QUEUE_BLOCKS,
        portaudio: Any = None,
        stall_ms: int = STALL_MS,
        retry_ms: int = RETRY_MS,
    ) -> None:
        self._portaudio = portaudio if portaudio is not None else load_portaudio()
        self._wanted = wanted
        self.device = choose_device(list_devices(self._portaudio), wanted)
        self._captured = self._supported(self.device, PREFERRED_RATE)
        self.format = AudioFormat(self._captured.wire_rate)
        self._queue_blocks = queue_blocks
        self._stall_s = stall_ms / MS_PER_SECOND
        self._retry_s = retry_ms / MS_PER_SECOND
        self._stream: CaptureStream | None = None
        self._reopening: asyncio.Task[CaptureStream | None] | None = None
        self._lost = False
        self._patience_s = 0.0
        self._opened_at = 0.0
        self._retry_at = 0.0
        self._stopped = False
        self._past_overruns = 0
        self._zeros_ms = 0.0
        self._problem = ""
        self.on_problem: Callable[[str], None] = lambda _problem: None
        """Called with a sentence when the device has a problem, and with an empty one when it works again."""

    @property
    def overruns(self) -> int:
        """Blocks lost so far, because the queue was full or the device reported an overflow."""
        return self._past_overruns + (self._stream.overruns if self._stream else 0)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Record until :meth:`stop`.

        Raises:
            MicrophoneError: the device cannot be opened.
        """
        if self._stopped:
            return
        loop = asyncio.get_running_loop()
        silence = bytes(self.format.ms_to_bytes(BLOCK_MS))
        try:
            self._opened(self._open(self.device, self._captured, loop))
            recorded_until = loop.time()
            while (block := await self._next_block()) or not self._stopped:
                if block:
                    recorded_until = loop.time()
                    if converted := self._convert(block):
                        yield converted
                    continue
                if rest := self._convert.flush():
                    yield rest
                await self._recover(ended=block is None)
                while loop.time() - recorded_until >= BLOCK_S:
                    yield silence
                    recorded_until += BLOCK_S
            if rest := self._convert.flush():
                yield rest
        finally:
            if self._reopening:
                self._stream = await self._reopening
            if self._stream:
                self._stream.close()

    def stop(self) -> None:
        """End the recording. Blocks that were already captured are still yielded."""
        self._stopped = True
        if self._stream:
            self._stream.stop()

    def _supported(self, device: Device, rate: int) -> CaptureFormat:
        return supported_format(self._portaudio, device.index, device.channels, device.sample_rate, rate)

    def _open(
        self, device: Device, captured: CaptureFormat, loop: asyncio.AbstractEventLoop
    ) -> CaptureStream:
        try:
            return CaptureStream(self._portaudio, device.index, captured, self._queue_blocks, loop)
        except self._portaudio.PortAudioError as error:
            raise MicrophoneError(
                f"cannot record from {device.name!r}: {error}; is another program using it?"
            ) from None

    def _opened(self, stream: CaptureStream) -> None:
        self._stream = stream
        self._convert = Converter(self._captured, self.format.sample_rate)
        self._opened_at = asyncio.get_running_loop().time()
        self._patience_s = max(self._stall_s, FIRST_BLOCK_S)

    async def _next_block(self) -> bytes | None:
        """Return the next block, empty if none came in time; ``None`` if the stream has ended."""
        if self._stream is None:
            await asyncio.sleep(BLOCK_S)
            return b""
        block = await self._stream.read(BLOCK_S if self._lost else self._patience_s)
        if block:
            self._lost, self._patience_s = False, self._stall_s
            self._watch_signal(block)
        return block

    async def _recover(self, *, ended: bool) -> None:
        """Take a step towards recording again, after no block came in time."""
        loop = asyncio.get_running_loop()
        if not self._lost:
            self._lost, self._retry_at = True, loop.time()
            self._report(f"the device {self.device.name!r} stopped recording; was it unplugged?")
        if self._stream and (ended or loop.time() >= self._opened_at + self._patience_s):
            stream, self._stream = self._stream, None
            self._past_overruns += stream.overruns
            await asyncio.to_thread(stream.close)  # it may wait for a device that is gone
        if self._stream is None and self._reopening is None and loop.time() >= self._retry_at:
            self._retry_at = loop.time() + self._retry_s
            self._reopening = asyncio.create_task(asyncio.to_thread(self._reopen, loop))
        if self._reopening and self._reopening.done():
            stream_or_none, self._reopening = self._reopening.result(), None
            if stream_or_none:
                self._opened(stream_or_none)

    def _reopen(self, loop: asyncio.AbstractEventLoop) -> CaptureStream | None:
        """Open the device again, or another default device; ``None`` if it is not there. Runs in a thread."""
        try:
            rescan_devices(self._portaudio)
            device = self._find_again(list_devices(self._portaudio))
            if device is None:
                return None
            captured = self._supported(device, self.format.sample_rate)
            stream = self._open(device, captured, loop)
        except (self._portaudio.PortAudioError, MicrophoneError):
            return None
        self.device, self._captured = device, captured
        return stream

    def _find_again(self, devices: list[Device]) -> Device | None:
        same = [device for device in devices if device.name == self.device.name]
        same.sort(key=lambda device: device.index != self.device.index)
        if not same and self._wanted is None:
            same = [device for device in devices if device.is_default]
        return same[0] if same else None

    def _watch_signal(self, block: bytes) -> None:
        """Report a device that records nothing but zeros; even a quiet microphone has noise."""
        if block.count(0) < len(block):
            self._zeros_ms = 0.0
            self._report(
                f"the channels of {self.device.name!r} have opposite phases, as with a swapped wire; only one is used"
                if self._convert.opposite_phases
                else ""
            )
            return
        frames = len(block) / (2 * self._captured.channels)
        self._zeros_ms += frames * MS_PER_SECOND / self._captured.sample_rate
        if self._zeros_ms >= NO_SIGNAL_MS:
            self._report(f"no signal from {self.device.name!r}: muted, or no permission to record")

    def _report(self, problem: str) -> None:
        if problem != self._problem:
            self._problem = problem
            self.on_problem(problem)
