"""Measure whether an uploaded recording of an hour delays live streams of the same daemon.

    python benchmarks/upload_fairness.py --audio speech.wav --streams 8 --duration 40

Prints a table of the live streams' lags, first without and then beside the upload, and how much of the recording was
recognised meanwhile; then one JSON line.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import io
import json
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np
import soundfile
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from server_load import daemon, table

from streamasr.cli.bench import read_pcm
from streamasr.service.loadtest import SAMPLE_RATE, LoadPlan, LoadReport, run_load

HOUR_S = 3_600
START_S = 3.0
"""Time for the upload to be received and to begin."""


def recording(pcm: bytes) -> bytes:
    """An hour of the audio, as a FLAC file."""
    samples = np.frombuffer(pcm, dtype="<i2")
    file = io.BytesIO()
    soundfile.write(file, np.resize(samples, HOUR_S * SAMPLE_RATE), SAMPLE_RATE, format="FLAC")
    return file.getvalue()


def recognised_s(address: str) -> float:
    """Seconds of audio that the daemon has recognised in all sessions."""
    with urllib.request.urlopen(f"{address}/metrics", timeout=60) as response:
        families = list(text_string_to_metric_families(response.read().decode()))
    (total,) = (
        s.value for family in families for s in family.samples if s.name == "streamasr_audio_seconds_total"
    )
    return total


async def measure(plan: LoadPlan, content: bytes) -> tuple[LoadReport, LoadReport, float]:
    """Return the load test without and beside the upload, and how many seconds of it were recognised."""
    parts = urlsplit(plan.url)
    address = f"http://{parts.netloc}"
    alone = await run_load(plan)
    async with httpx.AsyncClient(timeout=None, trust_env=False) as http:
        uploading = asyncio.create_task(http.post(f"{address}/v1/listen", content=content))
        await asyncio.sleep(START_S)
        before_s = await asyncio.to_thread(recognised_s, address)
        beside = await run_load(plan)
        after_s = await asyncio.to_thread(recognised_s, address)
        if uploading.done():
            raise SystemExit(f"the upload ended before the streams: {uploading.result().text[:200]}")
        uploading.cancel()
    return alone, beside, after_s - before_s - beside.audio_s


def main() -> None:
    """Run the measurement and print the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="en-small")
    parser.add_argument("--audio", type=Path, required=True)
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--latency-ms", type=int, default=640)
    parser.add_argument("--duration", type=float, default=40.0, help="seconds of each stream")
    args = parser.parse_args()
    pcm = read_pcm(args.audio)
    with daemon(args.model, "cpu", args.streams + 1, 0) as url:
        plan = LoadPlan(
            url=url, pcm=pcm, streams=args.streams, latency_ms=args.latency_ms, duration_s=args.duration
        )
        alone, beside, uploaded_s = asyncio.run(measure(plan, recording(pcm)))
    Console(width=100, emoji=False).print(table([alone, beside]))
    print(f"first row: live streams alone; second row: beside the upload, of which {uploaded_s:.0f} s were")
    print(f"recognised in {args.duration:.0f} s")
    reports = [dataclasses.asdict(report) for report in (alone, beside)]
    print(json.dumps({"uploaded_s": round(uploaded_s, 1), "reports": reports}))


if __name__ == "__main__":
    main()
