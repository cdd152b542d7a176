"""Stop one daemon behind HAProxy and kill another while clients stream, and measure lost words and lag.

    python benchmarks/failover.py --streams 6

Starts three daemons and HAProxy with ``deploy/haproxy/cluster.cfg``. Each client plays recordings of ``--audio`` in
real time, in another order. After a third of the time the first daemon gets SIGTERM, after two thirds the second one
SIGKILL. The texts are compared with those of the same audio without a break. Prints a table, then one JSON line.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from streamasr.cli.bench import read_pcm
from streamasr.protocol.audio import AudioFormat
from streamasr.protocol.messages import Final, Partial, Ready, Start
from streamasr.scoring import word_edits
from streamasr.service.lag import SentAudio
from streamasr.units import MS_PER_SECOND
from streamasr_client.connection import open_session
from streamasr_client.live import LiveStream

ROOT = Path(__file__).resolve().parents[1]
CONFIGURATION = ROOT / "deploy" / "haproxy" / "cluster.cfg"
DAEMONS = 3
BLOCK_MS = 40
FORMAT = AudioFormat(16_000)
PAUSE = bytes(FORMAT.ms_to_bytes(1_000))
"""Between recordings, so that utterances end."""


@dataclass(frozen=True, kw_only=True)
class ClientReport:
    """What happened to one client."""

    sessions: int
    """Sessions that it opened."""
    words: int
    """Words of the text without a break."""
    lost: int
    """Words of it that are missing."""
    changed: int
    """Words of it that are different, and words added."""
    longest_lag_ms: int
    """The longest time from the end of a word until a partial or final first contained it."""
    usual_lag_ms: int
    """The median of these times."""


class RealTimeSource:
    """Yields recordings at the speed at which they were spoken."""

    format = FORMAT

    def __init__(self, pcm: bytes) -> None:
        self._pcm = pcm
        self.sent = SentAudio()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = FORMAT.ms_to_bytes(BLOCK_MS)
        began = time.monotonic()
        for number, offset in enumerate(range(0, len(self._pcm), size), 1):
            await asyncio.sleep(max(0.0, began + number * BLOCK_MS / MS_PER_SECOND - time.monotonic()))
            self.sent.add(number * BLOCK_MS, time.monotonic())
            yield self._pcm[offset : offset + size]

    def stop(self) -> None:
        """The source ends by itself."""


async def recognise(url: str, pcm: bytes) -> str:
    """Return the text of ``pcm`` in one session without a break."""
    async with open_session(url, Start(), ping_timeout_s=None) as session:
        await session.send_audio(pcm)
        await session.stop()
        return " ".join([message.text async for message in session.messages() if isinstance(message, Final)])


async def play(url: str, pcm: bytes, reference: str) -> ClientReport:
    """Stream ``pcm`` as ``streamasr listen`` does, and compare its text with ``reference``."""
    source = RealTimeSource(pcm)
    finals: list[Final] = []
    lags: list[float] = []
    sessions = newest_ms = 0
    async for event in LiveStream(url, Start(), source).events():
        now = time.monotonic()
        sessions += isinstance(event, Ready)
        if isinstance(event, Final):
            finals.append(event)
        if isinstance(event, Partial | Final):
            spoken = [word.end_ms for word in event.words if word.end_ms > newest_ms]
            times = [source.sent.time_of(end_ms) for end_ms in spoken]
            lags += [(now - at) * MS_PER_SECOND for at in times if at is not None]
            newest_ms = max([newest_ms, *spoken])
    text = " ".join(final.text for final in finals)
    edits = word_edits(reference, text)
    return ClientReport(
        sessions=sessions,
        words=len(reference.split()),
        lost=edits.deletions,
        changed=edits.substitutions + edits.insertions,
        longest_lag_ms=round(max(lags)),
        usual_lag_ms=round(float(np.median(lags))),
    )


@contextmanager
def cluster(folder: Path, flags: Sequence[str]) -> Iterator[tuple[str, list[subprocess.Popen[str]]]]:
    """Run the daemons and HAProxy; return the address and the daemons."""
    with ExitStack() as stack:
        daemons = [stack.enter_context(_daemon(flags)) for _ in range(DAEMONS)]
        certificate = _certificate(folder)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        text = CONFIGURATION.read_text(encoding="utf-8")
        text = text.replace("bind :443", f"bind 127.0.0.1:{port}")
        text = text.replace("/etc/ssl/captions.pem", str(certificate))
        for number, (_, daemon_port) in enumerate(daemons, 1):
            text = text.replace(f"192.0.2.{number}:8765", f"127.0.0.1:{daemon_port}")
        (folder / "haproxy.cfg").write_text(text)
        program = shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
        if program is None:
            raise SystemExit("haproxy is not installed (Debian: apt install haproxy)")
        proxy = stack.enter_context(subprocess.Popen([program, "-db", "-f", str(folder / "haproxy.cfg")]))
        stack.callback(proxy.terminate)
        os.environ["SSL_CERT_FILE"] = str(certificate)
        _wait_until_open(proxy, port)
        yield f"wss://127.0.0.1:{port}/v1/stream", [process for process, _ in daemons]


@contextmanager
def _daemon(flags: Sequence[str]) -> Iterator[tuple[subprocess.Popen[str], int]]:
    command = [sys.executable, "-m", "streamasr.cli", "serve", "--port", "0", "--log-level", "warning"]
    with subprocess.Popen([*command, *flags], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            found = re.match(r"ready ws://127\.0\.0\.1:(\d+)/", process.stdout.readline())
            if found is None:
                raise SystemExit("the daemon did not start")
            yield process, int(found[1])
        finally:
            process.kill()


def _certificate(folder: Path) -> Path:
    request = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
    ]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run([*request, *names, *files], check=True, capture_output=True)
    both = folder / "both.pem"
    both.write_text((folder / "key.pem").read_text() + (folder / "cert.pem").read_text())
    return both


def _wait_until_open(process: subprocess.Popen[bytes], port: int) -> None:
    while process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise SystemExit("haproxy did not start")


async def stream_all(
    url: str, daemons: Sequence[subprocess.Popen[str]], voices: Sequence[bytes], references: Sequence[str]
) -> list[ClientReport]:
    """Stream all voices; stop the first daemon after a third of the time, kill the second after two thirds."""
    third_s = FORMAT.bytes_to_ms(min(map(len, voices))) / MS_PER_SECOND / 3

    async def disturb() -> None:
        for daemon, number in zip(daemons, (signal.SIGTERM, signal.SIGKILL), strict=False):
            await asyncio.sleep(third_s)
            daemon.send_signal(number)

    clients = [play(url, pcm, text) for pcm, text in zip(voices, references, strict=True)]
    async with asyncio.TaskGroup() as group:
        group.create_task(disturb())
        reports = await asyncio.gather(*clients)
    return reports


def run(
    audio: Sequence[Path], streams: int, *, model: str = "en-small", rounds: int = 1
) -> list[ClientReport]:
    """Run the whole measurement."""
    parts = [read_pcm(path) + PAUSE for path in audio] * rounds
    orders = [parts[shift:] + parts[:shift] for shift in range(len(audio))]
    voices = [b"".join(orders[index % len(orders)]) for index in range(streams)]
    # The daemons share this machine, so none may count on all of it: a fixed number of sessions.
    flags = ["--model", model, "--device", "cpu", "--threads", "1", "--max-sessions", str(streams)]
    with tempfile.TemporaryDirectory() as folder, cluster(Path(folder), flags) as (url, daemons):
        texts = {pcm: asyncio.run(recognise(url, pcm)) for pcm in voices[: len(orders)]}
        return asyncio.run(stream_all(url, daemons, voices, [texts[pcm] for pcm in voices]))


def main() -> None:
    """Run the measurement and print its results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="en-small")
    parser.add_argument("--audio", type=Path, nargs="+", required=True)
    parser.add_argument("--streams", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=1, help="how often each client plays the recordings")
    args = parser.parse_args()
    reports = run(args.audio, args.streams, model=args.model, rounds=args.rounds)
    shown = Table("client", "sessions", "words", "lost", "changed", "usual lag ms", "longest lag ms")
    for number, report in enumerate(reports, 1):
        cells = (number, report.sessions, report.words, report.lost, report.changed)
        shown.add_row(*map(str, (*cells, report.usual_lag_ms, report.longest_lag_ms)))
    Console(width=100).print(shown)
    print(json.dumps({"clients": [asdict(report) for report in reports]}))


if __name__ == "__main__":
    main()
