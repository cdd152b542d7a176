"""Test the captions page in a real browser with a scripted daemon."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from websockets.asyncio.server import ServerConnection

from streamasr.cues import CueLimits
from streamasr.protocol.messages import Done, Error, Final, Partial, Resumed, Warning, WordTiming
from streamasr.protocol.serialisation import encode
from streamasr.subtitles import to_srt, to_text, to_vtt
from streamasr.text import join_words
from tests.browser.conftest import FakeDaemon
from tests.browser.devtools import Page
from tests.browser.scripts import (
    FINALS,
    READY,
    final,
    partial,
    receive_audio,
    receive_until_stop,
    session_script,
)


async def test_captions_appear_until_stop(page: Page, daemon: FakeDaemon) -> None:
    starts: list[dict[str, Any]] = []
    daemon.scripts = [session_script(*FINALS, partial("we will now", "here the"), starts=starts)]
    await page.goto(daemon.url)
    await page.evaluate("document.getElementById('start').click()")
    await page.wait_for("document.querySelector('.tail').textContent === ' here the'")
    assert await page.evaluate(
        "[...document.querySelectorAll('[data-finals] p')].map(p => p.textContent)"
    ) == [each.text for each in FINALS]
    assert await page.text("[data-current]") == "we will now here the"
    assert "Listening · en-small · 640 ms" in await page.text("#status")
    assert starts[0]["encoding"] == "pcm_s16le"
    assert starts[0]["channels"] == 1
    assert 8_000 <= starts[0]["sample_rate"] <= 48_000
    await page.evaluate("document.getElementById('start').click()")
    await page.wait_for("document.getElementById('status-text').textContent === 'Stopped'")
    assert await page.text("#start-label") == "Start"


async def test_audio_is_sent_unprocessed(page: Page, daemon: FakeDaemon) -> None:
    received: dict[str, Any] = {}
    enough = asyncio.Event()

    async def script(socket: ServerConnection) -> None:
        received.update(json.loads(await socket.recv()))
        await socket.send(encode(READY))
        received["pcm"] = await receive_audio(socket, 40)
        enough.set()
        await receive_until_stop(socket)
        await socket.send(encode(Done(audio_ms=2_000)))

    daemon.scripts = [script]
    await page.goto(daemon.url)
    await page.press(" ")
    async with asyncio.timeout(60):
        await enough.wait()
    samples = np.frombuffer(received["pcm"], "<i2").astype(float)
    rate = received["sample_rate"]
    assert len(samples) == pytest.approx(40 * 0.05 * rate, rel=0.01)
    assert np.abs(samples).max() == pytest.approx(0.3 * 32_768, rel=0.02), "the level was changed"
    loudest = np.argmax(np.abs(np.fft.rfft(samples * np.hanning(len(samples))))) * rate / len(samples)
    assert loudest == pytest.approx(440, abs=3)


async def test_text_is_only_appended(page: Page, daemon: FakeDaemon) -> None:
    steps: asyncio.Queue[Partial] = asyncio.Queue()

    async def script(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.send(encode(READY))
        while True:
            await socket.send(encode(await steps.get()))

    daemon.scripts = [script]
    await page.goto(daemon.url)
    await page.press("Enter")
    steps.put_nowait(partial("one", "too"))
    await page.wait_for("document.querySelector('[data-current]').textContent === 'one too'")
    await page.evaluate(
        """{
            const current = document.querySelector('[data-current]');
            window.node = current.firstChild;
            window.removed = 0;
            new MutationObserver((changes) => {
                for (const change of changes) if (change.target === current) window.removed++;
            }).observe(current, {childList: true, subtree: true, characterData: true});
        }"""
    )
    steps.put_nowait(partial("one two", "tree"))
    await page.wait_for("document.querySelector('[data-current]').textContent === 'one two tree'")
    assert await page.evaluate("document.querySelector('[data-current]').firstChild === window.node")
    assert await page.evaluate("window.removed") == 0
    assert await page.evaluate("document.querySelector('[data-current]').getAttribute('aria-live')") == "off"
    assert (
        await page.evaluate("document.querySelector('[data-finals]').getAttribute('aria-live')") == "polite"
    )


@pytest.mark.parametrize(("form", "expected"), [("txt", to_text), ("srt", to_srt), ("vtt", to_vtt)])
async def test_download(
    page: Page, daemon: FakeDaemon, tmp_path: Path, form: str, expected: Callable[[Iterable[Final]], str]
) -> None:
    daemon.scripts = [session_script(*FINALS)]
    await page.goto(daemon.url)
    assert await page.evaluate(f"document.querySelector('[data-download={form}]').disabled")
    await page.press(" ")
    await page.wait_for("document.querySelectorAll('[data-finals] p').length === 2")
    await page.call(
        "Browser.setDownloadBehavior",
        behavior="allow",
        browserContextId=page.context,
        downloadPath=str(tmp_path),
        eventsEnabled=True,
    )
    await page.evaluate(f"document.querySelector('[data-download={form}]').click()")
    async with asyncio.timeout(60):
        await page.downloaded.wait()
    (file,) = tmp_path.iterdir()  # noqa: ASYNC240 - nothing else waits
    assert file.name.startswith("captions-")
    assert file.suffix == f".{form}"
    assert file.read_text(encoding="utf-8") == expected(FINALS)


async def test_subtitles_equal_those_of_the_python_client(page: Page, daemon: FakeDaemon) -> None:
    """Compare both implementations on random utterances, with and without word times, and with other limits."""
    random = np.random.default_rng(7)
    finals, at = [], 0
    for number in range(40):
        words = []
        for _ in range(random.integers(1, 40)):
            start_ms = at + int(random.choice([0, 20, 60, 400, 900]))
            at = start_ms + int(random.choice([0, 80, 300, 900, 9_000], p=[0.1, 0.3, 0.3, 0.29, 0.01]))
            length = int(random.choice([1, 3, 5, 8, 13, 50], p=[0.2, 0.3, 0.3, 0.1, 0.09, 0.01]))
            word = "é" + "x" * length if number % 4 else chr(0x4E00 + length)
            word += str(
                random.choice(
                    ["", " ", "\n--> \x85", "<&>", "\U0001f642", ".", ",", '?"', "。"],
                    p=[0.6, 0.05, 0.05, 0.05, 0.05, 0.05, 0.05, 0.05, 0.05],
                )
            )
            words.append(WordTiming(word=word, start_ms=start_ms, end_ms=at, confidence=0.5))
        finals.append(
            Final(
                utterance=number,
                text=join_words(word.word for word in words),
                confidence=0.5,
                start_ms=words[0].start_ms,
                end_ms=at,
                words=tuple(words) if number % 3 else (),
            )
        )
    daemon.scripts = [session_script()]
    await page.goto(daemon.url)
    wire = f"[{','.join(encode(each) for each in finals)}]"
    assert await page.evaluate(f"import('/subtitles.js').then((m) => m.toText({wire}))") == to_text(finals)
    for chars, lines, ms in ((42, 2, 7_000), (20, 1, 2_000), (12, 4, 60_000), (80, 3, 500)):
        limits = f"{{...c.LIMITS, lineChars: {chars}, lines: {lines}, cueMs: {ms}}}"
        for name, convert in (("toSrt", to_srt), ("toVtt", to_vtt)):
            theirs = await page.evaluate(
                "Promise.all([import('/subtitles.js'), import('/cues.js')])"
                f".then(([m, c]) => m.{name}({wire}, {limits}))"
            )
            assert theirs == convert(finals, CueLimits(line_chars=chars, lines=lines, cue_ms=ms))


async def test_the_size_of_subtitles_is_a_setting(page: Page, daemon: FakeDaemon) -> None:
    daemon.scripts = [session_script()]
    await page.goto(daemon.url)
    await page.press("s")
    await page.wait_for("document.getElementById('settings').open")
    assert await page.evaluate("document.getElementById('line-chars').value") == "42"
    await page.evaluate(
        "document.getElementById('line-chars').value = '20';"
        "document.getElementById('lines').value = '1';"
        "document.getElementById('cue-seconds').value = '2.5';"
        "document.querySelector('#settings .primary').click()"
    )
    await page.wait_for("!document.getElementById('settings').open")
    await page.goto(daemon.url)
    limits = await page.evaluate(
        "import('/settings.js').then((m) => Object.values(m.cueLimits(m.loadSettings())))"
    )
    assert limits[:3] == [20, 1, 2_500]


async def test_a_lost_connection_is_shown_and_reopened(page: Page, daemon: FakeDaemon) -> None:
    async def disconnects(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.send(encode(READY))
        await receive_audio(socket, 10)
        await socket.send(encode(FINALS[0]))
        socket.transport.abort()

    daemon.scripts = [disconnects, session_script(final(0, "back again", 100))]
    await page.goto(daemon.url)
    await page.press(" ")
    await page.wait_for("document.getElementById('status').dataset.state === 'waiting'")
    assert "retrying in 1 s" in await page.text("#status-text")
    assert await page.text("#alert") == "The connection to the server was lost."
    await page.wait_for("document.querySelectorAll('[data-finals] p').length === 2")
    assert await page.text("[data-finals] p:last-child") == "back again"
    assert await page.evaluate("document.getElementById('alert').hidden")


async def test_a_session_is_resumed(page: Page, daemon: FakeDaemon) -> None:
    requests: list[dict[str, Any]] = []
    sent: list[bytes] = []

    async def breaks(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.send(encode(replace(READY, resume="the-token", resume_for_ms=30_000), 0))
        await receive_audio(socket, 10)
        await socket.send(encode(final(0, "yes", 0), 1))
        await asyncio.sleep(0.3)
        socket.transport.abort()

    async def continues(socket: ServerConnection) -> None:
        requests.append(json.loads(await socket.recv()))
        await socket.send(encode(Resumed(session="s", audio_samples=24_000, requests=0)))
        while sum(map(len, sent)) < 16_000:
            sent.append(await socket.recv(decode=False))
        await socket.send(encode(final(1, "the rest", 700), 2))
        await socket.wait_closed()

    daemon.scripts = [breaks, continues]
    await page.goto(daemon.url)
    await page.press(" ")
    await page.wait_for("document.querySelectorAll('[data-finals] p').length === 2")
    assert await page.text("[data-finals] p:last-child") == "the rest"
    assert requests == [{"type": "resume", "token": "the-token", "seq": 2}]


async def test_a_session_that_is_gone_is_replaced(page: Page, daemon: FakeDaemon) -> None:
    async def breaks(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.send(encode(replace(READY, resume="the-token", resume_for_ms=30_000), 0))
        await receive_audio(socket, 10)
        socket.transport.abort()

    async def unknown(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.send(encode(Error(code="unknown_session", message="none", fault="client"), 0))

    daemon.scripts = [breaks, unknown, session_script(final(0, "a new session", 100))]
    await page.goto(daemon.url)
    await page.press(" ")
    await page.wait_for("document.querySelectorAll('[data-finals] p').length === 1")
    assert await page.text("[data-finals] p:last-child") == "a new session"


async def test_the_last_words_are_not_lost_with_a_session_that_is_gone(
    page: Page, daemon: FakeDaemon
) -> None:
    """The connection breaks behind `stop`, and the server has no session: it gets the audio once more."""
    sizes: list[int] = []

    async def breaks(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.send(encode(replace(READY, resume="the-token", resume_for_ms=30_000), 0))
        sizes.append(await receive_until_stop(socket))
        socket.transport.abort()

    async def unknown(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.send(encode(Error(code="unknown_session", message="none", fault="client"), 0))

    async def continues(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.send(encode(READY))
        sizes.append(await receive_until_stop(socket))
        await socket.send(encode(final(0, "the last words", 100)))
        await socket.send(encode(Done(audio_ms=1_000)))

    daemon.scripts = [breaks, unknown, continues]
    await page.goto(daemon.url)
    await page.press(" ")
    await page.wait_for("document.getElementById('status').dataset.state === 'live'")
    await page.press(" ")
    await page.wait_for("document.querySelectorAll('[data-finals] p').length === 1")
    assert await page.text("[data-finals] p") == "the last words"
    assert sizes[0] == sizes[1]


async def test_an_utterance_that_a_shutdown_cuts_short_is_shown_whole(page: Page, daemon: FakeDaemon) -> None:
    sent: list[bytes] = []

    async def drains(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.send(encode(READY))
        await receive_audio(socket, 20)
        await socket.send(encode(final(0, "one two", 0)))
        await socket.send(encode(Warning(code="shutting_down", message="the last finals follow")))
        await socket.send(encode(final(1, "three fo", 900)))
        await socket.send(encode(Done(audio_ms=1_000)))

    async def continues(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.send(encode(READY))
        while sum(map(len, sent)) < 16_000:
            sent.append(await socket.recv(decode=False))
        await socket.send(encode(final(0, "three four", 0)))
        await socket.wait_closed()

    daemon.scripts = [drains, continues]
    await page.goto(daemon.url)
    await page.press(" ")
    await page.wait_for("document.querySelectorAll('[data-finals] p').length === 2")
    assert await page.text("[data-finals] p:last-child") == "three four"
    assert await page.text("[data-finals] p:first-child") == "one two"


async def test_a_full_server_is_retried_after_retry_after(page: Page, daemon: FakeDaemon) -> None:
    async def full(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.send(
            encode(Error(code="overloaded", message="no room", fault="server", retry_after_ms=1_500))
        )

    daemon.scripts = [full, session_script(FINALS[0])]
    await page.goto(daemon.url)
    await page.press(" ")
    await page.wait_for("document.getElementById('status').dataset.state === 'waiting'")
    assert await page.text("#status-text") == "Server full, retrying in 2 s"
    await page.wait_for("document.querySelectorAll('[data-finals] p').length === 1")


async def test_the_page_asks_for_a_token_once(page: Page, daemon: FakeDaemon) -> None:
    starts: list[dict[str, Any]] = []

    async def asks(socket: ServerConnection) -> None:
        starts.append(json.loads(await socket.recv()))
        await socket.send(encode(Error(code="unauthorized", message="a token is needed", fault="client")))

    daemon.scripts = [asks, session_script(FINALS[0], starts=starts)]
    await page.goto(daemon.url)
    await page.press(" ")
    await page.wait_for("document.getElementById('token-dialog').open")
    await page.evaluate(
        "document.getElementById('token').value = 'secret'; "
        "document.querySelector('#token-dialog [value=ok]').click()"
    )
    await page.wait_for("document.querySelectorAll('[data-finals] p').length === 1")
    assert "token" not in starts[0]
    assert starts[1]["token"] == "secret"


async def test_a_token_in_the_address_is_used_and_removed(page: Page, daemon: FakeDaemon) -> None:
    starts: list[dict[str, Any]] = []
    daemon.scripts = [session_script(FINALS[0], starts=starts)]
    await page.goto(daemon.url + "#token=from%20link")
    await page.press(" ")
    await page.wait_for("document.querySelectorAll('[data-finals] p').length === 1")
    assert starts[0]["token"] == "from link"
    assert await page.evaluate("location.hash") == ""


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("NotAllowedError", "not allowed to use the microphone"),
        ("NotFoundError", "No microphone was found"),
        ("NotReadableError", "Another program is using the microphone"),
    ],
)
async def test_microphone_errors_are_explained(page: Page, daemon: FakeDaemon, name: str, words: str) -> None:
    daemon.scripts = [session_script()]
    await page.goto(daemon.url)
    await page.evaluate(
        f"navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('no', '{name}')); 0"
    )
    await page.press(" ")
    await page.wait_for("document.getElementById('status').dataset.state === 'error'")
    assert words in await page.text("#alert")
    assert await page.text("#start-label") == "Start"


async def test_settings_are_sent_and_stored(page: Page, daemon: FakeDaemon) -> None:
    starts: list[dict[str, Any]] = []
    daemon.scripts = [session_script(FINALS[0], starts=starts)]
    await page.goto(daemon.url)
    await page.press("s")
    await page.wait_for("document.getElementById('settings').open")
    await page.evaluate(
        "document.getElementById('latency').value = '320';"
        "document.getElementById('hotwords').value = 'Ada Lovelace: 12\\n\\n  Babbage\\nratio 3:x';"
        "document.querySelector('#settings .primary').click()"
    )
    await page.wait_for("!document.getElementById('settings').open")
    await page.goto(daemon.url)
    await page.press("Enter")
    await page.wait_for("document.querySelectorAll('[data-finals] p').length === 1")
    assert starts[0]["latency_ms"] == 320
    assert starts[0]["format"] == "written"
    assert starts[0]["hotwords"] == [
        {"text": "Ada Lovelace", "boost": 12},
        {"text": "Babbage"},
        {"text": "ratio 3:x"},
    ]


async def test_a_server_that_cannot_write_is_asked_for_plain_text(page: Page, daemon: FakeDaemon) -> None:
    starts: list[dict[str, Any]] = []

    async def refusing(socket: ServerConnection) -> None:
        starts.append(json.loads(await socket.recv()))
        message = "start.format: no rules for writing the language 'xx'; leave it at 'plain'"
        await socket.send(encode(Error(code="bad_message", message=message, fault="client")))

    daemon.scripts = [refusing, session_script(FINALS[0], starts=starts)]
    await page.goto(daemon.url)
    await page.press(" ")
    await page.wait_for("document.querySelectorAll('[data-finals] p').length === 1")
    assert [start["format"] for start in starts] == ["written", "plain"]
    assert await page.text("#alert") == ""


async def test_written_text_can_be_turned_off(page: Page, daemon: FakeDaemon) -> None:
    starts: list[dict[str, Any]] = []
    daemon.scripts = [session_script(starts=starts)]
    await page.goto(daemon.url)
    await page.press("s")
    await page.wait_for("document.getElementById('settings').open")
    await page.evaluate(
        "document.getElementById('written').click(); document.querySelector('#settings .primary').click()"
    )
    await page.wait_for("!document.getElementById('settings').open")
    await page.evaluate("document.getElementById('start').click()")
    await page.wait_for("document.getElementById('status').dataset.state === 'live'")
    assert starts[0]["format"] == "plain"


async def test_keyboard_shortcuts(page: Page, daemon: FakeDaemon) -> None:
    daemon.scripts = [session_script()]
    await page.goto(daemon.url)
    size = "parseFloat(getComputedStyle(document.querySelector('.column')).fontSize)"
    before = await page.evaluate(size)
    await page.press("+")
    assert await page.evaluate(size) > before
    await page.press("-")
    await page.press("-")
    assert await page.evaluate(size) < before
    await page.press("d")
    assert await page.evaluate("document.documentElement.dataset.theme") == "dark"
    assert await page.evaluate("document.getElementById('theme').getAttribute('aria-pressed')") == "true"
    await page.press("?")
    assert await page.evaluate("document.getElementById('help').open")
    await page.press("d")
    assert await page.evaluate("document.documentElement.dataset.theme") == "dark", (
        "shortcuts are disabled while a dialog is open"
    )


@pytest.mark.parametrize("width", [320, 768, 1280])
async def test_the_layout_fits_the_window(page: Page, daemon: FakeDaemon, width: int) -> None:
    daemon.scripts = [session_script(*FINALS)]
    await page.resize(width, 640)
    await page.goto(daemon.url)
    await page.press(" ")
    await page.wait_for("document.querySelectorAll('[data-finals] p').length === 2")
    assert await page.evaluate("document.documentElement.scrollWidth") <= width
    outside = await page.evaluate(
        "[...document.querySelectorAll('button, canvas, output')]"
        ".filter((e) => e.getClientRects().length && e.getBoundingClientRect().right > innerWidth + 1)"
        ".map((e) => e.id || e.textContent)"
    )
    assert outside == []


async def test_every_control_has_an_accessible_name(page: Page, daemon: FakeDaemon) -> None:
    daemon.scripts = [session_script()]
    await page.goto(daemon.url)
    tree = (await page.call("Accessibility.getFullAXTree"))["nodes"]
    controls = [
        node for node in tree if node.get("role", {}).get("value") in ("button", "textbox", "combobox")
    ]
    assert len(controls) >= 8
    assert [node for node in controls if not node.get("name", {}).get("value")] == []


async def test_words_spoken_before_the_server_is_ready_are_sent(page: Page, daemon: FakeDaemon) -> None:
    sizes: list[int] = []

    async def script(socket: ServerConnection) -> None:
        rate = json.loads(await socket.recv())["sample_rate"]
        await asyncio.sleep(3)
        await socket.send(encode(READY))
        sizes.extend((await receive_until_stop(socket), rate))
        await socket.send(encode(Done(audio_ms=sizes[0] * 500 // rate)))

    daemon.scripts = [script]
    await page.goto(daemon.url)
    await page.press(" ")
    await page.wait_for("document.getElementById('clock').textContent >= '0:04'")
    await page.press(" ")
    await page.wait_for("document.getElementById('status-text').textContent === 'Stopped'")
    size, rate = sizes
    assert size >= 4 * 2 * rate


@pytest.mark.timeout(120)
async def test_the_last_words_of_a_server_that_is_far_behind_are_shown(
    page: Page, daemon: FakeDaemon
) -> None:
    """Its messages come after more than ten seconds each."""
    last = final(0, "the very last words", 200)

    async def script(socket: ServerConnection) -> None:
        rate = json.loads(await socket.recv())["sample_rate"]
        await socket.send(encode(READY))
        size = await receive_until_stop(socket)
        await asyncio.sleep(11)
        await socket.send(encode(partial("the very", "last", 0)))
        await asyncio.sleep(11)
        await socket.send(encode(last))
        await socket.send(encode(Done(audio_ms=size * 500 // rate)))

    daemon.scripts = [script]
    await page.goto(daemon.url)
    await page.press(" ")
    await page.wait_for("document.getElementById('clock').textContent >= '0:01'")
    await page.press(" ")
    await page.wait_for("document.getElementById('status-text').textContent === 'Stopped'")
    assert await page.text("[data-finals]") == last.text
