"""Test in a real browser what the page does when the microphone, the audio or the tab stops."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import numpy as np
import pytest
from websockets.asyncio.server import ServerConnection

from streamasr.protocol.messages import Done
from streamasr.protocol.serialisation import encode
from tests.browser.conftest import FakeDaemon
from tests.browser.devtools import Page
from tests.browser.scripts import READY, final, receive_audio, receive_until_stop, session_script

HOOKS = """{
    window.tracks = [];
    window.contexts = [];
    window.asked = 0;
    window.refuse = null;
    window.gate = Promise.resolve();
    const getUserMedia = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
    navigator.mediaDevices.getUserMedia = async (wanted) => {
        window.asked++;
        await window.gate;
        if (window.refuse) throw new DOMException("no", window.refuse);
        const stream = window.makeStream ? window.makeStream() : await getUserMedia(wanted);
        window.tracks.push(...stream.getTracks());
        return stream;
    };
    const Context = AudioContext;
    window.AudioContext = class extends Context {
        constructor(...options) {
            super(...options);
            window.contexts.push(this);
        }
    };
    window.live = () => window.tracks.filter((track) => track.readyState === "live").length;
    window.unplug = () => {
        window.tracks.at(-1).stop();
        window.tracks.at(-1).dispatchEvent(new Event("ended"));
    };
}"""
"""Keeps the page's tracks and audio contexts within reach of a test."""

SINE = """{
    const context = new AudioContext();
    window.contexts.pop();
    window.volume = new GainNode(context, { gain: 0 });
    const target = new MediaStreamAudioDestinationNode(context, { channelCount: 1 });
    const sine = new OscillatorNode(context);
    sine.connect(window.volume).connect(target);
    sine.start();
    window.makeStream = () => target.stream;
}"""
"""A microphone whose volume a test can change; it begins with zeros."""

OPPOSITE = """{
    const context = new AudioContext();
    window.contexts.pop();
    const target = new MediaStreamAudioDestinationNode(context, { channelCount: 2 });
    const both = new ChannelMergerNode(context, { numberOfInputs: 2 });
    const sine = new OscillatorNode(context);
    const left = new GainNode(context, { gain: 0.1 });
    window.right = new GainNode(context, { gain: -0.1 });
    sine.connect(left).connect(both, 0, 0);
    sine.connect(window.right).connect(both, 0, 1);
    both.connect(target);
    sine.start();
    window.makeStream = () => target.stream;
}"""
"""A stereo microphone whose right channel is the negative of the left one."""

SECOND_BYTES = 2 * 48_000
"""Bytes of a second of audio at the highest rate."""

ALERT = "document.getElementById('alert').textContent"
LISTENING = "document.getElementById('status').dataset.state === 'live'"
STOPPED = "document.getElementById('status-text').textContent === 'Stopped'"
SHOWN = "[...document.querySelectorAll('[data-finals] p')].map((p) => p.textContent)"


async def open_with_hooks(page: Page, daemon: FakeDaemon, *more: str) -> None:
    await page.goto(daemon.url)
    for script in (HOOKS, *more):
        await page.evaluate(f"{script}; 0")


async def endless(socket: ServerConnection) -> None:
    """A session in which nothing is said."""
    await socket.recv()
    await socket.send(encode(READY))
    await receive_until_stop(socket)
    await socket.send(encode(Done(audio_ms=0)))


