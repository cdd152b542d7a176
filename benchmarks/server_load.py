"""Measure how many real-time streams a daemon serves on this machine, by starting one and raising the load.

    python benchmarks/server_load.py --model en-small --audio speech.wav --streams 1 2 4 8
    python benchmarks/server_load.py --model fastconformer-large --audio speech.wav --streams 8 --latency-ms 1120
    python benchmarks/server_load.py --audio speech.wav --reference speech.txt --streams 24 --duration 600

The name of one of the sizes of ``encoder_cost.py`` measures a model of that size with random weights. Its lag is that
of the daemon's metric, as it recognises no words.

Prints a table with one row for each load; with loads of two minutes and more, lag and memory in each minute; then one
JSON line last.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from encoder_cost import SIZES
from random_model import write_random_model
from rich.console import Console
from rich.table import Table

from streamasr.cli.bench import read_pcm, read_reference
from streamasr.service.loadtest import LoadPlan, LoadReport, run_load


@contextmanager
def daemon(model: str, device: str, sessions: int, threads: int) -> Iterator[str]:
    """Run a daemon as a context manager that returns its URL."""
    flags = ["--port", "0", "--model", model, "--device", device, "--max-sessions", str(sessions)]
    command = [sys.executable, "-m", "streamasr.cli", "serve", *flags, "--threads", str(threads)]
    with subprocess.Popen([*command, "--log-level", "warning"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line.startswith("ready "):
            raise SystemExit("the daemon did not start")
        try:
            yield line.removeprefix("ready ").strip()
        finally:
            process.send_signal(signal.SIGTERM)


@contextmanager
def model_of(name: str) -> Iterator[str]:
    """Return a model's name as a context manager; for a size, a temporary model with random weights."""
    if name not in SIZES:
        yield name
        return
    with tempfile.TemporaryDirectory() as folder:
        write_random_model(name, Path(folder))
        yield folder


def main() -> None:
    """Run the measurements and print the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="en-small")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--audio", type=Path, required=True)
    parser.add_argument(
        "--reference", type=Path, metavar="FILE", help="text of the audio, for latencies of words"
    )
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--latency-ms", type=int, default=640)
    parser.add_argument("--duration", type=float, default=60.0, help="seconds of each stream")
    parser.add_argument("--threads", type=int, default=0)
    args = parser.parse_args()
    pcm = read_pcm(args.audio)
    reference = () if args.reference is None else read_reference(args.reference, args.audio, args.model)
    reports = []
    with model_of(args.model) as model, daemon(model, args.device, max(args.streams), args.threads) as url:
        for streams in args.streams:
            plan = LoadPlan(
                url=url,
                pcm=pcm,
                streams=streams,
                latency_ms=args.latency_ms,
                duration_s=args.duration,
                reference=reference,
            )
            reports.append(asyncio.run(run_load(plan)))
    console = Console(width=100)
    console.print(table(reports))
    console.print(details(reports))
    for report in reports:
        if len(report.minutes) > 1:
            console.print(by_minute(report))
    machine = {"cpus": os.cpu_count(), "machine": platform.machine(), "load_before": os.getloadavg()[2]}
    print(json.dumps({**machine, "reports": [dataclasses.asdict(report) for report in reports]}))


def table(reports: list[LoadReport]) -> Table:
    """Return a table with one row for each load."""
    columns = ("streams", "failed", "partial p50", "p95", "p99", "final p50", "p95", "first p50", "CPU s/s")
    shown = Table(*columns, title=f"lag in ms, chunks of {reports[0].latency_ms} ms")
    for report in reports:
        shown_lags = report.partial_lag_ms if report.partials else report.engine_lag_ms
        lags = [*shown_lags.values(), report.final_lag_ms["p50"], report.final_lag_ms["p95"]]
        cells = [
            report.streams,
            report.failed,
            *lags,
            report.first_partial_ms["p50"],
            report.cpu_s_per_audio_s,
        ]
        shown.add_row(*("-" if cell is None else str(cell) for cell in cells))
    return shown


def details(reports: list[LoadReport]) -> Table:
    """Return a table of latencies of words, changed words, batches and memory, with one row for each load."""
    columns = ("streams", "shown p50", "p95", "committed p50", "p95", "speech end p50", "p95")
    shown = Table(*columns, "changed", "batch", "MB", title="ms from the end of words; changed words in 100")
    for report in reports:
        spreads = (report.emission_shown_ms, report.emission_committed_ms, report.speech_end_ms)
        latencies = [spread[name] for spread in spreads for name in ("p50", "p95")]
        cells = [*latencies, report.changed_per_100_words, report.batch_chunks, report.resident_mb]
        shown.add_row(str(report.streams), *("-" if cell is None else f"{cell:g}" for cell in cells))
    return shown


def by_minute(report: LoadReport) -> Table:
    """Return a table of the lag and the memory in each minute of a load."""
    shown = Table("minute", "partial p50", "p95", "p99", "MB", title=f"{report.streams} streams by minute")
    for number, minute in enumerate(report.minutes, 1):
        cells = [*minute.partial_lag_ms.values(), minute.resident_mb]
        shown.add_row(str(number), *("-" if cell is None else f"{cell:g}" for cell in cells))
    return shown


if __name__ == "__main__":
    main()
