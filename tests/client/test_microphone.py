"""Test the microphone with a fake PortAudio."""

from __future__ import annotations

import asyncio
import builtins
import sys
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from streamasr_client.errors import MicrophoneError
from streamasr_client.microphone import Microphone, choose_device, list_devices, load_portaudio

DEVICES = [
    {"name": "HDMI out", "max_input_channels": 0, "default_samplerate": 48_000.0},
    {"name": "Built-in Microphone", "max_input_channels": 2, "default_samplerate": 48_000.0},
    {"name": "USB Headset", "max_input_channels": 1, "default_samplerate": 44_100.0},
    {"name": "USB Camera", "max_input_channels": 1, "default_samplerate": 16_000.0},
]


class FakePortAudio:
    """The part of sounddevice that :class:`Microphone` uses."""

    PortAudioError = type("PortAudioError", (Exception,), {})

    def __init__(self, *, rates: tuple[int, ...] = (16_000,), openable: bool = True) -> None:
        self.default = SimpleNamespace(device=(1, 0))
        self.streams: list[Any] = []
        self._rates = rates
        self._openable = openable

    def query_devices(self) -> list[dict[str, Any]]:
        return DEVICES

    def check_input_settings(self, *, samplerate: int, **settings: Any) -> None:
        if samplerate not in self._rates:
            raise self.PortAudioError("Invalid sample rate")

    def RawInputStream(self, **settings: Any) -> Any:
        if not self._openable:
            raise self.PortAudioError("Device unavailable")
        stream = SimpleNamespace(settings=settings, closed=False, started=threading.Event())
        stream.start = stream.started.set
        stream.close = lambda: setattr(stream, "closed", True)
        self.streams.append(stream)
        return stream


def capture(stream: Any, *blocks: bytes, overflow: bool = False) -> None:
    for block in blocks:
        stream.settings["callback"](block, len(block) // 2, None, SimpleNamespace(input_overflow=overflow))


def test_devices_are_listed_and_chosen() -> None:
    devices = list_devices(FakePortAudio())
    assert [device.index for device in devices] == [1, 2, 3]
    assert str(devices[0]) == "*   1  Built-in Microphone  (2 ch, 48000 Hz)"
    assert choose_device(devices, None).index == 1
    assert choose_device(devices, "2").name == "USB Headset"
    assert choose_device(devices, "head").name == "USB Headset"


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("usb", "'usb' matches several devices"),
        ("0", "no recording device matches '0'"),
        ("x", "matches 'x'"),
    ],
)
def test_a_wrong_choice_lists_the_devices(wanted: str, message: str) -> None:
    with pytest.raises(MicrophoneError, match=message) as caught:
        choose_device(list_devices(FakePortAudio()), wanted)
    assert "3  USB Camera" in caught.value.message


def test_a_missing_device_is_reported() -> None:
    with pytest.raises(MicrophoneError, match=r"no recording device found.*--file FILE"):
        choose_device([], None)


@pytest.mark.parametrize(
    ("failure", "advice"),
    [
        (OSError("PortAudio library not found"), "apt install libportaudio2"),
        (ImportError(), "pip install sounddevice"),
    ],
)
def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch, failure: Exception, advice: str) -> None:
    real = builtins.__import__

    def fail(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "sounddevice":
            raise failure
        return real(name, *args, **kwargs)

    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.setattr(builtins, "__import__", fail)
    with pytest.raises(MicrophoneError, match=advice):
        load_portaudio()


def test_the_devices_own_rate_is_the_fallback() -> None:
    assert Microphone(portaudio=FakePortAudio()).format.sample_rate == 16_000
    assert Microphone("head", portaudio=FakePortAudio(rates=(44_100,))).format.sample_rate == 44_100


async def test_blocks_arrive_in_order_until_stop() -> None:
    portaudio = FakePortAudio()
    microphone = Microphone(portaudio=portaudio)
    blocks = aiter(microphone)
    first = asyncio.ensure_future(anext(blocks))
    await asyncio.sleep(0)
    (stream,) = portaudio.streams
    assert stream.settings["blocksize"] == 800
    capture(stream, b"aa", b"bb")
    assert await first == b"aa"
    assert await anext(blocks) == b"bb"
    microphone.stop()
    assert [block async for block in blocks] == []
    assert stream.closed
    assert microphone.overruns == 0


async def test_lost_blocks_are_counted() -> None:
    portaudio = FakePortAudio()
    microphone = Microphone(portaudio=portaudio, queue_blocks=2)
    blocks = aiter(microphone)
    first = asyncio.ensure_future(anext(blocks))
    await asyncio.sleep(0)
    (stream,) = portaudio.streams
    capture(stream, b"aa", b"bb", b"cc", b"dd")
    capture(stream, b"ee", overflow=True)
    assert await first == b"aa"
    assert microphone.overruns == 4, "cc, dd and ee, and the overflow that the device reported"
    microphone.stop()
    assert [block async for block in blocks] == [b"bb"]


async def test_a_disconnected_device_raises_an_error() -> None:
    portaudio = FakePortAudio()
    blocks = aiter(Microphone(portaudio=portaudio))
    waiting = asyncio.ensure_future(anext(blocks))
    await asyncio.sleep(0)
    portaudio.streams[0].settings["finished_callback"]()
    with pytest.raises(MicrophoneError, match="'Built-in Microphone' stopped recording"):
        await waiting
    assert portaudio.streams[0].closed


async def test_a_device_in_use_raises_an_error() -> None:
    with pytest.raises(MicrophoneError, match=r"cannot record from .*another program"):
        await anext(aiter(Microphone(portaudio=FakePortAudio(openable=False))))
