"""Test the microphone with a fake PortAudio."""

from __future__ import annotations

import asyncio
import builtins
import functools
import io
import sys
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from streamasr.protocol.messages import Start
from streamasr_client.capture import CaptureStream
from streamasr_client.devices import Device, choose_device, list_devices, load_portaudio
from streamasr_client.errors import MicrophoneError
from streamasr_client.microphone import Microphone
from streamasr_client.terminal import PlainView, show_captions
from tests.client.scripted import MakeFinal, ScriptedConnection, ScriptedDaemon

BLOCK = b"\x01" * 1_600

DEVICES = [
    {"name": "HDMI out", "max_input_channels": 0, "default_samplerate": 48_000.0},
    {"name": "Built-in Microphone", "max_input_channels": 2, "default_samplerate": 48_000.0},
    {"name": "USB Headset", "max_input_channels": 1, "default_samplerate": 44_100.0},
    {"name": "USB Camera", "max_input_channels": 1, "default_samplerate": 16_000.0},
]


class FakePortAudio:
    """The part of sounddevice that :class:`Microphone` uses."""

    PortAudioError = type("PortAudioError", (Exception,), {})

    def __init__(
        self, *, rates: tuple[int, ...] = (16_000,), channels: tuple[int, ...] = (1, 2), openable: bool = True
    ) -> None:
        self.default = SimpleNamespace(device=(1, 0))
        self.devices = DEVICES
        self.streams: list[Any] = []
        self.rescans = 0
        self.openable = openable
        self._rates = rates
        self._channels = channels

    def query_devices(self) -> list[dict[str, Any]]:
        return self.devices

    def check_input_settings(self, *, samplerate: int, channels: int, **settings: Any) -> None:
        if samplerate not in self._rates or channels not in self._channels:
            raise self.PortAudioError("Invalid sample rate")

    def RawInputStream(self, **settings: Any) -> Any:
        if not self.openable:
            raise self.PortAudioError("Device unavailable")
        assert all(stream.closed for stream in self.streams), "two microphones are open"
        stream = SimpleNamespace(settings=settings, closed=False, started=threading.Event())
        stream.start = stream.started.set
        stream.close = lambda: setattr(stream, "closed", True)
        self.streams.append(stream)
        return stream

    def _terminate(self) -> None:
        assert all(stream.closed for stream in self.streams)

    def _initialize(self) -> None:
        self.rescans += 1


