"""Measure the gain of each part of the recipe: short fine-tunings of the tiny.en encoder that differ in one part.

    python benchmarks/training_ablation.py --data speech --out runs/ablation --steps 2000

The plain recipe (no augmentation, one view, CTC alone), the plain recipe with SpecAugment, with augmented audio
(speed, noise, rooms, telephone, level), with CR-CTC, and all of them. Every run has the same seed, schedule and
batches of speech: en-small's recordings, without its synthetic speech. CR-CTC computes twice as much for them, so
a run with it gets half the steps, as its authors compare (``--equal steps`` gives it all of them).
``--pretrained`` is Whisper's file, or the weights of a model folder, from which all runs start. Each model is then
measured streaming at 640 ms on the dev manifests: greedy, by beam search, and by beam search with the language
model of ``--lm``. Runs are kept under ``--out`` and resumed; a finished one is only measured.

Prints a table, then one JSON line last.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from streamasr.errors import StreamasrError
from streamasr.evaluation.decoding_pass import Mode
from streamasr.evaluation.evaluate import EvaluationOptions, evaluate, read_manifests
from streamasr.recognition.model import load_model, resolve_model
from streamasr.training.config import AugmentConfig, LossConfig, TrainConfig, load_recipe
from streamasr.training.distributed import ProcessGroup
from streamasr.training.monitoring.events import Diagnosis, Event, PreparationProgress, StepReport
from streamasr.training.trainer import Trainer

CONSISTENCY = 0.2
LM_FILES = ("lm.bin", "unigrams.txt")
SYNTHETIC_MANIFEST = Path("made/manifest.jsonl")
"""The recipe's synthetic speech, which this benchmark does not use."""
SOUND = (
    "speeds",
    "noise_probability",
    "noise_snr_db",
    "babble_probability",
    "room_probability",
    "band_probability",
    "tilt_db",
    "level_db",
)
"""The settings that augment audio; the others mask mel frames."""
PLAIN = AugmentConfig(
    speeds=(1.0,),
    noise_probability=0.0,
    babble_probability=0.0,
    room_probability=0.0,
    band_probability=0.0,
    tilt_db=0.0,
    level_db=(0.0, 0.0),
    frequency_masks=0,
    time_masks_per_second=0.0,
)


Errors = dict[str, dict[str, dict[str, float]]]
"""``cer`` and ``wer`` by manifest and decoding mode."""


def variants(full: AugmentConfig) -> dict[str, tuple[AugmentConfig, float]]:
    """Return augmentation and weight of CR-CTC by name."""
    sound = replace(PLAIN, **{name: getattr(full, name) for name in SOUND})
    masks = replace(full, **{name: getattr(PLAIN, name) for name in SOUND})
    return {
        "plain": (PLAIN, 0.0),
        "SpecAugment": (masks, 0.0),
        "speed, noise and rooms": (sound, 0.0),
        "CR-CTC": (PLAIN, CONSISTENCY),
        "full": (full, CONSISTENCY),
    }


def recordings(data: Path) -> TrainConfig:
    """Return en-small's recipe with its recordings only, and paths relative to ``data``."""
    recipe = load_recipe("en-small")
    manifests = tuple(path for path in recipe.data.manifests if path != SYNTHETIC_MANIFEST)
    return replace(recipe, data=replace(recipe.data, manifests=manifests)).rooted(data)


