"""Measure how many real-time streams a daemon serves on this machine, by starting one and raising the load.

    python benchmarks/server_load.py --model en-small --audio speech.wav --streams 1 2 4 8

Prints a table with one row for each load, then one JSON line last.
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
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.table import Table

from streamasr.cli.bench import read_pcm
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


def main() -> None:
    """Run the measurements and print the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="en-small")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--audio", type=Path, required=True)
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--latency-ms", type=int, default=640)
    parser.add_argument("--duration", type=float, default=60.0, help="seconds of each stream")
    parser.add_argument("--threads", type=int, default=0)
    args = parser.parse_args()
    pcm = read_pcm(args.audio)
    reports = []
    with daemon(args.model, args.device, max(args.streams), args.threads) as url:
        for streams in args.streams:
            plan = LoadPlan(
                url=url, pcm=pcm, streams=streams, latency_ms=args.latency_ms, duration_s=args.duration
            )
            reports.append(asyncio.run(run_load(plan)))
    Console(width=100).print(table(reports))
    machine = {"cpus": os.cpu_count(), "machine": platform.machine(), "load_before": os.getloadavg()[2]}
    print(json.dumps({**machine, "reports": [dataclasses.asdict(report) for report in reports]}))


def table(reports: list[LoadReport]) -> Table:
    """Return a table with one row for each load."""
    columns = ("streams", "failed", "partial p50", "p95", "p99", "final p50", "p95", "first p50", "CPU s/s")
    shown = Table(*columns, title=f"lag in ms, chunks of {reports[0].latency_ms} ms")
    for report in reports:
        lags = [*report.partial_lag_ms.values(), report.final_lag_ms["p50"], report.final_lag_ms["p95"]]
        cells = [
            report.streams,
            report.failed,
            *lags,
            report.first_partial_ms["p50"],
            report.cpu_s_per_audio_s,
        ]
        shown.add_row(*("-" if cell is None else str(cell) for cell in cells))
    return shown


if __name__ == "__main__":
    main()
