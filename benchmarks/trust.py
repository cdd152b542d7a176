"""Disturb a daemon in every way for minutes or hours, and compare every stream with its undisturbed run.

    python benchmarks/trust.py --manifest dev/manifest.jsonl --minutes 60 --streams 16

Streams send recordings in real time, again and again. Meanwhile connections are reset at random bytes and resumed,
clients stall or read slowly, and the daemon suffers the faults of benchmarks/faulty_daemon.py, is stopped for a
moment (SIGSTOP), runs out of file descriptors, and meets clients that never read. `streamasr listen --save` writes
to a disk that is full. Reported are all differences; the exit status is 1 if there are any. Prints a table, then one
JSON line last.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import resource
import signal
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from faulty_daemon import ALLOCATIONS
from rich.console import Console
from rich.table import Table
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from streamasr.manifest import read_manifest
from streamasr.media.reader import read_audio

RATE = 16_000
BLOCK_SAMPLES = 1_600
START = {"type": "start", "latency_ms": 640}
FAULTS = ("step", "decode", *(f"memory {name}" for name in ALLOCATIONS), "clock 86400", "clock -90000")
EVENTS = (*FAULTS, "suspend", "no file descriptors", "never reads", "full disk")
SAMPLE_S = 2.0
"""Seconds between two samples of the daemon's memory."""
MEMORY_GROWTH = 1.05
"""The most that memory may grow from the second quarter of a run to the last."""
LOST = (WebSocketException, OSError, EOFError, TimeoutError)
"""What a client sees of a connection that broke."""

Message = dict[str, Any]


@dataclass(slots=True)
class Voice:
    """A recording and what the daemon makes of it."""

    pcm: bytes
    expected: list[Message] = field(default_factory=list)
    """Finals and ``done`` of the undisturbed run."""


@dataclass(slots=True)
class Report:
    """What happened."""

    counts: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    resident_mb: list[float] = field(default_factory=list)
    audio_s: float = 0.0

    def problem(self, text: str) -> None:
        self.problems.append(text)
        print(f"PROBLEM {text}", file=sys.stderr, flush=True)


class SessionFailedError(Exception):
    """The daemon ended the session with an error."""


def content(message: Message) -> Message:
    """A message without what differs from session to session."""
    return {key: value for key, value in message.items() if key not in ("session", "resume", "seq")}


def results(messages: Sequence[Message]) -> list[Message]:
    return [content(message) for message in messages if message["type"] in ("final", "done")]


