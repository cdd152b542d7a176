"""Measure the recipe ``digits`` on unseen speakers: train once for each speaker, who is left out.

    python benchmarks/digits_speakers.py free-spoken-digit-dataset --out runs/digits-speakers

For each speaker it does the same as these commands, and counts correctly recognised recordings of the speaker:

    streamasr data import fsdd DATASET train.jsonl --exclude-speaker NAME
    streamasr data import fsdd DATASET test.jsonl --only-speaker NAME
    streamasr train digits

A digit is correct if its whole word is. Recognition is greedy, and streamed as in the daemon.
Runs are kept under ``--out`` and resumed; a finished one is only measured. Prints a table, then one JSON line last.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean

import torch
from digits_baseline import recipe_accuracy
from rich.console import Console
from rich.table import Table

from streamasr.errors import StreamasrError
from streamasr.manifest import read_manifest
from streamasr.training.config import TrainConfig, load_recipe
from streamasr.training.data.importers import fsdd
from streamasr.training.data.importers.layout import Selection
from streamasr.training.data.importers.manifest_writer import write_manifest
from streamasr.training.distributed import ProcessGroup
from streamasr.training.trainer import Trainer


@dataclass(frozen=True)
class SpeakerResult:
    """Accuracy on an unseen speaker."""

    speaker: str
    recordings: int
    accuracy: float
    cpu_seconds: float
    """CPU seconds of training in this process."""


def import_speakers(dataset: Path, selection: Selection, out: Path) -> Path:
    """Write the manifest of the selected speakers, unless it exists."""
    if not out.exists():
        found = fsdd.find(dataset, selection)
        write_manifest(found, out, language=fsdd.LANGUAGE, selection=selection, workers=1)
    return out


def measure_speaker(dataset: Path, speaker: str, recipe: TrainConfig, out: Path) -> SpeakerResult:
    """Train on all other speakers, and measure on the recordings of ``speaker``."""
    out.mkdir(parents=True, exist_ok=True)
    train = import_speakers(dataset, Selection(exclude_speakers=(speaker,)), out / "train.jsonl")
    test = read_manifest(import_speakers(dataset, Selection(only_speakers=(speaker,)), out / "test.jsonl"))
    data = replace(recipe.data, manifests=(train,), dev_manifests=())
    began = time.process_time()
    trainer = Trainer(
        replace(recipe, data=data), out, ProcessGroup.from_environment("cpu"), lambda _event: None
    )
    trainer.train()
    cpu_seconds = time.process_time() - began
    return SpeakerResult(speaker, len(test), recipe_accuracy(out / "model", test), cpu_seconds)


def main() -> int:
    """Train, measure and print the results; return 1 if the data or the recipe cannot be used."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", type=Path, metavar="DATASET", help="the Free Spoken Digit Dataset")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="a folder for each run")
    parser.add_argument("--recipe", default="digits", help="name or file (%(default)s)")
    parser.add_argument("--steps", type=int, help="of each run (the recipe's)")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="only these speakers")
    parser.add_argument("--threads", type=int, default=1, help="of torch (%(default)s)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    console = Console(stderr=True)
    found: list[SpeakerResult] = []
    try:
        recipe = load_recipe(args.recipe)
        recipe = replace(recipe, optim=replace(recipe.optim, steps=args.steps or recipe.optim.steps))
        everyone = read_manifest(import_speakers(args.dataset, Selection(), args.out / "all.jsonl"))
        for speaker in args.only or sorted({utterance.speaker for utterance in everyone}):
            found.append(measure_speaker(args.dataset, speaker, recipe, args.out / speaker))
            console.print(f"{speaker}: {found[-1].accuracy:.1%}, {found[-1].cpu_seconds:.0f} CPU s")
    except StreamasrError as error:
        print(f"digits_speakers: {error.message}", file=sys.stderr)
        return 1
    table = Table("left out", "recordings", "accuracy", "CPU s of training")
    for each in found:
        table.add_row(each.speaker, str(each.recordings), f"{each.accuracy:.1%}", f"{each.cpu_seconds:.0f}")
    mean = fmean(each.accuracy for each in found)
    table.add_row("mean", "", f"{mean:.1%}", "")
    Console().print(table)
    runs = [asdict(each) for each in found]
    settings = {"recipe": args.recipe, "steps": recipe.optim.steps}
    print(json.dumps({"benchmark": "digits_speakers", **settings, "mean": mean, "runs": runs}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
