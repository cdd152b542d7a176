"""Run a real daemon process with a tiny model of random weights, whose output is meaningless but deterministic."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest
import torch

from streamasr.acoustic import save_encoder
from streamasr.toml import to_toml
from tests.integration.streams import open_stream
from tests.recognition.tiny import TOKENS, tiny_model

STOP_TIMEOUT_S = 30


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the tiny model."""
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

    def __init__(
        self, process: subprocess.Popen[str], url: str, dialect_urls: dict[str, str] | None = None
    ) -> None:
        self.process = process
        self.url = url
        self.dialect_urls = dialect_urls or {}
        """The URLs of further ports, by the name of the dialect."""

    @property
    def port(self) -> int:
        return int(self.url.split(":")[2].partition("/")[0])

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def exit_status(self) -> int:
        return await asyncio.to_thread(self.process.wait, STOP_TIMEOUT_S)

    async def transcribe(self, pcm: bytes) -> str:
        """Return the text of ``pcm`` when no other client is connected."""
        async with open_stream(self.url) as stream:
            return await stream.transcribe(pcm)

    async def transcribe_during(
        self, voices: list[bytes], disturbance: Callable[[], Awaitable[None]]
    ) -> list[str]:
        """Send ``voices`` concurrently, run ``disturbance`` in the middle, and return the text of each voice.

        No session stops before ``disturbance`` has ended.
        """
        halfway, over = asyncio.Barrier(len(voices) + 1), asyncio.Event()

        async def stream_voice(pcm: bytes) -> str:
            async with open_stream(self.url) as stream:
                await stream.send(pcm[: len(pcm) // 2])
                await halfway.wait()
                await stream.send(pcm[len(pcm) // 2 :])
                await over.wait()
                return await stream.finish()

        async def run_disturbance() -> str:
            await halfway.wait()
            await disturbance()
            over.set()
            return ""

        return (await asyncio.gather(*(stream_voice(pcm) for pcm in voices), run_disturbance()))[:-1]

    async def metrics(self) -> str:
        """Read the daemon's metrics."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        text = (await reader.read()).decode()
        writer.close()
        return text


@contextmanager
def run_daemon(*flags: str, log: IO[str] | None = None) -> Iterator[Daemon]:
    """Start a daemon on a free port and wait until it accepts sessions. It is killed at the end if it still runs."""
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
    with subprocess.Popen([*command, *flags], stdout=subprocess.PIPE, stderr=log, text=True) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            assert line.startswith("ready ws://127.0.0.1:"), line
            further = sum(flag in ("--vosk-port", "--wyoming-port") for flag in flags)
            ready = [process.stdout.readline().split() for _ in range(further)]
            yield Daemon(process, line.removeprefix("ready ").strip(), {name: url for _, name, url in ready})
        finally:
            process.kill()


@pytest.fixture(scope="session")
def daemon(tiny_folder: Path) -> Iterator[Daemon]:
    """A daemon for four sessions, shared by all tests: no test may leave it in a bad state."""
    limits = ["--max-sessions", "4", "--close-timeout-s", "1"]
    timeouts = ["--slow-reader-s", "2", "--send-buffer-bytes", "4096"]
    ports = ["--vosk-port", "0", "--wyoming-port", "0"]
    with run_daemon("--model", str(tiny_folder), *limits, *timeouts, *ports) as running:
        yield running