class Client:
    """Streams a voice as one session, and resumes it whenever the connection breaks.

    Args:
        url: the daemon.
        voice: what to send.
        chance: decides on disturbances; without one, there are none.
        speed: times real time.
        report: counts what happens.
    """

    def __init__(
        self, url: str, voice: Voice, chance: random.Random | None, speed: float, report: Report
    ) -> None:
        self._url = url
        self._pcm = voice.pcm
        self._chance = chance
        self._speed = speed
        self._report = report
        self.messages: list[Message] = []

    async def run(self) -> list[Message]:
        """Return all messages of the session.

        Raises:
            SessionFailedError: the daemon ended it with an error, or does not have it any more.
        """
        while not self.messages or self.messages[-1]["type"] != "done":
            try:
                async with (
                    asyncio.timeout(120),
                    connect(self._url, proxy=None, compression=None) as connection,
                ):
                    await self._converse(connection)
            except LOST:
                self._report.counts["connections lost"] += 1
                await asyncio.sleep(0.05)
        return self.messages

    async def _converse(self, connection: ClientConnection) -> None:
        at = requests = 0
        if self.messages:
            resume = {"type": "resume", "token": self.messages[0]["resume"], "seq": len(self.messages)}
            await connection.send(json.dumps(resume))
            answer = json.loads(await connection.recv())
            if answer["type"] != "resumed":
                raise SessionFailedError(answer.get("code", answer["type"]))
            self._report.counts["sessions resumed"] += 1
            at, requests = answer["audio_samples"], answer["requests"]
        else:
            await connection.send(json.dumps(START))
        sending = asyncio.create_task(self._send(connection, at, requests))
        try:
            async for text in connection:
                message = json.loads(text)
                if message["type"] == "error":
                    raise SessionFailedError(message["code"])
                if message["seq"] != len(self.messages):
                    self._report.problem(f"message {len(self.messages)} has the number {message['seq']}")
                self.messages.append(message)
                if self._chance is not None and self._chance.random() < 0.01:
                    self._report.counts["slow reading"] += 1
                    connection.transport.pause_reading()
                    await asyncio.sleep(self._chance.uniform(0.2, 2.0) / self._speed)
                    connection.transport.resume_reading()
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    async def _send(self, connection: ClientConnection, at: int, requests: int) -> None:
        total = len(self._pcm) // 2
        began, first = time.monotonic(), at
        kill_at = total + 1
        if self._chance is not None and self._chance.random() < 0.6:
            kill_at = self._chance.randrange(at, total + total // 4 + 1)
        while at < total:
            size = BLOCK_SAMPLES if self._chance is None else self._chance.randint(1, 2 * BLOCK_SAMPLES)
            end = min(total, at + size)
            await connection.send(self._pcm[2 * at : 2 * end])
            at = end
            if at >= kill_at:
                self._report.counts["connections reset"] += 1
                connection.transport.abort()
                return
            if self._chance is not None and self._chance.random() < 0.004:
                self._report.counts["stalls"] += 1
                await asyncio.sleep(self._chance.uniform(0.5, 4.0) / self._speed)
            await asyncio.sleep(max(0.0, began + (at - first) / RATE / self._speed - time.monotonic()))
        if not requests:
            await connection.send('{"type":"stop"}')


class FaultyDaemon:
    """A running benchmarks/faulty_daemon.py."""

    def __init__(self, process: asyncio.subprocess.Process, url: str, log: Path) -> None:
        self.process = process
        self.url = url
        self.log = log

    @property
    def port(self) -> int:
        return int(self.url.split(":")[2].partition("/")[0])

    async def inject(self, fault: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(fault.encode() + b"\n")
        await self.process.stdin.drain()

    def resident_mb(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8")
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1]) / 1024

    def open_files(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    async def metric(self, name: str) -> float:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        text = (await reader.read()).decode()
        writer.close()
        return sum(float(value) for value in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE))


@asynccontextmanager
async def faulty_daemon(model: str, streams: int, folder: Path) -> AsyncIterator[FaultyDaemon]:
    """Run the daemon, with room for the sessions of clients that never return."""
    log = folder / "daemon.log"
    flags = ["--model", model, "--device", "cpu", "--port", "0", "--max-sessions", str(3 * streams + 8)]
    flags += ["--resume-for-ms", "10000", "--slow-reader-s", "5", "--start-timeout-s", "5"]
    with log.open("w") as stream:
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(Path(__file__).with_name("faulty_daemon.py")), *flags,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=stream,
        )  # fmt: skip
        try:
            assert process.stdout is not None
            line = (await process.stdout.readline()).decode()
            if not line.startswith("ready "):
                raise SystemExit(f"the daemon did not start:\n{log.read_text()}")
            yield FaultyDaemon(process, line.removeprefix("ready ").strip(), log)
        finally:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(process.wait(), 60)
            except TimeoutError:
                process.kill()


async def stream_forever(
    daemon: FaultyDaemon,
    voices: Sequence[Voice],
    chance: random.Random,
    *,
    speed: float,
    until: float,
    report: Report,
) -> None:
    """Stream one voice after the other, and compare each with its undisturbed run."""
    while time.monotonic() < until:
        voice = chance.choice(voices)
        client = Client(daemon.url, voice, chance, speed, report)
        try:
            found = results(await client.run())
        except SessionFailedError as failure:
            # The client has the finals that it was sent; it would stream the rest in a new session.
            report.counts[f"sessions ended: {failure}"] += 1
            acknowledged = results(client.messages)
            if acknowledged != voice.expected[: len(acknowledged)]:
                report.problem(f"a session that failed had other finals: {acknowledged}")
            continue
        report.counts["streams compared"] += 1
        report.audio_s += len(voice.pcm) / 2 / RATE
        if found != voice.expected:
            report.problem(f"other results: {found}, undisturbed {voice.expected}")