class Recording:
    """A session that sends a final after the first audio, and another one for the last audio."""

    def __init__(self) -> None:
        self.audio_ms = 0
        self.sessions = 0
        self.received = 0  # bytes of audio, in all sessions
        self.heard = asyncio.Event()
        self.opened_again = asyncio.Event()
        self.socket: ServerConnection

    async def __call__(self, socket: ServerConnection) -> None:
        self.socket = socket
        start = json.loads(await socket.recv())
        await socket.send(encode(READY))
        self.sessions += 1
        size = len(await receive_audio(socket, 10))
        self.hear(size)
        if self.sessions > 1:
            self.opened_again.set()
        else:
            await socket.send(encode(final(0, "before", 100)))
        size += await receive_until_stop(socket, self.hear)
        self.audio_ms = round(size / 2 / start["sample_rate"] * 1_000)
        await socket.send(encode(final(1, "after", self.last_ms)))
        await socket.send(encode(Done(audio_ms=self.audio_ms)))

    def hear(self, size: int) -> None:
        self.received += size
        self.heard.set()

    @property
    def last_ms(self) -> int:
        """The start of the last final, in the audio that was received."""
        return self.audio_ms - 20


async def stop_and_read_times(page: Page) -> list[int]:
    """Press stop; return the start of every final, as it would be downloaded."""
    await page.evaluate(
        "{ const Real = Blob; window.Blob = function ([text]) { window.saved = text; return new Real([text]); } }; 0"
    )
    await page.press(" ")
    await page.wait_for(STOPPED)
    await page.evaluate("document.querySelector('[data-download=vtt]').click()")
    saved = await page.evaluate("window.saved")
    starts = [line.split(" --> ")[0] for line in saved.splitlines() if "-->" in line]
    return [int(start[3:5]) * 60_000 + int(start[6:8]) * 1_000 + int(start[9:]) for start in starts]


async def test_a_suspended_context_is_resumed_at_once(page: Page, daemon: FakeDaemon) -> None:
    daemon.scripts = [endless]
    await open_with_hooks(page, daemon)
    await page.press(" ")
    await page.wait_for(LISTENING)
    await page.evaluate("contexts[0].suspend()")
    await page.wait_for("contexts[0].state === 'running'")
    assert await page.evaluate(ALERT) == ""


async def test_a_paused_browser_is_reported_and_times_include_the_gap(page: Page, daemon: FakeDaemon) -> None:
    recording = Recording()
    daemon.scripts = [recording]
    await open_with_hooks(page, daemon)
    await page.press(" ")
    await page.wait_for(f"{SHOWN}.length === 1")
    await page.evaluate(
        "contexts[0].resume = () => new Promise(() => {}); window.began = performance.now(); contexts[0].suspend()"
    )
    await page.wait_for(f"{ALERT}.startsWith('The browser has paused the microphone.')")
    await page.wait_for("performance.now() - window.began > 5000")
    await page.evaluate(
        "delete contexts[0].resume; document.body.dispatchEvent(new Event('pointerdown', {bubbles: true})); 0"
    )
    await page.wait_for(f"{ALERT} === ''")
    gap_ms = await page.evaluate("performance.now() - window.began")
    times = await stop_and_read_times(page)
    assert times[1] - recording.last_ms == pytest.approx(gap_ms - 2_000, abs=1_500), (
        "2 s of the gap are sent as silence, and the rest is added to the times"
    )


async def test_audio_that_stalls_without_a_reason_is_started_again(page: Page, daemon: FakeDaemon) -> None:
    daemon.scripts = [endless]
    await open_with_hooks(page, daemon)
    await page.press(" ")
    await page.wait_for(LISTENING)
    await page.evaluate(
        "Object.defineProperty(contexts[0], 'state', { value: 'running' }); contexts[0].suspend()"
    )
    await page.wait_for(f"{ALERT} === 'The microphone sends no audio. Trying to open it again.'")
    await page.wait_for(f"{ALERT} === ''")
    assert await page.evaluate("[contexts.length, live()]") == [2, 1]
    assert await page.evaluate("contexts[1].sampleRate === contexts[0].sampleRate")
    before = await page.text("#clock")
    await page.wait_for(f"document.getElementById('clock').textContent > '{before}'")


