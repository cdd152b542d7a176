"""Implement ``streamasr lm tune``: tune the decoder weights of a model on a manifest."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from streamasr.errors import ConfigError
from streamasr.evaluation.tuning import Tuner, TuningOptions, Weights, record, write_weights

_SHOWN = 12
"""Number of trials in the table."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    defaults = TuningOptions()
    parser.add_argument("--model", required=True, metavar="DIR|NAME", help="model folder or packaged model")
    parser.add_argument(
        "--manifest",
        required=True,
        type=Path,
        nargs="+",
        metavar="FILE",
        help="manifest of transcribed speech to tune on",
    )
    parser.add_argument(
        "--chunk-ms", type=int, default=640, metavar="N", help="chunk length in ms (default: %(default)s)"
    )
    parser.add_argument(
        "--limit", type=int, metavar="N", help="use only the first N utterances of each manifest"
    )
    parser.add_argument("--beam", type=int, metavar="N", help="beam width (default: the model's own)")
    grid = {"alpha": defaults.alphas, "beta": defaults.betas, "blank-penalty": defaults.blank_penalties}
    for name, values in grid.items():
        parser.add_argument(
            f"--{name}",
            type=float,
            nargs="+",
            default=values,
            metavar="W",
            help=f"grid values (default: {' '.join(map(str, values))})",
        )
    parser.add_argument(
        "--halvings",
        type=int,
        default=defaults.halvings,
        metavar="N",
        help="how often the search steps around the best point halve; 0: grid only (default: %(default)s)",
    )
    parser.add_argument(
        "--batch", type=int, default=16, metavar="N", help="utterances per batch (default: %(default)s)"
    )
    parser.add_argument(
        "--device",
        default="auto",
        help="device of the model: auto, cpu, cuda or cuda:N (default: %(default)s)",
    )
    parser.add_argument(
        "--write", action="store_true", help="store the best weights in the model's config.toml"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object with every trial")


def run(args: argparse.Namespace) -> int:
    """Search, print, and with --write store the result."""
    from streamasr.evaluation.evaluate import read_manifests
    from streamasr.recognition.model import CONFIG_FILE, load_model, resolve_model
    from streamasr.text import text_rules

    for name in ("chunk_ms", "batch", "beam", "limit"):
        value = getattr(args, name)
        if value is not None and value <= 0:
            raise ConfigError(f"--{name.replace('_', '-')} must be positive, got {value}")
    options = TuningOptions(
        alphas=tuple(args.alpha),
        betas=tuple(args.beta),
        blank_penalties=tuple(args.blank_penalty),
        halvings=args.halvings,
    )
    named = read_manifests(args.manifest, args.limit)
    utterances = [utterance for some in named.values() for utterance in some]
    folder = resolve_model(args.model)
    model = load_model(folder, args.device)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True, emoji=False)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        encoding = progress.add_task("encoding", total=len(utterances))
        recordings = []
        for recording in record(model, utterances, chunk_ms=args.chunk_ms, batch=args.batch):
            recordings.append(recording)
            progress.advance(encoding)
        tuning = progress.add_task("tuning", total=None)
        tuner = Tuner(model, recordings, lambda _: progress.advance(tuning), beam_width=args.beam)
        best = tuner.search(options)
    if args.json:
        trials = [{**t.weights._asdict(), "error_rate": t.errors.rate} for t in tuner.trials]
        print(json.dumps({**best.weights._asdict(), "trials": trials}))
    else:
        _print(tuner, "CER" if text_rules(model.config.language).unit == "character" else "WER")
    if args.write:
        write_weights(folder / CONFIG_FILE, best.weights)
    return 0


def _print(tuner: Tuner, rate: str) -> None:
    trials = tuner.trials
    table = Table(
        caption=f"best of {len(trials)} trials; *: the model's current weights", caption_justify="left"
    )
    for name in (*_known(tuner.current), f"{rate} %", "errors"):
        table.add_column(name.replace("_", " "), justify="right")
    best, current = trials[0], [trial for trial in trials if trial.weights == tuner.current]
    for trial in dict.fromkeys([*trials[:_SHOWN], *current]):
        mark = "*" if trial in current else ""
        errors = f"{trial.errors.errors} of {trial.errors.length}"
        alpha, *others = (f"{weight:.4g}" for weight in _known(trial.weights).values())
        table.add_row(f"{mark}{alpha}", *others, f"{100 * trial.errors.rate:.2f}", errors)
    Console(emoji=False).print(table)
    chosen = ", ".join(f"{name} = {weight:.4g}" for name, weight in _known(best.weights).items())
    print(f"best: {chosen}: {rate} {100 * best.errors.rate:.2f} %")


def _known(weights: Weights) -> dict[str, float]:
    return {name: weight for name, weight in weights._asdict().items() if weight is not None}