async def disturb(
    daemon: FaultyDaemon,
    chance: random.Random,
    *,
    interval_s: float,
    until: float,
    report: Report,
    folder: Path,
) -> None:
    """Let one event after the other happen, each as often."""
    waiting: list[str] = []
    while time.monotonic() < until:
        await asyncio.sleep(chance.uniform(0.5, 1.5) * interval_s)
        waiting = waiting or chance.sample(EVENTS, len(EVENTS))
        event = waiting.pop()
        report.counts[f"event: {event}"] += 1
        if event == "suspend":
            daemon.process.send_signal(signal.SIGSTOP)
            await asyncio.sleep(chance.uniform(0.2, 1.5))
            daemon.process.send_signal(signal.SIGCONT)
        elif event == "no file descriptors":
            await exhaust_descriptors(daemon)
        elif event == "never reads":
            await never_read(daemon)
        elif event == "full disk":
            await save_on_a_full_disk(daemon, folder, report)
        else:
            await daemon.inject(event)


async def exhaust_descriptors(daemon: FaultyDaemon) -> None:
    """Open connections until the daemon has no descriptor left, and keep them for two seconds."""
    sockets = []
    for _ in range(300):
        one = socket.socket()
        one.setblocking(False)
        with suppress(BlockingIOError):
            one.connect(("127.0.0.1", daemon.port))
        sockets.append(one)
    await asyncio.sleep(2)
    for one in sockets:
        one.close()


async def never_read(daemon: FaultyDaemon) -> None:
    """Send audio for some seconds and read nothing."""
    with suppress(*LOST):
        async with (
            asyncio.timeout(4),
            connect(daemon.url, proxy=None, max_queue=1, close_timeout=0.1) as client,
        ):
            await client.send(json.dumps({**START, "alternatives": 10}))
            client.transport.pause_reading()
            while True:
                await client.send(np.random.default_rng(0).bytes(32_000))
                await asyncio.sleep(0.05)


async def save_on_a_full_disk(daemon: FaultyDaemon, folder: Path, report: Report) -> None:
    """Run `streamasr listen --save` where the file cannot grow; the captions in the terminal must be complete."""
    code = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (16, 16))\n"
        "from streamasr.cli import main\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    words = ["listen", "--url", daemon.url, "--file", str(folder / "listen.wav")]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, *words, "--save", str(folder / "saved.srt"),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = (text.decode() for text in await process.communicate())
    if "Traceback" in err or process.returncode != 1 or "captions are no longer saved" not in err:
        report.problem(f"listen --save on a full disk: status {process.returncode}, {err}")
    report.counts["words shown on a full disk"] += len(out.split())


async def sample_memory(daemon: FaultyDaemon, until: float, report: Report) -> None:
    while time.monotonic() < until:
        report.resident_mb.append(daemon.resident_mb())
        await asyncio.sleep(SAMPLE_S)


def check_log(log: str, report: Report) -> None:
    """Count the tracebacks that are not of an injected fault."""
    for line in log.splitlines():
        if "traceback=" in line or "Traceback" in line:
            report.counts["injected tracebacks" if "injected" in line else "other tracebacks"] += 1
            if "injected" not in line:
                report.problem(line[:3_000])


def check_memory(report: Report) -> None:
    quarter = len(report.resident_mb) // 4
    if quarter < 3:
        return
    early, late = (float(np.median(report.resident_mb[k * quarter :][:quarter])) for k in (1, 3))
    if late > early * MEMORY_GROWTH:
        report.problem(f"memory grew from {early:.1f} MB to {late:.1f} MB")


