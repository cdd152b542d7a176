"""Implement ``streamasr model calibrate``: calibrate the word confidences of a model."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

from streamasr.decoding.confidence import FEATURES
from streamasr.errors import ConfigError
from streamasr.evaluation.calibration import Calibration, calibrate, label_words
from streamasr.evaluation.reliability_plot import reliability_svg


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the action's arguments."""
    parser.add_argument("--model", required=True, metavar="DIR|NAME", help="model folder or packaged model")
    parser.add_argument(
        "--manifest", required=True, type=Path, nargs="+", metavar="FILE", help="manifest with transcripts"
    )
    parser.add_argument(
        "--chunk-ms", type=int, default=640, metavar="N", help="chunk length in ms (default: %(default)s)"
    )
    parser.add_argument(
        "--limit", type=int, metavar="N", help="use only the first N utterances of each manifest"
    )
    parser.add_argument(
        "--batch", type=int, default=16, metavar="N", help="utterances per batch (default: %(default)s)"
    )
    parser.add_argument(
        "--device",
        default="auto",
        help="device of the model: auto, cpu, cuda or cuda:N (default: %(default)s)",
    )
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw a reliability diagram (SVG)")
    parser.add_argument("--write", action="store_true", help="store the weights in the model's config.toml")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Fit, print, and with --plot and --write store the results."""
    from streamasr.evaluation.evaluate import read_manifests
    from streamasr.evaluation.settings import write_settings
    from streamasr.evaluation.tuning import record
    from streamasr.recognition.model import CONFIG_FILE, load_model, resolve_model
    from streamasr.text import text_rules

    for name in ("chunk_ms", "batch", "limit"):
        value = getattr(args, name)
        if value is not None and value <= 0:
            raise ConfigError(f"--{name.replace('_', '-')} must be positive, got {value}")
    named = read_manifests(args.manifest, args.limit)
    utterances = [utterance for some in named.values() for utterance in some]
    folder = resolve_model(args.model)
    model = load_model(folder, args.device)
    console = Console(stderr=True, emoji=False)
    recordings = track(
        record(model, utterances, chunk_ms=args.chunk_ms, batch=args.batch),
        "encoding",
        total=len(utterances),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    found = calibrate(
        label_words(model.decoder, recordings, text_rules(model.config.language)), model.config.confidence
    )
    if args.json:
        print(json.dumps(asdict(found)))
    else:
        _print(found)
    if args.plot is not None:
        curves = [("before", found.before), ("calibrated on the other half", found.after)]
        args.plot.write_text(reliability_svg(model.config.name, curves), encoding="utf-8")
    if args.write:
        write_settings(folder / CONFIG_FILE, "confidence", asdict(found.config))
    return 0


def _print(found: Calibration) -> None:
    caption = "calibrated: each half of the utterances with weights fitted on the other half"
    table = Table(caption=caption, caption_justify="left")
    table.add_column("confidence")
    for name in ("words before", "mean", "correct %", "words calibrated", "mean", "correct %"):
        table.add_column(name, justify="right")
    for before, after in zip(found.before.bins, found.after.bins, strict=True):
        cells = [
            cell
            for b in (before, after)
            for cell in (
                (str(b.words), f"{b.confidence:.2f}", f"{100 * b.right:.1f}") if b.words else ("0", "", "")
            )
        ]
        table.add_row(f"{before.low:.1f} – {before.high:.1f}", *cells)
    Console(emoji=False).print(table)
    weights = [f"{name} = {getattr(found.config, name):g}" for name in ("bias", *FEATURES)]
    print(f"weights: {', '.join(weights)}")
    print(f"{found.words} words, {100 * found.right / found.words:.1f} % of them correct")
    for name, measured in (("before", found.before), ("calibrated", found.after)):
        print(
            f"{name}: expected calibration error {measured.error:.3f}, normalised cross entropy "
            f"{measured.entropy_gain:.3f}, area under ROC {100 * measured.roc_auc:.1f} %"
        )
