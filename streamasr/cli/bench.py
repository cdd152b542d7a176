"""Implement ``streamasr bench server``: load-test a running daemon."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from streamasr.dialects.clients import CLIENTS
from streamasr.dialects.native import PATH as STREAM_PATH
from streamasr.errors import DataError
from streamasr.media.reader import read_audio
from streamasr.protocol.messages import Start
from streamasr.service.config import ServerConfig
from streamasr.service.loadtest import SAMPLE_RATE, LoadPlan, LoadReport, run_load

EXAMPLE = """streamasr bench server --streams 8 --audio speech.wav
streamasr bench server --url ws://127.0.0.1:9000/v1/stream --streams 32 --audio speech.wav --latency-ms 320
streamasr bench server --streams 8 --audio speech.wav --dialect deepgram"""

_INT16_MAX = 32_767


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    default = ServerConfig()
    url = f"ws://{default.host}:{default.port}{STREAM_PATH}"
    parser.add_argument("what", choices=["server"], help="what to measure")
    parser.add_argument("--url", default=url, help="the daemon's stream address (default %(default)s)")
    parser.add_argument(
        "--streams", type=int, required=True, metavar="N", help="number of concurrent streams"
    )
    parser.add_argument(
        "--audio", type=Path, required=True, metavar="FILE", help="audio file that each stream plays"
    )
    parser.add_argument(
        "--latency-ms",
        type=int,
        default=Start().latency_ms,
        metavar="N",
        help="latency of the sessions (default %(default)s)",
    )
    parser.add_argument(
        "--duration",
        type=float,
        metavar="SECONDS",
        help="length of each stream; the file is repeated as needed (default: the file's length)",
    )
    parser.add_argument(
        "--dialect",
        choices=sorted(CLIENTS),
        default="native",
        help="the protocol that the streams speak (default %(default)s)",
    )
    parser.add_argument("--token", metavar="TOKEN", help="the daemon's token, if it requires one")


def run(args: argparse.Namespace) -> int:
    """Run the load test, print a table and one JSON line; return 1 if a stream failed."""
    pcm = read_pcm(args.audio)
    plan = LoadPlan(
        url=args.url,
        pcm=pcm,
        streams=args.streams,
        latency_ms=args.latency_ms,
        duration_s=args.duration or len(pcm) / (2 * SAMPLE_RATE),
        token=args.token,
        dialect=args.dialect,
    )
    report = asyncio.run(run_load(plan))
    print_report(report)
    return 1 if report.failed else 0


def read_pcm(path: Path) -> bytes:
    """Read a file's audio in the format that the load test sends.

    Raises:
        DataError: no such file, not audio, or empty.
    """
    samples_S = read_audio(path, SAMPLE_RATE)
    if not len(samples_S):
        raise DataError(f"{path}: contains no audio")
    return bytes(np.round(np.clip(samples_S, -1, 1) * _INT16_MAX).astype("<i2").tobytes())


def print_report(report: LoadReport) -> None:
    """Print a table, the errors, and one JSON line."""
    console = Console()
    table = Table("ms", "p50", "p95", "p99")
    for name, values in (
        (f"partial lag, without the chunk of {report.latency_ms}", report.partial_lag_ms),
        ("final lag, from the end of the last word", report.final_lag_ms),
        ("first partial, from the start of audio", report.first_partial_ms),
        ("stop to done", report.flush_ms),
    ):
        table.add_row(name, *("-" if value is None else f"{value:.0f}" for value in values.values()))
    console.print(table)
    cpu = "unknown" if report.cpu_s_per_audio_s is None else f"{report.cpu_s_per_audio_s:.3f}"
    console.print(f"{report.streams} streams, {report.failed} failed, {report.audio_s:g} s of audio")
    console.print(f"CPU seconds per second of audio: {cpu}")
    for error in report.errors:
        console.print(f"failed: {error}", markup=False)
    print(json.dumps(dataclasses.asdict(report)))
