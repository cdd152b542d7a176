"""Test that a recording has the same words and times after reconnects in pauses and in mid-speech."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import soundfile

from streamasr.protocol.messages import Done, Final, Partial, Start
from streamasr_client.connection import Backoff
from streamasr_client.live import ConnectionStatus, LiveStream
from tests.client.scripted import ListSource

RATE = 16_000
ROUND_S = 8
FRAME_MS = 20
CLIP = "481-123719-0000.flac"


class Relay:
    """A TCP relay whose connections can be cut."""

    def __init__(self, url: str) -> None:
        self.address = urlsplit(url)
        self.writers: list[asyncio.StreamWriter] = []

    def cut(self) -> None:
        for writer in self.writers:
            writer.transport.abort()
        self.writers.clear()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert self.address.hostname is not None
        far_reader, far_writer = await asyncio.open_connection(self.address.hostname, self.address.port)
        self.writers += [writer, far_writer]
        await asyncio.gather(
            self._copy(reader, far_writer), self._copy(far_reader, writer), return_exceptions=True
        )

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
        writer.close()


@asynccontextmanager
async def relay_to(url: str) -> AsyncIterator[tuple[Relay, str]]:
    """A relay to ``url``, and its own URL."""
    relay = Relay(url)
    server = await asyncio.start_server(relay.handle, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield relay, f"ws://127.0.0.1:{port}{relay.address.path}"
    finally:
        server.close()
        relay.cut()


@pytest.fixture(scope="module")
def url(en_small: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "streamasr.cli", "serve", "--port", "0", "--model", str(en_small)]
    with subprocess.Popen([*command, "--device", "cpu"], stdout=subprocess.PIPE, text=True) as daemon:
        assert daemon.stdout is not None
        first = daemon.stdout.readline()
        assert first.startswith("ready ws://127.0.0.1:"), first
        yield first.split()[1]
        daemon.terminate()


async def test_a_recording_has_the_same_times_after_reconnects(repository: Path, url: str) -> None:
    """The first cut is in the pause after the first round; the second one while words of the third are shown."""
    samples, rate = soundfile.read(repository / "tests" / "data" / "librispeech" / CLIP, dtype="int16")
    assert rate == RATE
    sound = samples.tobytes().ljust(ROUND_S * RATE * 2, b"\0")
    # The rest follows when words of the beginning are shown, as with a microphone: while the client knows of no
    # speech, it keeps five seconds only.
    beginning, rest = sound[: len(sound) // 2], sound[len(sound) // 2 :]
    source = ListSource(beginning)
    finals: list[Final] = []
    connections = 0
    cut_in_speech = rest_given = False
    async with relay_to(url) as (relay, address):
        live = LiveStream(address, Start(), source, backoff=Backoff(first_ms=1, max_ms=2))
        async with aclosing(live.events()) as events:
            async for event in events:
                if isinstance(event, ConnectionStatus):
                    connections += event.state == "live"
                elif isinstance(event, Partial) and len(finals) == 2 and not cut_in_speech:
                    cut_in_speech = True
                    relay.cut()
                elif isinstance(event, Partial) and not rest_given:
                    rest_given = True
                    source.give(rest)
                elif isinstance(event, Final):
                    finals.append(event)
                    rest_given = False
                    if len(finals) == 1:
                        relay.cut()
                    if len(finals) < 3:
                        source.give(beginning)
                    else:
                        source.stop()
                elif isinstance(event, Done):
                    assert event.audio_ms == 3 * ROUND_S * 1000
    assert connections == 3
    first, *others = finals
    assert len(others) == 2
    assert first.text == "it was followed by remorse i tried to drive it away i felt too sick"
    for number, other in enumerate(others, 1):
        assert other.text == first.text
        shift = number * ROUND_S * 1000
        for word, same in zip(first.words, other.words, strict=True):
            assert abs(same.start_ms - shift - word.start_ms) <= FRAME_MS
            assert abs(same.end_ms - shift - word.end_ms) <= FRAME_MS
    words = [word for final in finals for word in final.words]
    starts = [*(word.start_ms for word in words), 3 * ROUND_S * 1000]
    assert all(word.start_ms < word.end_ms <= then for word, then in zip(words, starts[1:], strict=True))