async def test_a_muted_microphone_is_reported(page: Page, daemon: FakeDaemon) -> None:
    daemon.scripts = [endless]
    await open_with_hooks(page, daemon, SINE)
    await page.press(" ")
    await page.wait_for(LISTENING)
    await page.evaluate("tracks[0].dispatchEvent(new Event('mute')); 0")
    assert await page.evaluate(ALERT) == "The microphone is muted, by its own switch or by the system."
    await page.evaluate("tracks[0].dispatchEvent(new Event('unmute')); 0")
    assert await page.evaluate(ALERT) == ""


async def test_zeros_for_five_seconds_are_reported(page: Page, daemon: FakeDaemon) -> None:
    daemon.scripts = [endless]
    await open_with_hooks(page, daemon, SINE)
    await page.press(" ")
    await page.wait_for(LISTENING)
    await page.wait_for(f"{ALERT}.startsWith('No signal from the microphone: it is muted, or')")
    assert await page.text("#clock") >= "0:04"
    await page.evaluate("volume.gain.value = 0.1; 0")
    await page.wait_for(f"{ALERT} === ''")


async def test_opposite_phases_do_not_cancel_each_other_out(page: Page, daemon: FakeDaemon) -> None:
    loud = asyncio.Event()

    async def script(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.send(encode(READY))
        while not loud.is_set():
            samples = np.frombuffer(await receive_audio(socket, 20), "<i2").astype(float)
            if np.sqrt(np.mean(samples**2)) > 0.05 * 32_768:  # a sine of 0.1, not the mean of two
                loud.set()
        await receive_until_stop(socket)
        await socket.send(encode(Done(audio_ms=0)))

    daemon.scripts = [script]
    await open_with_hooks(page, daemon, OPPOSITE)
    await page.press(" ")
    async with asyncio.timeout(60):
        await loud.wait()
    await page.wait_for(f"{ALERT}.startsWith('The two channels of the microphone have opposite phases')")
    await page.evaluate("right.gain.value = 0.1; 0")
    await page.wait_for(f"{ALERT} === ''")


async def test_an_unplugged_microphone_is_taken_up_again(page: Page, daemon: FakeDaemon) -> None:
    recording = Recording()
    daemon.scripts = [recording]
    await open_with_hooks(page, daemon)
    await page.press(" ")
    await page.wait_for(f"{SHOWN}.length === 1")
    await page.evaluate("window.refuse = 'NotFoundError'; unplug(); window.began = performance.now(); 0")
    await page.wait_for(f"{ALERT}.startsWith('The microphone was disconnected.')")
    assert await page.evaluate("performance.now() - window.began") < 10_000
    await page.evaluate(
        "window.refuse = null; window.back = performance.now();"
        "navigator.mediaDevices.dispatchEvent(new Event('devicechange')); 0"
    )
    await page.wait_for(f"{ALERT} === ''")
    shortest_ms, longest_ms = await page.evaluate(
        "[window.back - window.began, performance.now() - window.began]"
    )
    assert await page.evaluate("live()") == 1
    times = await stop_and_read_times(page)
    assert await page.evaluate(SHOWN) == ["before", "after"]
    assert shortest_ms - 1_000 < times[1] < longest_ms + 2_000, "times include the gap"


async def test_a_microphone_that_is_no_longer_allowed_ends_the_recording(
    page: Page, daemon: FakeDaemon
) -> None:
    daemon.scripts = [Recording()]
    await open_with_hooks(page, daemon)
    await page.press(" ")
    await page.wait_for(f"{SHOWN}.length === 1")
    await page.evaluate("window.refuse = 'NotAllowedError'; unplug(); 0")
    await page.wait_for(STOPPED)
    assert "not allowed to use the microphone" in await page.evaluate(ALERT)
    assert await page.evaluate(SHOWN) == ["before", "after"]


async def test_the_new_default_microphone_takes_over(page: Page, daemon: FakeDaemon) -> None:
    daemon.scripts = [endless]
    await open_with_hooks(page, daemon)
    await page.press(" ")
    await page.wait_for(LISTENING)
    await page.evaluate(
        """{
            const device = { kind: "audioinput", deviceId: "default", groupId: "new", label: "Headset" };
            navigator.mediaDevices.enumerateDevices = async () => [device];
            const label = { get() { return `Headset ${tracks.indexOf(this)}`; } };
            Object.defineProperty(MediaStreamTrack.prototype, "label", label);
            navigator.mediaDevices.dispatchEvent(new Event("devicechange"));
        }; 0"""
    )
    await page.wait_for(f"{ALERT} === 'Now recording from Headset 1.'")
    assert await page.evaluate("[asked, live(), tracks[1].readyState]") == [2, 1, "live"]
    await page.evaluate("navigator.mediaDevices.dispatchEvent(new Event('devicechange')); 0")
    await page.evaluate("new Promise((resolve) => setTimeout(resolve, 300))")
    assert await page.evaluate("asked") == 2, "the default has not changed again"


@pytest.mark.parametrize("lost", [False, True], ids=["connection kept", "connection lost"])
async def test_a_frozen_tab_goes_on_and_its_times_include_the_gap(
    page: Page, daemon: FakeDaemon, lost: bool
) -> None:
    """Chromium has closed the connections of a frozen tab in some versions, and kept them in others."""
    recording = Recording()
    daemon.scripts = [recording]
    await open_with_hooks(page, daemon)
    await page.press(" ")
    await page.wait_for(f"{SHOWN}.length === 1")
    before_ms = await page.evaluate("performance.now()")
    await page.call("Page.setWebLifecycleState", state="frozen")
    await asyncio.sleep(2)
    if lost:
        recording.socket.transport.abort()
    await asyncio.sleep(2)
    while_frozen = recording.received
    await page.call("Page.setWebLifecycleState", state="active")
    async with asyncio.timeout(60):
        if lost:
            await recording.opened_again.wait()
        while recording.received - while_frozen < SECOND_BYTES:
            recording.heard.clear()
            await recording.heard.wait()
    await page.wait_for(f"{LISTENING} && {ALERT} === ''")
    await page.wait_for("document.getElementById('clock').textContent >= '0:04'")
    passed_ms = await page.evaluate("performance.now()") - before_ms
    times = await stop_and_read_times(page)
    assert await page.evaluate(SHOWN) == ["before", "after"]
    assert 3_000 < times[1] < passed_ms + 2_000
    page.problems[:] = [
        text
        for text in page.problems
        if "Back-Forward Cache" not in text and not (lost and "WebSocket connection" in text)
    ]  # the browser's notices


async def test_fifty_recordings_show_captions_with_one_microphone_each(
    page: Page, daemon: FakeDaemon
) -> None:
    count = 0

    async def script(socket: ServerConnection) -> None:
        nonlocal count
        await socket.recv()
        await socket.send(encode(READY))
        await receive_until_stop(socket)
        await socket.send(encode(final(0, f"number {count}", 0)))
        count += 1
        await socket.send(encode(Done(audio_ms=0)))

    daemon.scripts = [script]
    await open_with_hooks(page, daemon)
    for number in range(50):
        await page.press(" ")
        if number % 2:
            await page.wait_for(LISTENING)
        else:
            await page.wait_for(
                "live() === 1 && !document.getElementById('status-text').textContent.endsWith('microphone')"
            )
        assert await page.evaluate("live()") == 1
        await page.press(" ")
        await page.wait_for(f"{STOPPED} && {SHOWN}.length === {number + 1}")
        assert await page.evaluate("live()") == 0
    assert await page.evaluate(SHOWN) == [f"number {number}" for number in range(50)]
    assert await page.evaluate("contexts.every((context) => context.state === 'closed')")


async def test_stop_while_connecting_keeps_the_words(page: Page, daemon: FakeDaemon) -> None:
    stopped = asyncio.Event()

    async def slow(socket: ServerConnection) -> None:
        await stopped.wait()
        await session_script(final(0, "said while connecting", 0))(socket)

    daemon.scripts = [slow]
    await open_with_hooks(page, daemon)
    await page.press(" ")
    await page.wait_for("document.getElementById('clock').textContent >= '0:01'")
    await page.press(" ")
    await page.wait_for("document.getElementById('status').dataset.state === 'finishing'")
    stopped.set()
    await page.wait_for(STOPPED)
    assert await page.evaluate(SHOWN) == ["said while connecting"]
    assert await page.evaluate("live()") == 0


async def test_stop_and_start_while_the_microphone_opens(page: Page, daemon: FakeDaemon) -> None:
    daemon.scripts = [session_script(final(0, "hello", 0))]
    await open_with_hooks(page, daemon)
    await page.evaluate("window.gate = new Promise((resolve) => (window.allow = resolve)); 0")
    for _ in range(5):
        await page.press(" ")
    await page.evaluate("allow()")
    await page.wait_for(f"{SHOWN}.length === 1")
    assert await page.evaluate("live()") == 1
    await page.press(" ")
    await page.wait_for(STOPPED)
    assert await page.evaluate("live()") == 0


async def test_a_session_without_audio_is_kept_open(page: Page, daemon: FakeDaemon) -> None:
    received: list[Any] = []
    enough = asyncio.Event()

    async def script(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.send(encode(READY))
        while len(received) < 3:
            received.append(json.loads(await socket.recv()))
        enough.set()
        await socket.wait_closed()

    daemon.scripts = [script]
    await page.goto(daemon.url)
    await page.evaluate(
        """import('/live.js').then(({ LiveStream }) => {
            new LiveStream({
                url: `ws://${location.host}/v1/stream`, start: { sample_rate: 16000 }, keepaliveMs: 30,
                on: { message() {}, status() {} },
            });
        })"""
    )
    async with asyncio.timeout(60):
        await enough.wait()
    assert received == [{"type": "keepalive"}] * 3


async def test_times_continue_behind_a_gap_also_after_a_reconnect(page: Page, daemon: FakeDaemon) -> None:
    sizes: list[int] = []

    async def disconnects(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.send(encode(READY))
        size = 0
        while size < 4 * 32_000:
            size += len(await receive_audio(socket))
        sizes.append(size)
        await socket.send(encode(final(0, "before", 200)))
        await socket.send(encode(final(1, "behind", 3_200)))
        socket.transport.abort()

    async def continues(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.send(encode(READY))
        sizes.append(await receive_until_stop(socket))
        await socket.send(encode(final(0, "again", 100)))
        await socket.send(encode(Done(audio_ms=sizes[-1] // 32)))

    daemon.scripts = [disconnects, continues]
    await page.goto(daemon.url)
    finals = await page.evaluate(
        """import('/live.js').then(({ LiveStream }) => new Promise((resolve) => {
            const finals = [];
            const second = () => new ArrayBuffer(32000);
            const stream = new LiveStream({
                url: `ws://${location.host}/v1/stream`, start: { sample_rate: 16000 }, originMs: 500,
                on: {
                    message(message) { if (message.type === "final") finals.push(message); },
                    status({ state, failure }) {
                        if (state === "live" && finals.length === 2) stream.finish();
                        if (state === "ended") {
                            const times = finals.map((f) => [f.start_ms, f.words[0].end_ms, f.utterance]);
                            resolve([failure, stream.positionMs, ...times]);
                        }
                    },
                },
            });
            stream.push(second());
            stream.skip(10000);
            stream.push(second());
        }))"""
    )
    assert sizes == [4 * 32_000, (4 * 32_000 - 3_450 * 32)]
    assert finals == [
        None,
        12_500,
        [700, 950, 0],
        [11_700, 11_950, 1],
        [500 + 3_450 + 100 + 8_000, 500 + 3_450 + 350 + 8_000, 2],
    ]
