"""Implement ``streamasr evaluate``: measure a model's error rates and cost on manifests."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Table

from streamasr.config import BACKENDS, PRECISIONS
from streamasr.errors import ConfigError
from streamasr.evaluation.decoding_pass import Mode
from streamasr.evaluation.evaluate import (
    DEFAULT_CHUNK_MS,
    EvaluationOptions,
    Progress,
    evaluate,
    passes,
    read_manifests,
)
from streamasr.manifest import Utterance
from streamasr.recognition import load_model
from streamasr.report.evaluation_page import chunk_name, evaluation_page
from streamasr.report.results import Evaluation
from streamasr.scoring import Interval

EXAMPLE = """\
streamasr evaluate --model en-small --manifest dev/manifest.jsonl --chunk-ms 640
streamasr evaluate --model models/mine --manifest books.jsonl phone.jsonl --chunk-ms all --offline \\
  --decode greedy,beam,beam+lm --json --html errors.html > evaluation.json"""

_FILE_WIDTH = 130
"""Width of the table if standard output is no terminal."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    defaults = EvaluationOptions()
    parser.add_argument("--model", required=True, metavar="DIR|NAME", help="model folder or packaged model")
    parser.add_argument(
        "--manifest",
        required=True,
        type=Path,
        nargs="+",
        action="extend",
        metavar="FILE",
        help="manifest with audio_filepath, duration and text; several are measured one by one",
    )
    parser.add_argument(
        "--chunk-ms",
        type=_chunk_ms,
        action="append",
        metavar="N|all",
        help="stream in chunks of N ms; may be repeated; all: every chunk size of the model"
        f" (default: {DEFAULT_CHUNK_MS}, or none with --offline)",
    )
    parser.add_argument(
        "--offline",
        action="store_true",
        help="also measure with full context: every frame sees the whole utterance",
    )
    decoding = parser.add_mutually_exclusive_group()
    decoding.add_argument(
        "--decode",
        type=_modes,
        metavar="MODES",
        help="greedy, beam, beam+lm, pyctcdecode, or several, joined by commas (default: the daemon's mode)",
    )
    decoding.add_argument(
        "--greedy", dest="decode", action="store_const", const=(Mode.GREEDY,), help="same as --decode greedy"
    )
    decoding.add_argument(
        "--no-lm", dest="decode", action="store_const", const=(Mode.BEAM,), help="same as --decode beam"
    )
    parser.add_argument(
        "--limit", type=int, metavar="N", help="use only the first N utterances of each manifest"
    )
    parser.add_argument(
        "--batch",
        type=int,
        default=defaults.batch,
        metavar="N",
        help="utterances per batch (default: %(default)s)",
    )
    parser.add_argument(
        "--device",
        default="auto",
        help="device of the model: auto, cpu, cuda or cuda:N (default: %(default)s)",
    )
    parser.add_argument(
        "--backend",
        choices=BACKENDS,
        default="auto",
        help="what runs the encoder (default: %(default)s); --offline always uses PyTorch",
    )
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="float32",
        help="of the weights in the native step (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object with all texts")
    parser.add_argument("--html", type=Path, metavar="FILE", help="also write an HTML page with the errors")


def run(args: argparse.Namespace) -> int:
    """Run the evaluation and print the result."""
    options = EvaluationOptions(
        chunk_ms=_chunk_sizes(args.chunk_ms, offline=args.offline),
        offline=args.offline,
        modes=args.decode or (),
        batch=args.batch,
    )
    manifests = read_manifests(args.manifest, args.limit)
    model = load_model(args.model, args.device, args.backend, precision=args.precision)
    count = sum(map(len, manifests.values())) * len(passes(model, options))
    with progress_bar(count) as progress:
        evaluation = evaluate(model, manifests, options, progress)
    if args.html is not None:
        args.html.write_text(evaluation_page(evaluation), encoding="utf-8")
    if args.json:
        print(evaluation.to_json())
    else:
        _print(evaluation, manifests)
    return 0


@contextmanager
def progress_bar(count: int) -> Iterator[Progress]:
    """Show a progress bar on standard error for ``count`` recognitions."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True, emoji=False)
    with Bar(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("evaluating", total=count)

        def progress(manifest: str, chunk_ms: int | None) -> None:
            bar.update(task, advance=1, description=f"{manifest}, {chunk_name(chunk_ms)}")

        yield progress


def _chunk_ms(text: str) -> int | None:
    if text == "all":
        return None
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected milliseconds or all, got {text!r}") from None


def _modes(text: str) -> tuple[Mode, ...]:
    try:
        return tuple(dict.fromkeys(Mode(name.strip()) for name in text.split(",")))
    except ValueError:
        known = ", ".join(Mode)
        raise argparse.ArgumentTypeError(
            f"expected one or more of {known}, joined by commas, got {text!r}"
        ) from None


def _chunk_sizes(requested: Sequence[int | None] | None, *, offline: bool) -> tuple[int, ...] | None:
    if requested is None:
        return () if offline else (DEFAULT_CHUNK_MS,)
    if None not in requested:
        return tuple(size for size in requested if size is not None)
    if len(requested) > 1:
        raise ConfigError("--chunk-ms all already measures every size; leave the others out")
    return None


def _print(evaluation: Evaluation, manifests: Mapping[str, Sequence[Utterance]]) -> None:
    rates = ("CER", "WER") if evaluation.unit == "character" else ("WER", "CER")
    table = Table(caption="in brackets: 95 % bootstrap intervals over utterances", caption_justify="left")
    table.add_column("manifest", overflow="fold")
    for name in ("chunk", "decoding"):
        table.add_column(name, no_wrap=True)
    for name in (*(f"{rate} %" for rate in rates), "RTF", "CPU s / audio s"):
        table.add_column(name, justify="right", no_wrap=True)
    for m in evaluation.measurements:
        both = {"WER": _percent(m.wer), "CER": _percent(m.cer)}
        cost = (f"{m.rtf.value:.3f}", f"{m.cpu:.3f}")
        table.add_row(m.manifest, chunk_name(m.chunk_ms), m.mode, *(both[rate] for rate in rates), *cost)
    print(f"{evaluation.model} on {evaluation.machine}")
    for name, utterances in manifests.items():
        audio_s = next(m.audio_s for m in evaluation.measurements if m.manifest == name)
        print(f"{name}: {len(utterances)} utterances, {audio_s / 60:.1f} min of audio")
    console = Console(emoji=False)
    Console(width=None if console.is_terminal else max(console.width, _FILE_WIDTH), emoji=False).print(table)


def _percent(rate: Interval) -> str:
    return f"{100 * rate.value:.2f} ({100 * rate.low:.2f} – {100 * rate.high:.2f})"
