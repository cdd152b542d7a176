"""List and choose recording devices with PortAudio.

sounddevice is imported on first use, so that the rest of the client works without PortAudio.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any

from streamasr_client.errors import MicrophoneError


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
    """Return the device whose index, whose name, or else part of whose name is ``wanted``.

    ``None`` is the default device.

    Raises:
        MicrophoneError: no device matches, or several do; the message lists the devices.
    """
    if not devices:
        raise MicrophoneError(
            "no recording device found; connect a microphone, or use a file: streamasr listen --file FILE"
        )
    if wanted is None:
        return next((device for device in devices if device.is_default), devices[0])
    text = wanted.strip().casefold()
    if not text:
        found = []
    else:
        found = [device for device in devices if text.isdecimal() and device.index == int(text)]
        found = found or [device for device in devices if device.name.strip().casefold() == text]
        if not found and not text.isdecimal():  # a number may be that of a device which has left
            found = [device for device in devices if text in device.name.casefold()]
    if len(found) == 1:
        return found[0]
    listing = "\n".join(map(str, found or devices))
    if found and len({device.name for device in found}) == 1:
        raise MicrophoneError(
            f"{len(found)} devices are named {found[0].name!r}; choose one by its number:\n{listing}"
        )
    problem = f"{wanted!r} matches several devices" if found else f"no recording device matches {wanted!r}"
    raise MicrophoneError(f"{problem}; choose one by its number or a part of its name:\n{listing}")


def rescan_devices(portaudio: Any) -> None:
    """Let PortAudio look for devices again: it lists only those that were there when it started. Ends all streams.

    Raises:
        PortAudioError: (of sounddevice) PortAudio does not start.
    """
    for name in ("_terminate", "_initialize"):  # sounddevice has no public function for it
        if function := getattr(portaudio, name, None):
            function()
