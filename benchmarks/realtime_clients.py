"""Stream a manifest to a running daemon by websocket clients in real time, and measure error rates and lag.

    streamasr serve --model en-small &
    python benchmarks/realtime_clients.py --manifest dev/manifest.jsonl --streams 4

Every utterance has its own session. Prints a table, then one JSON line last.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from streamasr.errors import StreamasrError
from streamasr.manifest import Utterance, read_manifest
from streamasr.protocol.messages import Final, Start
from streamasr.scoring import Interval, bootstrap_ratio, character_edits, word_edits
from streamasr.text import normalise_english
from streamasr_client.audio import SoundFile
from streamasr_client.connection import open_session

MESSAGE_MS = 40
"""Audio of one message, as clients of a microphone send it."""


async def stream_utterance(url: str, latency_ms: int, utterance: Utterance) -> tuple[str, float]:
    """Stream an utterance; return the text of its finals, and the seconds from ``stop`` to ``done``."""
    sound = SoundFile(utterance.audio)
    start = Start(
        sample_rate=sound.format.sample_rate,
        encoding=sound.format.encoding,
        channels=sound.format.channels,
        latency_ms=latency_ms,
        partials=False,
    )
    texts: list[str] = []
    async with open_session(url, start) as session:
        began = time.monotonic()
        for number, block in enumerate(sound.blocks(MESSAGE_MS), 1):
            await session.send_audio(block)
            await asyncio.sleep(max(0.0, began + number * MESSAGE_MS / 1000 - time.monotonic()))
        await session.stop()
        stopped = time.monotonic()
        async for message in session.messages():
            if isinstance(message, Final):
                texts.append(message.text)
        return " ".join(texts), time.monotonic() - stopped


async def stream_all(args: argparse.Namespace, utterances: list[Utterance]) -> list[tuple[str, float]]:
    """Stream all utterances, ``--streams`` at a time; return the results in the manifest's order."""
    semaphore = asyncio.Semaphore(args.streams)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("streaming", total=len(utterances))

        async def one(utterance: Utterance) -> tuple[str, float]:
            async with semaphore:
                answer = await stream_utterance(args.url, args.latency_ms, utterance)
            progress.advance(task)
            return answer

        return await asyncio.gather(*map(one, utterances))


def measure(utterances: list[Utterance], answers: list[tuple[str, float]]) -> dict[str, Interval]:
    """Return WER and CER with 95 % bootstrap intervals over utterances."""
    pairs = [
        (normalise_english(utterance.text), normalise_english(text))
        for utterance, (text, _) in zip(utterances, answers, strict=True)
    ]
    measured = {}
    for name, count in (("wer", word_edits), ("cer", character_edits)):
        edits = [count(*pair) for pair in pairs]
        measured[name] = bootstrap_ratio([e.errors for e in edits], [e.length for e in edits])
    return measured


def main() -> int:
    """Run the measurement and print the results; return 1 if the daemon, the manifest or its audio cannot be used."""
    parser = argparse.ArgumentParser(description="Error rates of real websocket clients at real time.")
    parser.add_argument("--manifest", type=Path, required=True, metavar="FILE", help="JSON lines")
    parser.add_argument("--url", default="ws://127.0.0.1:8765/v1/stream", help="the daemon (%(default)s)")
    parser.add_argument("--streams", type=int, default=4, metavar="N", help="at a time (default %(default)s)")
    parser.add_argument(
        "--latency-ms", type=int, default=640, metavar="N", help="chunk (default %(default)s)"
    )
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N utterances")
    args = parser.parse_args()
    try:
        utterances = read_manifest(args.manifest)[: args.limit]
        answers = asyncio.run(stream_all(args, utterances))
    except StreamasrError as error:
        print(f"realtime_clients: {error.message}", file=sys.stderr)
        return 1
    measured = measure(utterances, answers)
    title = f"{len(utterances)} utterances, {args.streams} streams at a time, {args.latency_ms} ms chunks"
    table = Table("", "value", "95 % interval", title=title)
    for name, interval in measured.items():
        low, value, high = (f"{100 * x:.2f} %" for x in (interval.low, interval.value, interval.high))
        table.add_row(name.upper(), value, f"{low} – {high}")
    lag_ms = 1000 * statistics.median(lag for _, lag in answers)
    table.add_row("stop to done, median", f"{lag_ms:.0f} ms", "")
    Console().print(table)
    figures = {name: asdict(interval) for name, interval in measured.items()}
    print(
        json.dumps(
            {"benchmark": "realtime_clients", "utterances": len(utterances), "done_ms": lag_ms, **figures}
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
