"""Send made-up messages of the native protocol, in every state of a session, to a daemon, and check its answers.

    python benchmarks/trust_fuzz.py --messages 100000

Hypothesis makes the messages: valid ones, nearly valid ones and noise. Each is judged by the protocol code in its
state, and sessions of ten are sent over sockets. The daemon must answer each session with
messages of the protocol, end it with a documented error or close code if at all, log no traceback, and give another
client the same text before and afterwards. The exit status is 1 if not. Prints a table, then one JSON line last.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import random
import re
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from rich.console import Console
from rich.table import Table
from trust import Client, Report, Voice, check_log, faulty_daemon, results
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from streamasr.dialects.conversation import Conversation
from streamasr.dialects.native import NativeTranslation
from streamasr.errors import StreamasrError
from streamasr.protocol.codes import ERROR_CODES
from streamasr.protocol.limits import DEFAULT_LIMITS
from streamasr.protocol.messages import Error, Resume, Start
from streamasr.protocol.serialisation import BAD_HOTWORDS, encode, parse_server_message
from streamasr.protocol.states import State

FRAMES = 10
"""Made-up messages of one session."""
CLOSE_CODES = {code.close for code in ERROR_CODES.values()} | {1000, 1001, 1002, 1007, 1009}
REFUSALS = {*ERROR_CODES, BAD_HOTWORDS}
START = encode(Start(latency_ms=160))
SILENCE = bytes(6_400)
STATES = ("awaiting_start", "streaming", "stopping", "resumed", "taken over", "draining")
"""``resumed``: on a new connection after a break. ``taken over``: the session is resumed elsewhere meanwhile."""

KEYS = (
    "type", "sample_rate", "encoding", "channels", "latency_ms", "partials", "words", "alternatives", "hotwords",
    "endpointing", "stability", "format", "token", "id", "seq", "text", "boost", "silence_ms", "start_silence_ms",
    "max_utterance_ms", "commit_margin", "hold_words",
)  # fmt: skip
TYPES = ("start", "finalize", "configure", "keepalive", "stop", "resume", "ready", "final", "error", "")

keys = st.sampled_from(KEYS) | st.text(max_size=8)
numbers = st.integers() | st.floats() | st.sampled_from([0, -1, 8_000, 16_000, 640, 1e308, 2**63, 10**400])
values = st.recursive(
    st.none()
    | st.booleans()
    | numbers
    | st.text(max_size=20)
    | st.sampled_from(["\ud800", "pcm_s16le", "written"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=5,
)
valid = st.one_of(
    st.binary(max_size=2_000).map(lambda data: data[: len(data) // 2 * 2]),
    st.text(max_size=128).map(lambda text: json.dumps({"type": "finalize", "id": text})),
    st.just('{"type": "keepalive"}'),
    st.lists(st.text("abcdef '", min_size=1, max_size=8), max_size=4).map(
        lambda words: json.dumps({"type": "configure", "hotwords": [{"text": word} for word in words]})
    ),
)
nearly_valid = st.builds(
    lambda kind, fields: json.dumps({**fields, "type": kind}),
    st.sampled_from(TYPES),
    st.dictionaries(keys, values, max_size=4),
)
noise = st.one_of(
    st.binary(max_size=300),
    st.text(max_size=60),
    values.map(json.dumps),
    st.sampled_from(["[" * 5_000, "{" * 5_000, '{"type":"start",' * 50, "1e999", "NaN", "\x00", "9" * 5_000]),
)
frames = st.one_of(valid, valid, valid, nearly_valid, noise)
sessions = st.lists(frames, min_size=FRAMES, max_size=FRAMES)

Frame = str | bytes
Session = tuple[str, list[Frame]]
"""The state in which the messages are sent, and the messages."""


def sendable(frame: Frame) -> Frame:
    """A websocket cannot carry lone surrogates; JSON can, escaped."""
    return frame if isinstance(frame, bytes) else frame.encode("utf-8", "replace").decode()


class Fuzzer:
    """Sends sessions to a daemon and counts what comes back."""

    def __init__(self, url: str, report: Report) -> None:
        self._url = url
        self._report = report
        self.counts: dict[str, Counter[str]] = {state: Counter() for state in STATES}

    async def run(self, session: Session) -> None:
        """Play one session."""
        state, made_up = session
        counts = self.counts[state]
        counts["sessions"] += 1
        counts["messages"] += len(made_up)
        self._judge(state, made_up, counts)
        if state == "draining":
            return
        try:
            async with asyncio.timeout(60), connect(self._url, proxy=None, compression=None) as first:
                if state in ("resumed", "taken over"):
                    await first.send(START)
                    ready = json.loads(await first.recv())
                    if state == "resumed":
                        first.transport.abort()
                    async with connect(self._url, proxy=None, compression=None) as second:
                        await second.send(encode(Resume(token=ready["resume"], seq=0)))
                        await self._play(second, made_up, counts)
                else:
                    if state != "awaiting_start":
                        await first.send(START)
                    if state == "stopping":
                        await first.send(SILENCE)
                        await first.send('{"type":"stop"}')
                    await self._play(first, made_up, counts)
        except TimeoutError:
            self._report.problem(f"no end of {session}")

    async def _play(self, connection: ClientConnection, made_up: list[Frame], counts: Counter[str]) -> None:
        reading = asyncio.create_task(self._read(connection, counts))
        with suppress(ConnectionClosed):
            for frame in made_up:
                await connection.send(sendable(frame))
            await connection.send('{"type":"stop"}')
        await reading

    async def _read(self, connection: ClientConnection, counts: Counter[str]) -> None:
        with suppress(ConnectionClosed):
            while True:
                text = await connection.recv()
                message = parse_server_message(str(text))
                counts["answers"] += 1
                if isinstance(message, Error):
                    counts["errors"] += 1
                    if message.code not in ERROR_CODES or message.code in ("internal", "engine_failed"):
                        self._report.problem(f"error {message}")
        if connection.close_code not in CLOSE_CODES:
            self._report.problem(f"close code {connection.close_code}")

    def _judge(self, state: str, made_up: list[Frame], counts: Counter[str]) -> None:
        """Give each message to the daemon's conversation in the state, without sockets.

        A session ends with its first refused message: over a socket, those after it are only discarded.
        """
        conversation = _conversation(state)
        for frame in made_up:
            try:
                for _ in conversation.receive(sendable(frame)):
                    counts["accepted"] += 1
            except StreamasrError as error:
                counts["refused"] += 1
                if error.fault != "client" or not error.message or error.code not in REFUSALS:
                    self._report.problem(f"refused as {error!r}")
                conversation = _conversation(state)
            if state == "draining" and conversation.state is not State.DRAINING:
                self._report.problem(f"{conversation.state} while draining")


def _conversation(state: str) -> Conversation:
    """Return a conversation in the state."""
    conversation = Conversation(NativeTranslation(DEFAULT_LIMITS))
    if state != "awaiting_start":
        list(conversation.receive(START))
    if state == "stopping":
        list(conversation.receive('{"type":"stop"}'))
    if state == "draining":
        conversation.drain()
    return conversation


def fuzz(
    messages: int, number: int, play: Callable[[Session], Awaitable[None]], loop: asyncio.AbstractEventLoop
) -> None:
    """Make sessions with ``messages`` messages, and play them one after the other."""

    states = itertools.cycle(STATES)

    @seed(number)
    @settings(
        max_examples=-(-messages // FRAMES),
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(made_up=sessions)
    def one(made_up: Any) -> None:
        loop.run_until_complete(play((next(states), made_up)))

    one()


async def _control(url: str, voice: Voice) -> list[dict[str, Any]]:
    return results(await Client(url, voice, None, 50.0, Report()).run())


def run(model: str, messages: int, number: int) -> tuple[Report, dict[str, Counter[str]]]:
    """Run the whole test."""
    report = Report()
    voice = Voice((np.random.default_rng(1).standard_normal(96_000) * 3_000).astype("<i2").tobytes())
    with asyncio.Runner() as runner, TemporaryDirectory() as folder:
        loop = runner.get_loop()
        manager = faulty_daemon(model, 16, Path(folder))
        daemon = runner.run(manager.__aenter__())
        try:
            fuzzer = Fuzzer(daemon.url, report)
            before = runner.run(_control(daemon.url, voice))
            fuzz(messages, number, fuzzer.run, loop)
            if runner.run(_control(daemon.url, voice)) != before:
                report.problem("another client's results have changed")
        finally:
            runner.run(manager.__aexit__(None, None, None))
        log = daemon.log.read_text(encoding="utf-8")
        check_log(log, report)
        if re.search(r" (?:error|critical) ", log):
            report.problem("the log has errors")
        if daemon.process.returncode != 0:
            report.problem(f"the daemon's exit status is {daemon.process.returncode}")
    return report, fuzzer.counts


def main() -> int:
    """Run the test and print the report; return 1 if there was a problem."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="en-small", metavar="NAME|DIR")
    parser.add_argument("--messages", type=int, default=100_000, metavar="N")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    args = parser.parse_args()
    report, counts = run(args.model, args.messages, args.seed)
    columns = ("sessions", "messages", "accepted", "refused", "answers", "errors")
    table = Table("state", *columns, title=f"seed {args.seed}, {len(report.problems)} problems")
    for state, found in counts.items():
        table.add_row(state, *(f"{found[column]:,}" for column in columns))
    Console(width=100).print(table)
    for problem in report.problems[:20]:
        print(problem[:1_000])
    print(json.dumps({"benchmark": "trust_fuzz", "problems": len(report.problems), "counts": counts}))
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
