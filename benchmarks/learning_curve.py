"""Measure earlier weights of a model, from the repository's history: error rates against the hours of audio heard.

    python benchmarks/learning_curve.py --weights 27=6a64bf7 60=8dfc23e --manifest dev/manifest.jsonl --minutes 5

Each of --weights is hours of audio and the commit that shipped the weights; ``now`` is the working tree. All weights
get today's code, language model and search settings, at 640 ms. From each manifest the first recordings are used, up
to --minutes of audio. Prints a table for greedy decoding and one with the language model, then one JSON line last.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from streamasr.errors import DataError, StreamasrError
from streamasr.evaluation.decoding_pass import Mode
from streamasr.evaluation.evaluate import EvaluationOptions, evaluate, read_manifests
from streamasr.manifest import Utterance
from streamasr.recognition.model import load_model, resolve_model

MODEL = "en-small"
WEIGHTS = "model.safetensors"
GRAPH = "encoder.onnx"
ROOT = Path(__file__).resolve().parents[1]
MODES = (Mode.GREEDY, Mode.BEAM_LM)


@dataclass(frozen=True, slots=True)
class Weights:
    """Weights of the model at one time."""

    hours: float
    """Audio that the training had processed."""
    commit: str


def parse_weights(text: str) -> Weights:
    """Parse ``HOURS=COMMIT``."""
    hours, _, commit = text.partition("=")
    if not commit:
        raise argparse.ArgumentTypeError(f"expected HOURS=COMMIT, got {text!r}")
    return Weights(float(hours), commit)


def model_with(weights: Weights, folder: Path) -> Path:
    """Make a copy of the model in ``folder`` that has the weights of a commit."""
    target = folder / weights.commit
    shutil.copytree(resolve_model(MODEL), target, ignore=shutil.ignore_patterns(GRAPH, "README.md"))
    if weights.commit != "now":
        content = subprocess.run(
            ["git", "show", f"{weights.commit}:models/{MODEL}/{WEIGHTS}"],
            cwd=ROOT,
            capture_output=True,
            check=False,
        )
        if content.returncode:
            raise DataError(f"{weights.commit}: no weights there: {content.stderr.decode().strip()}")
        (target / WEIGHTS).write_bytes(content.stdout)
    return target


def first_minutes(utterances: Sequence[Utterance], minutes: float) -> list[Utterance]:
    """Return the first utterances, up to ``minutes`` of audio."""
    chosen, seconds = [], 0.0
    for utterance in utterances:
        seconds += utterance.duration_s
        if seconds > 60 * minutes:
            break
        chosen.append(utterance)
    return chosen


def print_rates(curve: dict[Weights, dict[str, dict[str, float]]]) -> None:
    """Print the WER by manifest, a table for each mode."""
    manifests = next(iter(curve.values()))
    for mode in MODES:
        table = Table("hours", *manifests, "mean", title=f"WER, {mode.value}")
        for weights, rates in curve.items():
            each = [rates[manifest][mode.value] for manifest in manifests]
            table.add_row(
                f"{weights.hours:g}", *(f"{rate:.1%}" for rate in each), f"{sum(each) / len(each):.1%}"
            )
        Console().print(table)


def main() -> int:
    """Measure and print the results; return 1 if an input cannot be used."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--weights", type=parse_weights, nargs="+", required=True, metavar="HOURS=COMMIT", help="to measure"
    )
    parser.add_argument("--manifest", type=Path, nargs="+", required=True, help="dev sets")
    parser.add_argument("--minutes", type=float, default=math.inf, help="of audio, of each (default: all)")
    parser.add_argument("--threads", type=int, default=1, help="of torch (%(default)s)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    curve: dict[Weights, dict[str, dict[str, float]]] = {}
    try:
        manifests = {
            name: first_minutes(utterances, args.minutes)
            for name, utterances in read_manifests(args.manifest).items()
        }
        for weights in args.weights:
            with tempfile.TemporaryDirectory() as folder:
                model = load_model(str(model_with(weights, Path(folder))), threads=args.threads)
                found = evaluate(model, manifests, EvaluationOptions(modes=MODES))
            rates: dict[str, dict[str, float]] = {}
            for measured in found.measurements:
                rates.setdefault(measured.manifest, {})[measured.mode] = measured.wer.value
            curve[weights] = rates
    except StreamasrError as error:
        print(f"learning_curve: {error.message}", file=sys.stderr)
        return 1
    print_rates(curve)
    points = [
        {"hours": weights.hours, "commit": weights.commit, "wer": rates} for weights, rates in curve.items()
    ]
    print(json.dumps({"benchmark": "learning_curve", "points": points}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
