"""Export a model's streaming step as an ONNX graph: ``streamasr model export``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from rich.console import Console
from rich.table import Table

from streamasr.config import Backend
from streamasr.errors import ConfigError
from streamasr.scoring import Interval


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("model", metavar="DIR|NAME", help="model folder or packaged model")
    parser.add_argument(
        "out", type=Path, metavar="OUT", help="folder to write; the model's own folder to add the graph to it"
    )
    parser.add_argument("--onnx", action="store_true", required=True, help="export to ONNX, the only format")
    parser.add_argument(
        "--int8",
        action="store_true",
        help="quantise the weights to 8 bits: smaller and faster, slightly less accurate",
    )
    parser.add_argument(
        "--manifest",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="also measure error rates of model and graph on this manifest",
    )
    parser.add_argument(
        "--chunk-ms",
        type=int,
        default=640,
        metavar="N",
        help="chunk length in ms for --manifest (default: %(default)s)",
    )
    parser.add_argument(
        "--limit", type=int, metavar="N", help="use only the first N utterances of each manifest"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object with every figure")


def run(args: argparse.Namespace) -> int:
    """Export the model, measure it with ``--manifest``, and print the results."""
    from streamasr.recognition.export import export_model

    if args.chunk_ms <= 0:
        raise ConfigError(f"--chunk-ms must be positive, got {args.chunk_ms}")
    agreement = export_model(args.model, args.out, int8=args.int8)
    rates = _error_rates(args) if args.manifest else {}
    if args.json:
        shown = {
            name: {backend: [rate.value, rate.low, rate.high] for backend, rate in pair.items()}
            for name, pair in rates.items()
        }
        figures = {name: getattr(agreement, name) for name in agreement.__slots__}
        print(json.dumps({"out": str(args.out), **figures, "error_rates": shown}))
        return 0
    print(
        f"{args.out}: {agreement.steps} steps, {agreement.frames} frames compared with the model: log-probs "
        f"differ by at most {agreement.worst:.1e}, {agreement.mean:.1e} on average; "
        f"{100 * agreement.same_best:.2f} % of frames have the same best token"
    )
    for name, pair in rates.items():
        table = Table("weights", "error rate %", "95 %", title=f"{name}, {args.chunk_ms} ms")
        for weights, rate in pair.items():
            table.add_row(weights, f"{100 * rate.value:.2f}", f"{100 * rate.low:.2f} – {100 * rate.high:.2f}")
        Console(emoji=False).print(table)
    return 0


def _error_rates(args: argparse.Namespace) -> dict[str, dict[str, Interval]]:
    """Return the error rates of the model and of its graph, by manifest."""
    from streamasr.evaluation.evaluate import EvaluationOptions, evaluate, read_manifests
    from streamasr.recognition.model import load_model

    manifests = read_manifests(args.manifest, args.limit)
    options = EvaluationOptions(chunk_ms=(args.chunk_ms,))
    rates: dict[str, dict[str, Interval]] = {name: {} for name in manifests}
    exported = "int8" if args.int8 else "exported"
    passes: tuple[tuple[str, str | Path, Backend], ...] = (
        ("own", args.model, "torch"),
        (exported, args.out, "onnxruntime"),
    )
    for weights, folder, backend in passes:
        evaluation = evaluate(load_model(folder, "cpu", backend), manifests, options)
        for measurement in evaluation.measurements:
            rate = measurement.cer if evaluation.unit == "character" else measurement.wer
            rates[measurement.manifest][weights] = rate
    return rates