async def run(
    model: str,
    voices: list[Voice],
    *,
    streams: int,
    minutes: float,
    speed: float,
    interval_s: float,
    seed: int,
) -> Report:
    """Run the whole test and return the report."""
    chance, report = random.Random(seed), Report()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        samples = np.frombuffer(min((voice.pcm for voice in voices), key=len), "<i2")
        soundfile.write(folder / "listen.wav", samples, RATE)
        async with faulty_daemon(model, streams, folder) as daemon:
            for voice in voices:
                voice.expected = results(await Client(daemon.url, voice, None, 100.0, Report()).run())
            files = daemon.open_files()
            until = time.monotonic() + 60 * minutes
            await asyncio.gather(
                *(
                    stream_forever(
                        daemon,
                        voices,
                        random.Random(chance.random()),
                        speed=speed,
                        until=until,
                        report=report,
                    )
                    for _ in range(streams)
                ),
                disturb(daemon, chance, interval_s=interval_s, until=until, report=report, folder=folder),
                sample_memory(daemon, until, report),
            )
            with suppress(TimeoutError):
                async with asyncio.timeout(60):
                    while (  # noqa: ASYNC110 - the daemon is another process
                        await daemon.metric("streamasr_sessions") or daemon.open_files() > files + 2
                    ):
                        await asyncio.sleep(0.5)
            if left := await daemon.metric("streamasr_sessions"):
                report.problem(f"{left:.0f} sessions are still open")
            if daemon.open_files() > files + 2:
                report.problem(f"{files} open files at first, {daemon.open_files()} in the end")
            for voice in voices:
                if results(await Client(daemon.url, voice, None, 100.0, Report()).run()) != voice.expected:
                    report.problem("a voice has other results after the run than before")
        if daemon.process.returncode != 0:
            report.problem(f"the daemon's exit status is {daemon.process.returncode}")
        check_log(daemon.log.read_text(encoding="utf-8"), report)
    check_memory(report)
    return report


def load_voices(manifest: Path, count: int) -> list[Voice]:
    """The longest recordings of a manifest."""
    utterances = sorted(read_manifest(manifest), key=lambda utterance: -utterance.duration_s)[:count]
    return [
        Voice((read_audio(utterance.audio, RATE) * 32_767).astype("<i2").tobytes())
        for utterance in utterances
    ]


def main() -> int:
    """Run the test and print the report; return 1 if there was a problem."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--manifest", type=Path, required=True, metavar="FILE", help="JSON lines")
    parser.add_argument("--model", default="en-small", metavar="NAME|DIR")
    parser.add_argument("--streams", type=int, default=16, metavar="N")
    parser.add_argument("--minutes", type=float, default=60.0, metavar="M")
    parser.add_argument("--voices", type=int, default=8, metavar="N", help="recordings, the longest ones")
    parser.add_argument("--speed", type=float, default=1.0, metavar="X", help="times real time")
    parser.add_argument("--interval", type=float, default=3.0, metavar="S", help="seconds between faults")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    report = asyncio.run(
        run(
            args.model,
            load_voices(args.manifest, args.voices),
            streams=args.streams,
            minutes=args.minutes,
            speed=args.speed,
            interval_s=args.interval,
            seed=args.seed,
        )
    )
    table = Table("", "", title=f"{args.streams} streams, {args.minutes:g} min, seed {args.seed}")
    for what, count in sorted(report.counts.items()):
        table.add_row(what, str(count))
    table.add_row("hours of audio compared", f"{report.audio_s / 3600:.2f}")
    table.add_row(
        "resident MB, least and most", f"{min(report.resident_mb):.0f} {max(report.resident_mb):.0f}"
    )
    table.add_row("problems", str(len(report.problems)))
    Console(width=100).print(table)
    for problem in report.problems[:20]:
        print(problem[:1_000])
    every = max(1, len(report.resident_mb) // 60)
    figures = {
        "counts": dict(sorted(report.counts.items())),
        "audio_s": round(report.audio_s),
        "resident_mb": [round(value, 1) for value in report.resident_mb[::every]],
    }
    print(json.dumps({"benchmark": "trust", "problems": len(report.problems), **figures}))
    return 1 if report.problems else 0


if __name__ == "__main__":
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    sys.exit(main())
