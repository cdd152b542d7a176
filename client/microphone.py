"""Record from a microphone through PortAudio.

sounddevice is imported on first use, so that the rest of the client works without PortAudio. PortAudio calls back
on its own thread; a bounded queue passes the blocks to the event loop. Blocks that do not fit are counted.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from streamasr.units import ms_to_samples
from streamasr_client.audio import BLOCK_MS, PREFERRED_RATE, AudioFormat
from streamasr_client.errors import MicrophoneError

QUEUE_BLOCKS = 100
"""Largest number of queued blocks of 50 ms: five seconds."""


@dataclass(frozen=True, slots=True)
class Device:
    """A recording device."""

    index: int
    name: str
    channels: int
    sample_rate: int
    is_default: bool

    def __str__(self) -> str:
        mark = "*" if self.is_default else " "
        return f"{mark} {self.index:>3}  {self.name}  ({self.channels} ch, {self.sample_rate} Hz)"


def load_portaudio() -> ModuleType:
    """Import sounddevice.

    Raises:
        MicrophoneError: sounddevice or PortAudio is not installed; the message says how to install it.
    """
    try:
        import sounddevice
    except ImportError:
        raise MicrophoneError(
            "recording needs the Python package sounddevice: pip install sounddevice"
        ) from None
    except OSError:
        raise MicrophoneError(
            "recording needs the PortAudio library, which is not installed; "
            "on Debian or Ubuntu: sudo apt install libportaudio2"
        ) from None
    module: ModuleType = sounddevice
    return module


def list_devices(portaudio: Any) -> list[Device]:
    """Return all recording devices, in PortAudio's order."""
    default = portaudio.default.device[0]
    return [
        Device(
            index=index,
            name=info["name"],
            channels=info["max_input_channels"],
            sample_rate=round(info["default_samplerate"]),
            is_default=index == default,
        )
        for index, info in enumerate(portaudio.query_devices())
        if info["max_input_channels"] > 0
    ]


def choose_device(devices: list[Device], wanted: str | None) -> Device:
    """Return the device with the index ``wanted`` or with that text in its name; ``None`` for the default device.

    Raises:
        MicrophoneError: no device matches, or several do; the message lists the devices.
    """
    if not devices:
        raise MicrophoneError(
            "no recording device found; connect a microphone, or use a file: streamasr listen --file FILE"
        )
    if wanted is None:
        return next((device for device in devices if device.is_default), devices[0])
    if wanted.isdigit():
        found = [device for device in devices if device.index == int(wanted)]
    else:
        found = [device for device in devices if wanted.casefold() in device.name.casefold()]
    if len(found) == 1:
        return found[0]
    problem = f"{wanted!r} matches several devices" if found else f"no recording device matches {wanted!r}"
    listing = "\n".join(map(str, found or devices))
    raise MicrophoneError(f"{problem}; choose one by its number or a part of its name:\n{listing}")


class Microphone:
    """A recording device as an :class:`~streamasr_client.audio.AudioSource`, mono ``pcm_s16le``.

    Args:
        wanted: the device's number or a part of its name; ``None`` for the default device.
        queue_blocks: largest number of blocks that wait for the event loop.
        portaudio: the sounddevice module, or a substitute with the same interface.

    Raises:
        MicrophoneError: PortAudio is not installed, or there is no such device.
    """

    def __init__(
        self, wanted: str | None = None, *, queue_blocks: int = QUEUE_BLOCKS, portaudio: Any = None
    ) -> None:
        self._portaudio = portaudio if portaudio is not None else load_portaudio()
        self.device = choose_device(list_devices(self._portaudio), wanted)
        self.format = AudioFormat(self._rate())
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._queue_blocks = queue_blocks
        self._stopped = False
        self.overruns = 0
        """Blocks lost so far, because the queue was full or the device reported an overflow."""

    def _rate(self) -> int:
        try:
            self._portaudio.check_input_settings(
                device=self.device.index, channels=1, dtype="int16", samplerate=PREFERRED_RATE
            )
        except self._portaudio.PortAudioError:
            return self.device.sample_rate
        return PREFERRED_RATE

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Record until :meth:`stop`.

        Raises:
            MicrophoneError: the device cannot be opened, or was disconnected.
        """
        loop = asyncio.get_running_loop()

        def on_block(data: Any, _frames: int, _time: Any, status: Any) -> None:
            """Pass a block to the event loop; called on PortAudio's thread."""
            loop.call_soon_threadsafe(self._put, bytes(data), bool(status and status.input_overflow))

        try:
            stream = self._portaudio.RawInputStream(
                device=self.device.index,
                channels=1,
                dtype="int16",
                samplerate=self.format.sample_rate,
                blocksize=ms_to_samples(BLOCK_MS, self.format.sample_rate),
                callback=on_block,
                finished_callback=lambda: loop.call_soon_threadsafe(self._queue.put_nowait, None),
            )
            stream.start()
        except self._portaudio.PortAudioError as error:
            raise MicrophoneError(
                f"cannot record from {self.device.name!r}: {error}; is another program using it?"
            ) from None
        try:
            while (block := await self._queue.get()) is not None:
                yield block
        finally:
            stream.close()
        if not self._stopped:
            raise MicrophoneError(f"the device {self.device.name!r} stopped recording; was it unplugged?")

    def stop(self) -> None:
        """End the recording. Blocks that were already captured are still yielded."""
        self._stopped = True
        self._queue.put_nowait(None)

    def _put(self, block: bytes, overflowed: bool) -> None:
        self.overruns += overflowed
        if self._queue.qsize() >= self._queue_blocks:
            self.overruns += 1
        elif not self._stopped:
            self._queue.put_nowait(block)