def capture(stream: Any, *blocks: bytes, overflow: bool = False) -> None:
    for block in blocks:
        stream.settings["callback"](block, len(block) // 2, None, SimpleNamespace(input_overflow=overflow))


async def eventually(condition: Callable[[], object]) -> None:
    """Wait until ``condition()`` is true."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - the microphone has no event for it
            await asyncio.sleep(0.005)


async def read_into(blocks: list[bytes], microphone: Microphone) -> None:
    async for block in microphone:
        blocks.append(block)


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
    assert Microphone("head", portaudio=FakePortAudio(rates=(8_000,))).format.sample_rate == 8_000


@pytest.mark.parametrize(
    ("rate", "channels"), [(96_000, 1), (192_000, 1), (16_000, 2), (96_000, 2), (44_100, 2)]
)
async def test_other_rates_and_stereo_are_converted(rate: int, channels: int) -> None:
    portaudio = FakePortAudio(rates=(rate,), channels=(channels,))
    microphone = Microphone(portaudio=portaudio)
    sent_rate = microphone.format.sample_rate
    assert sent_rate == (rate if rate <= 48_000 else 16_000)
    blocks: list[bytes] = []
    reading = asyncio.create_task(read_into(blocks, microphone))
    await eventually(lambda: portaudio.streams)
    (stream,) = portaudio.streams
    assert stream.settings["samplerate"] == rate
    assert stream.settings["channels"] == channels
    tone_S = 0.5 * np.sin(np.arange(rate) * (2 * np.pi * 440 / rate))
    both_SC = np.stack([tone_S, tone_S][:channels], axis=1)
    pcm = np.round(both_SC * 32_767).astype("<i2").tobytes()
    size = stream.settings["blocksize"] * channels * 2
    capture(stream, *(pcm[begin : begin + size] for begin in range(0, len(pcm), size)))
    microphone.stop()
    await reading
    sent_S = np.frombuffer(b"".join(blocks), "<i2") / 32_768
    assert abs(len(sent_S) - sent_rate) <= 1
    expected_S = 0.5 * np.sin(np.arange(len(sent_S)) * (2 * np.pi * 440 / sent_rate))
    assert sent_S[500:-500] == pytest.approx(expected_S[500:-500], abs=3e-3)


async def test_opposite_phases_do_not_cancel_each_other_out() -> None:
    """A balanced cable in the socket of a stereo microphone gives such channels."""
    portaudio = FakePortAudio(channels=(2,))
    microphone = Microphone(portaudio=portaudio)
    problems: list[str] = []
    microphone.on_problem = problems.append
    blocks: list[bytes] = []
    reading = asyncio.create_task(read_into(blocks, microphone))
    await eventually(lambda: portaudio.streams)
    tone_S = np.random.default_rng(1).integers(-9_000, 9_000, 4 * 16_000).astype("<i2")
    both_SC = np.stack([tone_S // 2, -tone_S], axis=1)
    both_SC[32_000:, 0] = tone_S[32_000:]
    both_SC[32_000:, 1] = tone_S[32_000:]
    size = portaudio.streams[0].settings["blocksize"]
    for number, begin in enumerate(range(0, len(both_SC), size), start=1):
        capture(portaudio.streams[0], both_SC[begin : begin + size].astype("<i2").tobytes())
        await eventually(functools.partial(lambda count: len(blocks) == count, number))
    microphone.stop()
    await reading
    sent_S = np.frombuffer(b"".join(blocks), "<i2")
    assert np.array_equal(sent_S[:32_000], -tone_S[:32_000])
    assert np.array_equal(sent_S[40_000:], tone_S[40_000:])
    assert problems == [
        "the channels of 'Built-in Microphone' have opposite phases, as with a swapped wire; only one is used",
        "",
    ]


def test_an_exact_name_wins_over_a_part_of_another() -> None:
    devices = [Device(number, name, 1, 16_000, False) for number, name in enumerate(["Webcam 2", "Webcam"])]
    assert choose_device(devices, "webcam").index == 1
    assert choose_device(devices, "0").index == 0
    with pytest.raises(MicrophoneError, match="'cam' matches several devices"):
        choose_device(devices, "cam")
    numbered = [*devices, Device(7, "808", 1, 16_000, False), Device(8, "7", 1, 16_000, False)]
    assert choose_device(numbered, "808").index == 7
    assert choose_device(numbered, "7").index == 7
    for nothing in ("", " ", "²", "2"):
        with pytest.raises(MicrophoneError, match="no recording device matches"):
            choose_device(devices, nothing)


@pytest.mark.parametrize("wanted", ["usb audio", "USB"])
def test_of_two_devices_with_one_name_the_number_is_asked_for(wanted: str) -> None:
    devices = [Device(number, "USB Audio", 1, 16_000, False) for number in (3, 5)]
    with pytest.raises(MicrophoneError) as refused:
        choose_device(devices, wanted)
    assert refused.value.message == (
        "2 devices are named 'USB Audio'; choose one by its number:\n"
        "    3  USB Audio  (1 ch, 16000 Hz)\n    5  USB Audio  (1 ch, 16000 Hz)"
    )
    assert choose_device(devices, "5").index == 5


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


@pytest.mark.parametrize("how", ["the callback just stops", "the stream ends"])
async def test_a_device_that_was_unplugged_is_taken_up_again(how: str) -> None:
    portaudio = FakePortAudio()
    microphone = Microphone("built-in", portaudio=portaudio, stall_ms=150, retry_ms=20)
    problems: list[str] = []
    microphone.on_problem = problems.append
    blocks: list[bytes] = []
    reading = asyncio.create_task(read_into(blocks, microphone))
    await eventually(lambda: portaudio.streams)
    loop = asyncio.get_running_loop()
    before_first = loop.time()
    capture(portaudio.streams[0], BLOCK)
    await eventually(lambda: blocks)
    after_first = loop.time()
    portaudio.devices = [DEVICES[0]]
    if how == "the stream ends":
        portaudio.streams[0].settings["finished_callback"]()
    await eventually(lambda: problems)
    assert problems == ["the device 'Built-in Microphone' stopped recording; was it unplugged?"]
    await eventually(lambda: portaudio.rescans >= 2)
    assert portaudio.streams[0].closed
    portaudio.devices = [DEVICES[0], DEVICES[3], DEVICES[1]]  # back, with another number
    await eventually(lambda: len(portaudio.streams) == 2)
    assert portaudio.streams[1].settings["device"] == 2
    before_second = loop.time()
    capture(portaudio.streams[1], BLOCK)
    await eventually(lambda: problems[-1] == "")
    shortest_ms, longest_ms = (
        (end - begin) * 1_000 for begin, end in ((after_first, before_second), (before_first, loop.time()))
    )
    microphone.stop()
    await reading
    assert (blocks[0], blocks[-1]) == (BLOCK, BLOCK)
    silence = b"".join(blocks[1:-1])
    assert silence == bytes(len(silence))
    assert shortest_ms - 400 < len(silence) / 32 < longest_ms + 50, "times include the gap, in whole blocks"
    assert all(stream.closed for stream in portaudio.streams)


async def test_words_are_kept_while_the_microphone_is_gone(daemon: ScriptedDaemon, final: MakeFinal) -> None:
    portaudio = FakePortAudio()
    microphone = Microphone(portaudio=portaudio, stall_ms=100, retry_ms=20)
    out = Console(file=io.StringIO())
    err = Console(file=io.StringIO(), width=200)
    view = PlainView(out, err)
    microphone.on_problem = view.show_microphone

    async def script(connection: ScriptedConnection) -> None:
        await connection.open()
        await connection.receive_audio(len(BLOCK))
        portaudio.openable = False
        portaudio.streams[0].settings["finished_callback"]()
        await connection.receive_audio(10 * len(BLOCK))  # silence
        await connection.send(final("before the cable came off"))
        portaudio.openable = True
        while connection.audio.count(b"\x01") < 2 * len(BLOCK):
            await connection.receive_audio(len(connection.audio) + 1)
        microphone.stop()
        await connection.finish(final("and after", utterance=1, start_ms=2_000))

    daemon.scripts = [script]
    showing = asyncio.create_task(show_captions(daemon.url, Start(), microphone, view))
    await eventually(lambda: portaudio.streams)
    capture(portaudio.streams[0], BLOCK)
    await eventually(lambda: len(portaudio.streams) == 2)
    capture(portaudio.streams[1], BLOCK)
    await showing
    assert isinstance(out.file, io.StringIO)
    assert isinstance(err.file, io.StringIO)
    assert out.file.getvalue() == "before the cable came off\nand after\n"
    assert err.file.getvalue().splitlines() == [
        "the device 'Built-in Microphone' stopped recording; was it unplugged?",
        "the microphone records again",
    ]


async def test_a_stopped_device_is_reported_within_two_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time passes only where the microphone waits for a block, so that a busy machine changes nothing."""
    waits: list[float] = []
    unplugged = False
    real_read = CaptureStream.read

    async def read(stream: CaptureStream, timeout_s: float) -> bytes | None:
        if not unplugged:
            return await real_read(stream, timeout_s)
        waits.append(timeout_s)
        return b""

    monkeypatch.setattr(CaptureStream, "read", read)
    portaudio = FakePortAudio()
    microphone = Microphone(portaudio=portaudio)
    problems: list[str] = []
    blocks = aiter(microphone)
    first = asyncio.ensure_future(anext(blocks))
    await eventually(lambda: portaudio.streams)
    capture(portaudio.streams[0], BLOCK)
    assert await first == BLOCK
    unplugged = True

    def on_problem(problem: str) -> None:
        problems.append(problem)
        microphone.stop()

    microphone.on_problem = on_problem
    assert [block async for block in blocks] == []
    assert problems == ["the device 'Built-in Microphone' stopped recording; was it unplugged?"]
    assert 1 <= waits[0] < 2


async def test_a_slow_device_is_given_time_to_start() -> None:
    portaudio = FakePortAudio()
    microphone = Microphone(portaudio=portaudio, stall_ms=20)
    problems: list[str] = []
    microphone.on_problem = problems.append
    first = asyncio.ensure_future(anext(aiter(microphone)))
    await eventually(lambda: portaudio.streams)
    await asyncio.sleep(0.2)
    capture(portaudio.streams[0], BLOCK)
    assert await first == BLOCK
    assert problems == []


async def test_zeros_for_five_seconds_are_reported() -> None:
    portaudio = FakePortAudio()
    microphone = Microphone(portaudio=portaudio)
    problems: list[str] = []
    microphone.on_problem = problems.append
    blocks: list[bytes] = []
    reading = asyncio.create_task(read_into(blocks, microphone))
    await eventually(lambda: portaudio.streams)
    for total, expected in ((99, []), (100, ["no signal"]), (150, ["no signal"])):
        capture(portaudio.streams[0], *[bytes(1_600)] * (total - len(blocks)))
        await eventually(lambda: len(blocks) == total)  # noqa: B023 - called in this round only
        assert [problem[:9] for problem in problems] == expected
    assert problems == ["no signal from 'Built-in Microphone': muted, or no permission to record"]
    capture(portaudio.streams[0], b"\x00\x01" * 800)
    await eventually(lambda: problems[-1] == "")
    microphone.stop()
    await reading


async def test_fifty_recordings_open_one_microphone_each(daemon: ScriptedDaemon, final: MakeFinal) -> None:
    portaudio = FakePortAudio()

    async def script(connection: ScriptedConnection) -> None:
        await connection.open()
        await connection.finish(final("again"))

    daemon.scripts = [script] * 50
    for number in range(50):
        out = Console(file=io.StringIO())
        microphone = Microphone(portaudio=portaudio)
        showing = asyncio.create_task(
            show_captions(daemon.url, Start(), microphone, PlainView(out, Console(file=io.StringIO())))
        )
        await eventually(lambda: len(portaudio.streams) == number + 1)  # noqa: B023 - called in this round only
        capture(portaudio.streams[-1], BLOCK, BLOCK)
        if number % 2:
            await eventually(lambda: len(daemon.connections) == number + 1)  # noqa: B023 - as above
        microphone.stop()  # every other time, the connection is not open yet
        await showing
        assert isinstance(out.file, io.StringIO)
        assert out.file.getvalue() == "again\n"
        assert daemon.connections[number].audio == BLOCK + BLOCK
    assert all(stream.closed for stream in portaudio.streams)


async def test_a_device_in_use_raises_an_error() -> None:
    with pytest.raises(MicrophoneError, match=r"cannot record from .*another program"):
        await anext(aiter(Microphone(portaudio=FakePortAudio(openable=False))))
