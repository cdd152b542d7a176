"""Measure memory and time per chunk of one long session with a real model, minute by minute.

    python benchmarks/long_session.py --manifest dev/manifest.jsonl --minutes 60

The manifest's utterances are fed to one session in this process, one after another and repeatedly, as fast as it
processes them. Prints a table of every fifth minute, then one JSON line last.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from streamasr.errors import StreamasrError
from streamasr.frontend.pcm import Samples
from streamasr.manifest import read_manifest
from streamasr.media.reader import read_audio
from streamasr.protocol.messages import Start
from streamasr.recognition.local import LocalSession
from streamasr.recognition.model import load_model

SECONDS_PER_MINUTE = 60
FIRST_MINUTES = 5
"""The last minutes are compared with these first ones; the very first is a warm-up and does not count."""


def chunks(manifest: Path, sample_rate: int, chunk_samples: int) -> Iterator[Samples]:
    """Yield endless speech in pieces of one chunk."""
    rest = np.zeros(0, dtype=np.float32)
    for utterance in itertools.cycle(read_manifest(manifest)):
        rest = np.concatenate((rest, read_audio(utterance.audio, sample_rate)))
        while len(rest) >= chunk_samples:
            yield rest[:chunk_samples]
            rest = rest[chunk_samples:]


def main() -> int:
    """Run the measurement and print the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--manifest", type=Path, required=True, metavar="FILE", help="JSON lines")
    parser.add_argument("--model", default="en-small", help="folder or name (%(default)s)")
    parser.add_argument("--minutes", type=int, default=60, help="of audio (%(default)s)")
    parser.add_argument("--latency-ms", type=int, default=640, help="chunk (%(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="of torch (%(default)s)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    process = psutil.Process()
    minutes: list[tuple[float, float]] = []
    try:
        model = load_model(args.model, "cpu")
        session = LocalSession(model, Start(latency_ms=args.latency_ms))
        size = model.chunk_frames_for(args.latency_ms) * model.frame_samples
        speech = chunks(args.manifest, model.sample_rate, size)
        per_minute = SECONDS_PER_MINUTE * model.sample_rate // size
        for _ in track(range(args.minutes), "minutes", console=Console(stderr=True), transient=True):
            spent = []
            for chunk_S in itertools.islice(speech, per_minute):
                began = time.process_time()
                session.feed(chunk_S)
                spent.append(time.process_time() - began)
            gc.collect()
            minutes.append((statistics.median(spent) * 1000, process.memory_info().rss / 2**20))
    except StreamasrError as error:
        print(f"long_session: {error.message}", file=sys.stderr)
        return 1
    table = Table("minute", "CPU ms a chunk, median", "resident MiB", title=f"{args.latency_ms} ms chunks")
    for number, (chunk_ms, rss_mib) in enumerate(minutes, 1):
        if number == 1 or number % 5 == 0:
            table.add_row(str(number), f"{chunk_ms:.1f}", f"{rss_mib:.0f}")
    Console().print(table)
    first, last = minutes[1:FIRST_MINUTES], minutes[-FIRST_MINUTES:]
    growth = {
        name: statistics.mean(x[i] for x in last) / statistics.mean(x[i] for x in first) - 1
        for i, name in enumerate(("time", "memory"))
    }
    print(json.dumps({"benchmark": "long_session", "minutes": args.minutes, "growth": growth}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
