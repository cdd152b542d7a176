"""The captions page in a real browser, against a scripted daemon."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamasr.protocol.messages import Done, Error, Final, Partial, Ready, ServerMessage, WordTiming
from streamasr.protocol.serialisation import encode
from streamasr.text import join_words
from streamasr_client.subtitles import to_srt, to_text, to_vtt

READY = Ready(session="s", sample_rate=48_000, latency_ms=640, model="en-small")


def final(number: int, text: str, start_ms: int, word_ms: int = 300) -> Final:
    words = tuple(
        WordTiming(
            word=word,
            start_ms=start_ms + i * word_ms,
            end_ms=start_ms + (i + 1) * word_ms - 50,
            confidence=0.9,
        )
        for i, word in enumerate(text.split())
    )
    return Final(
        utterance=number,
        text=text,
        confidence=0.9,
        start_ms=start_ms,
        end_ms=words[-1].end_ms,
        words=words,
    )


FINALS = (
    final(0, "good morning everyone and thank you for coming", 200),
    final(
        1,
        "the committee looked at the three proposals <a & b> and it has chosen the second one of them",
        4_000,
    ),
)


def partial(committed: str, tail: str, number: int = 2) -> Partial:
    return Partial(utterance=number, committed=committed, tail=tail, start_ms=10_000, end_ms=11_000)


async def hear(socket: Any, count: int = 1) -> bytes:
    """The next `count` binary messages."""
    heard = b""
    while count:
        message = await socket.recv()
        if isinstance(message, bytes):
            heard += message
            count -= 1
    return heard


async def until_stop(socket: Any) -> int:
    """Reads to `stop`; returns the bytes of audio."""
    size = 0
    while True:
        message = await socket.recv()
        if isinstance(message, bytes):
            size += len(message)
        elif json.loads(message)["type"] == "stop":
            return size


def conversation(*messages: ServerMessage, starts: list[dict[str, Any]] | None = None) -> Any:
    """A session that says `messages` after the first audio, and takes `stop`."""

    async def script(socket: Any) -> None:
        start = json.loads(await socket.recv())
        if starts is not None:
            starts.append(start)
        await socket.send(encode(READY))
        size = len(await hear(socket))
        for message in messages:
            await socket.send(encode(message))
        size += await until_stop(socket)
        await socket.send(encode(Done(audio_ms=round(size / 2 / start["sample_rate"] * 1000))))

    return script


async def test_captions_appear_until_stop(page: Any, daemon: Any) -> None:
    starts: list[dict[str, Any]] = []
    daemon.scripts = [conversation(*FINALS, partial("we will now", "here the"), starts=starts)]
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


async def test_audio_is_sent_unprocessed(page: Any, daemon: Any) -> None:
    heard: dict[str, Any] = {}
    enough = asyncio.Event()

    async def script(socket: Any) -> None:
        heard.update(json.loads(await socket.recv()))
        await socket.send(encode(READY))
        heard["pcm"] = await hear(socket, 40)
        enough.set()
        await until_stop(socket)
        await socket.send(encode(Done(audio_ms=2_000)))

    daemon.scripts = [script]
    await page.goto(daemon.url)
    await page.press(" ")
    async with asyncio.timeout(20):
        await enough.wait()
    samples = np.frombuffer(heard["pcm"], "<i2").astype(float)
    rate = heard["sample_rate"]
    assert len(samples) == pytest.approx(40 * 0.05 * rate, rel=0.01)
    assert np.abs(samples).max() == pytest.approx(0.3 * 32_768, rel=0.02), "nobody turned the level up"
    loudest = np.argmax(np.abs(np.fft.rfft(samples * np.hanning(len(samples))))) * rate / len(samples)
    assert loudest == pytest.approx(440, abs=3)


async def test_text_is_only_appended(page: Any, daemon: Any) -> None:
    steps: asyncio.Queue[Partial] = asyncio.Queue()

    async def script(socket: Any) -> None:
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
async def test_download(page: Any, daemon: Any, tmp_path: Path, form: str, expected: Any) -> None:
    daemon.scripts = [conversation(*FINALS)]
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
    async with asyncio.timeout(20):
        await page.downloaded.wait()
    (file,) = tmp_path.iterdir()  # noqa: ASYNC240 - nothing else waits
    assert file.name.startswith("captions-")
    assert file.suffix == f".{form}"
    assert file.read_text(encoding="utf-8") == expected(FINALS)


async def test_subtitles_equal_those_of_the_python_client(page: Any, daemon: Any) -> None:
    """The two implementations on many random utterances, with and without word times."""
    random = np.random.default_rng(7)
    finals, at = [], 0
    for number in range(40):
        words = []
        for _ in range(random.integers(1, 40)):
            start_ms = at + int(random.choice([20, 60, 400, 900]))
            at = start_ms + int(random.integers(80, 900))
            length = int(random.choice([1, 3, 5, 8, 13, 50], p=[0.2, 0.3, 0.3, 0.1, 0.09, 0.01]))
            word = "é" + "x" * length if number % 4 else chr(0x4E00 + length)
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
    daemon.scripts = [conversation()]
    await page.goto(daemon.url)
    wire = f"[{','.join(encode(each) for each in finals)}]"
    for name, convert in (("toSrt", to_srt), ("toVtt", to_vtt), ("toText", to_text)):
        theirs = await page.evaluate(f"import('/subtitles.js').then((m) => m.{name}({wire}))")
        assert theirs == convert(finals)


async def test_a_lost_connection_is_shown_and_reopened(page: Any, daemon: Any) -> None:
    async def breaks(socket: Any) -> None:
        await socket.recv()
        await socket.send(encode(READY))
        await hear(socket, 10)
        await socket.send(encode(FINALS[0]))
        socket.transport.abort()

    daemon.scripts = [breaks, conversation(final(0, "back again", 100))]
    await page.goto(daemon.url)
    await page.press(" ")
    await page.wait_for("document.getElementById('status').dataset.state === 'waiting'")
    assert "retrying in 1 s" in await page.text("#status-text")
    assert await page.text("#alert") == "The connection to the server was lost."
    await page.wait_for("document.querySelectorAll('[data-finals] p').length === 2")
    assert await page.text("[data-finals] p:last-child") == "back again"
    assert await page.evaluate("document.getElementById('alert').hidden")


async def test_a_full_server_is_retried_after_retry_after(page: Any, daemon: Any) -> None:
    async def full(socket: Any) -> None:
        await socket.recv()
        await socket.send(
            encode(Error(code="overloaded", message="no room", fault="server", retry_after_ms=1_500))
        )

    daemon.scripts = [full, conversation(FINALS[0])]
    await page.goto(daemon.url)
    await page.press(" ")
    await page.wait_for("document.getElementById('status').dataset.state === 'waiting'")
    assert await page.text("#status-text") == "Server full, retrying in 2 s"
    await page.wait_for("document.querySelectorAll('[data-finals] p').length === 1")


async def test_the_page_asks_for_a_token_once(page: Any, daemon: Any) -> None:
    starts: list[dict[str, Any]] = []

    async def asks(socket: Any) -> None:
        starts.append(json.loads(await socket.recv()))
        await socket.send(encode(Error(code="unauthorized", message="a token is needed", fault="client")))

    daemon.scripts = [asks, conversation(FINALS[0], starts=starts)]
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


async def test_a_token_in_the_address_is_used_and_removed(page: Any, daemon: Any) -> None:
    starts: list[dict[str, Any]] = []
    daemon.scripts = [conversation(FINALS[0], starts=starts)]
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
async def test_microphone_errors_are_explained(page: Any, daemon: Any, name: str, words: str) -> None:
    daemon.scripts = [conversation()]
    await page.goto(daemon.url)
    await page.evaluate(
        f"navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('no', '{name}')); 0"
    )
    await page.press(" ")
    await page.wait_for("document.getElementById('status').dataset.state === 'error'")
    assert words in await page.text("#alert")
    assert await page.text("#start-label") == "Start"


async def test_settings_are_sent_and_stored(page: Any, daemon: Any) -> None:
    starts: list[dict[str, Any]] = []
    daemon.scripts = [conversation(FINALS[0], starts=starts)]
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
    assert starts[0]["hotwords"] == [
        {"text": "Ada Lovelace", "boost": 12},
        {"text": "Babbage"},
        {"text": "ratio 3:x"},
    ]


async def test_keyboard_shortcuts(page: Any, daemon: Any) -> None:
    daemon.scripts = [conversation()]
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
        "keys rest behind a dialog"
    )


@pytest.mark.parametrize("width", [320, 768, 1280])
async def test_the_layout_fits_the_window(page: Any, daemon: Any, width: int) -> None:
    daemon.scripts = [conversation(*FINALS)]
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


async def test_every_control_has_an_accessible_name(page: Any, daemon: Any) -> None:
    daemon.scripts = [conversation()]
    await page.goto(daemon.url)
    tree = (await page.call("Accessibility.getFullAXTree"))["nodes"]
    controls = [
        node for node in tree if node.get("role", {}).get("value") in ("button", "textbox", "combobox")
    ]
    assert len(controls) >= 8
    assert [node for node in controls if not node.get("name", {}).get("value")] == []
