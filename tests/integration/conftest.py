"""A real daemon process with a tiny model of random weights: nonsense, but always the same nonsense."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from streamasr.acoustic import save_encoder
from streamasr.toml import to_toml
from tests.integration.streams import open_stream
from tests.recognition.tiny import TOKENS, tiny_model

STOP_TIMEOUT_S = 30


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model as a folder."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    folder.mkdir()
    model = tiny_model()
    assert isinstance(model.encoder, torch.nn.Module)
    save_encoder(model.encoder, folder / "model.safetensors")
    (folder / "config.toml").write_text(to_toml(model.config))
    TOKENS.save(folder / "tokens.txt")
    return folder


class Daemon:
    """A running ``streamasr serve``."""

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self.process = process
        self.url = url

    @property
    def port(self) -> int:
        return int(self.url.split(":")[2].partition("/")[0])

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def exit_status(self) -> int:
        return await asyncio.to_thread(self.process.wait, STOP_TIMEOUT_S)

    async def alone(self, pcm: bytes) -> str:
        """What the daemon says about ``pcm`` when nobody disturbs it."""
        async with open_stream(self.url) as stream:
            return await stream.transcribe(pcm)

    async def disturbed(self, voices: list[bytes], disturb: Callable[[], Awaitable[None]]) -> list[str]:
        """What it says about each of ``voices``, spoken at a time, when ``disturb`` happens in the middle.

        Nobody stops before the disturbance is over.
        """
        halfway, over = asyncio.Barrier(len(voices) + 1), asyncio.Event()

        async def speak(pcm: bytes) -> str:
            async with open_stream(self.url) as stream:
                await stream.send(pcm[: len(pcm) // 2])
                await halfway.wait()
                await stream.send(pcm[len(pcm) // 2 :])
                await over.wait()
                return await stream.finish()

        async def trouble() -> str:
            await halfway.wait()
            await disturb()
            over.set()
            return ""

        return (await asyncio.gather(*(speak(pcm) for pcm in voices), trouble()))[:-1]

    async def metrics(self) -> str:
        """What it has counted."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        text = (await reader.read()).decode()
        writer.close()
        return text


@contextmanager
def run_daemon(*flags: str) -> Iterator[Daemon]:
    """Start a daemon on a free port and wait until it takes sessions; killed at the end if it still runs."""
    command = [
        sys.executable,
        "-m",
        "streamasr.cli",
        "serve",
        "--port",
        "0",
        "--device",
        "cpu",
        "--threads",
        "1",
    ]
    with subprocess.Popen([*command, *flags], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            assert line.startswith("ready ws://127.0.0.1:"), line
            yield Daemon(process, line.removeprefix("ready ").strip())
        finally:
            process.kill()


@pytest.fixture(scope="session")
def daemon(tiny_folder: Path) -> Iterator[Daemon]:
    """A daemon with room for four, the same for all tests: whatever one does to it, the next must find it well."""
    limits = ["--max-sessions", "4", "--close-timeout-s", "1"]
    impatience = ["--slow-reader-s", "2", "--send-buffer-bytes", "4096"]
    with run_daemon("--model", str(tiny_folder), *limits, *impatience) as running:
        yield running
