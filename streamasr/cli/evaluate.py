"""``streamasr evaluate``: error rates and speed of a model on a manifest."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from streamasr.engine import load_model
from streamasr.errors import ConfigError
from streamasr.evaluation.evaluate import EvaluationOptions, Recognised, Report, evaluate
from streamasr.manifest import Utterance, read_manifest

EXAMPLE = """\
streamasr evaluate --model en-small --manifest dev/manifest.jsonl --chunk-ms 640
streamasr evaluate --model models/en-small --manifest dev/manifest.jsonl --greedy --json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    defaults = EvaluationOptions()
    parser.add_argument("--model", required=True, metavar="DIR|NAME", help="model folder or packaged model")
    parser.add_argument(
        "--manifest",
        required=True,
        type=Path,
        metavar="FILE",
        help="JSON lines with audio_filepath, duration, text",
    )
    parser.add_argument(
        "--chunk-ms",
        type=int,
        default=defaults.chunk_ms,
        metavar="N",
        help="chunk size (default: %(default)s)",
    )
    parser.add_argument("--offline", action="store_true", help="let every frame see the whole utterance")
    parser.add_argument(
        "--greedy", action="store_true", help="best token of each frame: no beam, no language model"
    )
    parser.add_argument(
        "--no-lm", dest="lm", action="store_false", help="beam search without the language model"
    )
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N utterances")
    parser.add_argument(
        "--batch",
        type=int,
        default=defaults.batch,
        metavar="N",
        help="utterances at a time (default: %(default)s)",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: %(default)s)")
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object, with every utterance's text"
    )


def run(args: argparse.Namespace) -> int:
    """Measure and print."""
    options = EvaluationOptions(
        chunk_ms=args.chunk_ms, offline=args.offline, greedy=args.greedy, lm=args.lm, batch=args.batch
    )
    if args.limit is not None and args.limit <= 0:
        raise ConfigError(f"--limit must be positive, got {args.limit}")
    utterances = read_manifest(args.manifest)[: args.limit]
    model = load_model(args.model, args.device)
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    with progress:
        task = progress.add_task(model.config.name, total=len(utterances))
        report, answers = evaluate(model, utterances, options, lambda _: progress.advance(task))
    if args.json:
        print(json.dumps({**asdict(report), "texts": _texts(utterances, answers)}, ensure_ascii=False))
    else:
        _print(report)
    return 0


def _texts(utterances: list[Utterance], answers: list[Recognised]) -> list[dict[str, str]]:
    return [
        {
            "audio_filepath": str(utterances[answer.index].audio),
            "text": utterances[answer.index].text,
            "recognised": answer.text,
        }
        for answer in answers
    ]


def _print(report: Report) -> None:
    chunk = "whole utterances" if report.chunk_ms is None else f"{report.chunk_ms} ms chunks"
    table = Table()
    table.add_column("")
    table.add_column("value", justify="right")
    table.add_column("95 % interval", justify="right")
    for name, rate in (("WER", report.wer), ("CER", report.cer)):
        table.add_row(name, f"{rate.value:.2%}", f"{rate.low:.2%} – {rate.high:.2%}")
    rtf = report.rtf
    table.add_row("RTF", f"{rtf.value:.4f}", f"{rtf.low:.4f} – {rtf.high:.4f}")
    print(f"{report.model}: {report.mode}, {chunk}")
    print(f"{report.utterances} utterances, {report.audio_s / 60:.1f} min of audio")
    Console().print(table)