def recipe_of(
    base: TrainConfig, args: argparse.Namespace, augment: AugmentConfig, consistency: float
) -> TrainConfig:
    """Return en-small's recipe, shortened, for the tiny.en encoder."""
    steps = args.steps // 2 if consistency and args.equal == "compute" else args.steps
    optim = replace(
        base.optim,
        steps=steps,
        learning_rate=args.learning_rate,
        freeze_encoder_steps=steps // 20,
        warmup_steps=steps // 20,
    )
    data = replace(
        base.data,
        dev_manifests=(),
        row_seconds=args.row_seconds,
        rows_per_batch=args.rows,
        cache=args.cache or args.out / "cache",
    )
    return replace(
        base,
        name="ablation",
        pretrained=args.pretrained,
        precision=args.precision,
        encoder=replace(base.encoder, dim=384, heads=6, layers=4),
        augment=augment,
        loss=LossConfig(consistency=consistency),
        optim=optim,
        data=data,
        log_every_steps=max(1, steps // 20),
        save_every_steps=max(1, steps // 10),
        evaluate_every_steps=steps,
    )


def train(config: TrainConfig, folder: Path, console: Console) -> dict[str, float]:
    """Train or resume one variant; return its steps, hours of audio, and CPU seconds in this process."""

    def record(event: Event | PreparationProgress) -> None:
        if isinstance(event, StepReport):
            console.print(
                f"{folder.name} step {event.step}  loss {event.loss:.3f}  {event.speed:.0f} audio s/s"
            )
        elif isinstance(event, Diagnosis):
            console.print(f"{folder.name} step {event.step}  {event.finding}")

    began = time.process_time()
    trainer = Trainer(config, folder, ProcessGroup.from_environment(), record)
    trainer.train()
    return {
        "steps": trainer.step,
        "hours": trainer.seconds / 3600,
        "cpu_seconds": time.process_time() - began,
    }


def measure(model: Path, lm: Path | None, manifests: list[Path], limit: int | None) -> Errors:
    """Return character and word error rates, streamed at 640 ms."""
    modes: tuple[Mode, ...] = (Mode.GREEDY, Mode.BEAM)
    if lm is not None:
        for name in LM_FILES:
            shutil.copyfile(lm / name, model / name)
        modes += (Mode.BEAM_LM,)
    found = evaluate(
        load_model(model), read_manifests(manifests, limit), EvaluationOptions(chunk_ms=(640,), modes=modes)
    )
    errors: Errors = {}
    for measured in found.measurements:
        rates = {"cer": measured.cer.value, "wer": measured.wer.value}
        errors.setdefault(measured.manifest, {})[measured.mode] = rates
    return errors


def print_errors(results: dict[str, Errors]) -> None:
    """Print a table for each manifest: error rates of every run by decoding mode."""
    first = next(iter(results.values()), {})
    for manifest, modes in first.items():
        table = Table("", *modes, title=f"{manifest}: CER (WER)")
        for name, errors in results.items():
            cells = (f"{errors[manifest][m]['cer']:.1%} ({errors[manifest][m]['wer']:.1%})" for m in modes)
            table.add_row(name, *cells)
        Console().print(table)


def main() -> int:
    """Train, measure and print the results; return 1 if an input cannot be used."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, required=True, metavar="DIR", help="where en-small's paths start"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="a folder for each run")
    parser.add_argument("--steps", type=int, default=2_000, help="of each run (%(default)s)")
    parser.add_argument(
        "--equal",
        choices=("compute", "steps"),
        default="compute",
        help="what all runs have in common (default: %(default)s)",
    )
    parser.add_argument("--row-seconds", type=float, default=10.0, help="of a row (%(default)s)")
    parser.add_argument("--rows", type=int, default=2, help="in a batch (%(default)s)")
    parser.add_argument("--learning-rate", type=float, default=2e-4, help="%(default)s")
    parser.add_argument(
        "--pretrained", type=Path, required=True, metavar="FILE", help="weights of tiny.en's sizes"
    )
    parser.add_argument("--precision", default="bfloat16", help="%(default)s")
    parser.add_argument(
        "--lm", default="en-small", metavar="MODEL", help="whose language model (%(default)s); none for none"
    )
    parser.add_argument("--only", nargs="+", metavar="NAME", help="only these variants")
    parser.add_argument("--limit", type=int, metavar="N", help="utterances of each dev manifest")
    parser.add_argument(
        "--dev",
        type=Path,
        nargs="+",
        default=[],
        metavar="MANIFEST",
        help="to measure on, besides the recipe's dev manifests",
    )
    parser.add_argument("--threads", type=int, default=1, help="of torch (%(default)s)")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="decoded sound (default: in --out)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    console = Console(stderr=True)
    results: dict[str, Errors] = {}
    spent: dict[str, dict[str, float]] = {}
    try:
        lm = None if args.lm == "none" else resolve_model(args.lm)
        base = recordings(args.data)
        for name, (augment, consistency) in variants(base.augment).items():
            if args.only and name not in args.only:
                continue
            folder = args.out / name.replace(",", "").replace(" ", "-").lower()
            config = recipe_of(base, args, augment, consistency)
            spent[name] = train(config, folder, console)
            results[name] = measure(folder / "model", lm, [*base.data.dev_manifests, *args.dev], args.limit)
    except StreamasrError as error:
        print(f"training_ablation: {error.message}", file=sys.stderr)
        return 1
    table = Table("", "steps", "audio h", "CPU s")
    for name, cost in spent.items():
        table.add_row(name, f"{cost['steps']:.0f}", f"{cost['hours']:.1f}", f"{cost['cpu_seconds']:.0f}")
    Console().print(table)
    print_errors(results)
    settings = {
        name: getattr(args, name) for name in ("equal", "steps", "row_seconds", "rows", "learning_rate")
    }
    runs = {name: {**spent[name], "errors": results[name]} for name in results}
    print(json.dumps({"benchmark": "training_ablation", **settings, "runs": runs}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
