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
from streamasr.errors import ConfigError, DataError
from streamasr.media.reader import read_audio
from streamasr.protocol.messages import Start
from streamasr.service.config import ServerConfig
from streamasr.service.emission import ReferenceWord
from streamasr.service.loadtest import SAMPLE_RATE, TCP_PORT, LoadPlan, LoadReport, find_limit, run_load
from streamasr.textfile import read_text

EXAMPLE = """streamasr bench server --streams 8 --audio speech.wav
streamasr bench server --url ws://127.0.0.1:9000/v1/stream --streams 32 --audio speech.wav --latency-ms 320
streamasr bench server --streams 8 --audio speech.wav --dialect deepgram
streamasr bench server --streams 8 --audio speech.wav --reference speech.txt
streamasr bench server --find-limit --max-lag-ms 500 --audio speech.wav"""

_INT16_MAX = 32_767
_DEFAULT_STREAMS = 8
_TRIAL_S = 20.0
"""Seconds of each stream while the limit is searched for."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    default = ServerConfig()
    url = f"ws://{default.host}:{default.port}{STREAM_PATH}"
    parser.add_argument("what", choices=["server"], help="what to measure")
    parser.add_argument("--url", default=url, help="the daemon's stream address (default %(default)s)")
    parser.add_argument(
        "--streams",
        type=int,
        default=_DEFAULT_STREAMS,
        metavar="N",
        help="number of concurrent streams; with --find-limit the first one tried (default %(default)s)",
    )
    parser.add_argument(
        "--find-limit",
        action="store_true",
        help="find how many streams the daemon serves with a 95th percentile of the lag of --max-lag-ms",
    )
    parser.add_argument(
        "--max-lag-ms",
        type=float,
        default=ServerConfig().engine.max_lag_ms,
        metavar="N",
        help="acceptable lag of partials beyond their chunk, for --find-limit (default %(default)s)",
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
        help="length of each stream; the file is repeated as needed "
        f"(default: the file's length; with --find-limit {_TRIAL_S:g})",
    )
    parser.add_argument(
        "--dialect",
        choices=sorted(CLIENTS),
        default="native",
        help="the protocol that the streams speak (default %(default)s)",
    )
    parser.add_argument(
        "--tcp-port",
        type=int,
        default=TCP_PORT,
        metavar="PORT",
        help="the daemon's wyoming_port, for --dialect wyoming (default %(default)s)",
    )
    parser.add_argument(
        "--reference",
        type=Path,
        metavar="FILE",
        help="text that is said in the file; its words are aligned to the audio, and their latency is measured",
    )
    parser.add_argument(
        "--model",
        default=default.model,
        metavar="DIR|NAME",
        help="model that aligns the reference (default %(default)s)",
    )
    parser.add_argument("--token", metavar="TOKEN", help="the daemon's token, if it requires one")


def run(args: argparse.Namespace) -> int:
    """Run the load test, print a table and one JSON line; return 1 if a stream failed, or not even one fits."""
    pcm = read_pcm(args.audio)
    length_s = len(pcm) / (2 * SAMPLE_RATE)
    plan = LoadPlan(
        url=args.url,
        pcm=pcm,
        streams=args.streams,
        latency_ms=args.latency_ms,
        duration_s=args.duration or (_TRIAL_S if args.find_limit else length_s),
        token=args.token,
        dialect=args.dialect,
        tcp_port=args.tcp_port,
        reference=() if args.reference is None else read_reference(args.reference, args.audio, args.model),
    )
    if args.find_limit:
        limit = asyncio.run(find_limit(plan, args.max_lag_ms, _print_trial))
        lag = f"a lag of at most {limit.max_lag_ms:g} ms in 95 % of the partials"
        print(f"{limit.streams} streams in real time, with {lag}")
        print(json.dumps(dataclasses.asdict(limit)))
        return 0 if limit.streams else 1
    report = asyncio.run(run_load(plan))
    print_report(report)
    return 1 if report.failed else 0


def _print_trial(report: LoadReport) -> None:
    lag_ms = report.partial_lag_ms["p95"] or report.engine_lag_ms["p95"]
    lag = "no partials" if lag_ms is None else f"lag p95 {lag_ms:.0f} ms"
    print(f"{report.streams} streams: {report.failed} failed, {lag}", flush=True)
    for error in report.errors:
        print(f"failed: {error}", flush=True)


def read_reference(path: Path, audio: Path, model_name: str) -> tuple[ReferenceWord, ...]:
    """Read the text that is said in an audio file, and align it to the audio with a model.

    Raises:
        DataError: the text cannot be read, has no words, or does not fit the audio.
        ModelError: the model cannot be loaded.
    """
    # Imported here, because they load torch.
    from streamasr.recognition.model import load_model
    from streamasr.recognition.word_alignment import align_words

    try:
        text = read_text(path)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: {error}") from None
    model = load_model(model_name, "cpu")
    try:
        words = align_words(model, read_audio(audio, model.sample_rate), text)
    except (ConfigError, DataError) as error:
        raise DataError(f"{path}: {error.message}") from None
    return tuple(ReferenceWord(word.text, word.end_ms) for word in words)


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
    console = Console(emoji=False)
    table = Table("ms", "p50", "p95", "p99")
    for name, values in (
        (f"partial lag, without the chunk of {report.latency_ms}", report.partial_lag_ms),
        ("the same by the daemon's metric, for all chunks", report.engine_lag_ms),
        ("final lag, from the end of the last word", report.final_lag_ms),
        ("end of a word to its being shown", report.emission_shown_ms),
        ("end of a word to its being committed", report.emission_committed_ms),
        ("end of speech to the final", report.speech_end_ms),
        ("first partial, from the start of audio", report.first_partial_ms),
        ("stop to done", report.flush_ms),
    ):
        if name.startswith("end of") and not report.reference_words:
            continue
        table.add_row(name, *("-" if value is None else f"{value:.0f}" for value in values.values()))
    console.print(table)
    console.print(f"{report.streams} streams, {report.failed} failed, {report.audio_s:g} s of audio")
    if report.reference_words:
        console.print(
            f"words of the reference found: {report.reference_words_found} of {report.reference_words}"
        )
    for name, value in (
        ("shown words that change, for 100 words", report.changed_per_100_words),
        ("CPU seconds per second of audio", report.cpu_s_per_audio_s),
        ("chunks per step", report.batch_chunks),
        ("memory of the daemon in MB", report.resident_mb),
    ):
        console.print(f"{name}: {'unknown' if value is None else format(value, 'g')}")
    for error in report.errors:
        console.print(f"failed: {error}", markup=False)
    print(json.dumps(dataclasses.asdict(report)))
