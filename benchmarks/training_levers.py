"""Compare changes of a recipe in short trainings of equal time, each from the weights of a model folder.

    python benchmarks/training_levers.py --data speech --out runs/levers --minutes 4 \
      --dev dev-librispeech/manifest.jsonl noisy/manifest.jsonl

The baseline continues training with the recipe `en-small`, its recordings only, at a constant learning rate. Every
other run changes one thing. All runs have the same minutes of computing, whatever a step costs, and all but those of
"seed 2" the same seed. Runs with a falling rate end after ``--steps``, if these come first. The exponential moving
average of the weights is measured: the CTC loss, and the error rates of greedy decoding, under the mask of 640 ms.
The loss is the figure to compare: it is far less noisy than the error rates of short trainings.

Prints a table for each manifest, then one JSON line last.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from training_ablation import PLAIN, recordings

from streamasr.acoustic import AnyEncoder
from streamasr.config import WhisperEncoderConfig
from streamasr.errors import StreamasrError
from streamasr.recognition.model import resolve_model
from streamasr.training.averaging import mean_weights
from streamasr.training.config import AugmentConfig, LossConfig, TrainConfig
from streamasr.training.distributed import ProcessGroup
from streamasr.training.pretrained import load_pretrained
from streamasr.training.trainer import Trainer

CHUNK_FRAMES = 32
"""640 ms."""
STRONG = AugmentConfig(
    speeds=(0.8, 0.85, 0.9, 0.95, 1.0, 1.05, 1.1, 1.15, 1.2),
    noise_probability=0.5,
    noise_snr_db=(0.0, 25.0),
    babble_probability=0.1,
    room_probability=0.4,
    band_probability=0.25,
    tilt_db=6.0,
    level_db=(-12.0, 3.0),
    frequency_mask_bands=20,
    time_masks_per_second=0.8,
    time_mask_frames=30,
)


MEANS = {
    "mean of two seeds": ("strong augmentation", "strong augmentation, seed 2"),
    "mean of two seeds, falling rate": (
        "strong augmentation, falling rate",
        "strong augmentation, falling rate, seed 2",
    ),
}
"""Means of the weights of runs that differ in the seed alone (Wortsman et al. 2022, "Model soups")."""


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What one run gives on one dev manifest."""

    loss: float
    """CTC loss in nats a frame."""
    cer: float
    wer: float


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training and its figures by dev manifest."""

    steps: int
    hours: float
    """Of audio."""
    dev: dict[str, Figures]


Lever = Callable[[TrainConfig], TrainConfig]


def _optim(**changes: object) -> Lever:
    return lambda recipe: replace(recipe, optim=replace(recipe.optim, **changes))  # type: ignore[arg-type]


def _falling(steps: int) -> Lever:
    """The rate falls from the first step on; the average is as long as the last tenth."""
    return _optim(steps=steps, decay_share=1.0, ema_decay=1 - 10 / steps)


def _augment(augment: AugmentConfig) -> Lever:
    return lambda recipe: replace(recipe, augment=augment)


def _loss(*, consistency: float = 0.0, distillation: float = 0.0) -> Lever:
    loss = LossConfig(consistency=consistency, distillation=distillation)
    return lambda recipe: replace(recipe, loss=loss)


def _rows(rows: int, learning_rate: float) -> Lever:
    return lambda recipe: replace(
        recipe,
        data=replace(recipe.data, rows_per_batch=rows),
        optim=replace(recipe.optim, learning_rate=learning_rate),
    )


def levers(whisper: Path, steps: int) -> dict[str, Lever]:
    """Return the changes by name.

    Args:
        whisper: the weights that the model was fine-tuned from.
        steps: length of the schedules in which the rate falls.
    """
    strong = _augment(STRONG)

    def strong_falling(recipe: TrainConfig) -> TrainConfig:
        return _falling(steps)(strong(recipe))

    return {
        "baseline": lambda recipe: recipe,
        "no augmentation": _augment(PLAIN),
        "strong augmentation": strong,
        "strong augmentation, seed 2": lambda recipe: replace(strong(recipe), seed=2),
        "strong augmentation, falling rate": strong_falling,
        "strong augmentation, falling rate, seed 2": lambda recipe: replace(strong_falling(recipe), seed=2),
        "distillation from itself": _loss(distillation=1.0),
        "distillation from Whisper": lambda recipe: replace(_loss(distillation=1.0)(recipe), teacher=whisper),
        "CR-CTC": _loss(consistency=0.2),
        "rate 2e-4": _optim(learning_rate=2e-4),
        "rate 0.5e-4": _optim(learning_rate=0.5e-4),
        "lower layers slower": _optim(layer_decay=0.6),
        "stem trained": _optim(train_stem=True),
        "12 rows, rate 2e-4": _rows(12, 2e-4),
    }


def recipe_of(args: argparse.Namespace, weights: Path) -> TrainConfig:
    """Return the baseline: en-small's recordings and augmentation, from ``weights``, at a constant rate."""
    base = recordings(args.data)
    encoder = base.encoder
    assert isinstance(encoder, WhisperEncoderConfig)
    return replace(
        base,
        name="levers",
        pretrained=weights,
        precision=args.precision,
        encoder=replace(encoder, chunk_frames=(8, 16, CHUNK_FRAMES, 64)),
        loss=LossConfig(consistency=0.0),
        optim=replace(
            base.optim,
            steps=1_000_000,
            learning_rate=args.learning_rate,
            freeze_encoder_steps=0,
            head_factor=2.0,
            warmup_steps=20,
            decay_share=0.001,
            ema_decay=0.98,
        ),
        data=replace(
            base.data,
            dev_manifests=tuple(args.data / path for path in args.dev),
            rows_per_batch=4,
            cache=args.out / "cache",
        ),
        log_every_steps=50,
        save_every_steps=1_000_000,
        evaluate_every_steps=1_000_000,
        keep_checkpoints=1,
    )


def train(recipe: TrainConfig, folder: Path, minutes: float) -> Trainer:
    """Train for ``minutes``, or until the steps of the recipe are done."""
    trainer = Trainer(recipe, folder, ProcessGroup.from_environment(), lambda _: None)
    end = time.monotonic() + 60 * minutes
    trainer.train(until=lambda: time.monotonic() > end)
    return trainer


def averaged(encoders: Sequence[AnyEncoder], weights: Sequence[float]) -> AnyEncoder:
    """Return an encoder with the weighted mean of the weights."""
    encoder = copy.deepcopy(encoders[0])
    encoder.load_state_dict(mean_weights([each.state_dict() for each in encoders], weights))
    return encoder


def measure(trainer: Trainer, encoder: AnyEncoder, *, steps: int, seconds: float) -> Run:
    """Measure an encoder on the dev manifests of the trainer; ``seconds`` of audio were processed for it."""
    dev = {}
    for dev_set in trainer.speech.dev:
        report = dev_set.measure(encoder, CHUNK_FRAMES, steps).report
        dev[dev_set.name] = Figures(loss=report.loss, cer=report.cer, wer=report.wer)
    return Run(steps=steps, hours=seconds / 3600, dev=dev)


def print_runs(runs: dict[str, Run]) -> None:
    """Print a table for each dev manifest."""
    for manifest in next(iter(runs.values())).dev:
        table = Table("", "steps", "audio h", "loss", "CER", "WER", title=manifest)
        for name, each in runs.items():
            found = each.dev[manifest]
            table.add_row(
                name,
                f"{each.steps}",
                f"{each.hours:.1f}",
                f"{found.loss:.4f}",
                f"{found.cer:.2%}",
                f"{found.wer:.1%}",
            )
        Console().print(table)


def main() -> int:
    """Train, measure and print the results; return 1 if an input cannot be used."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="where all paths start")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="a folder for each run")
    parser.add_argument("--model", default="en-small", help="whose weights to start from (%(default)s)")
    parser.add_argument("--minutes", type=float, default=4.0, help="of training, for each run (%(default)s)")
    parser.add_argument(
        "--steps", type=int, default=150, help="length of the runs with a falling rate (%(default)s)"
    )
    parser.add_argument("--learning-rate", type=float, default=1e-4, help="of the baseline (%(default)s)")
    parser.add_argument("--precision", default="auto", help="%(default)s")
    parser.add_argument("--threads", type=int, default=2, help="of torch (%(default)s)")
    parser.add_argument("--dev", type=Path, nargs="+", required=True, metavar="MANIFEST")
    parser.add_argument(
        "--whisper",
        type=Path,
        required=True,
        metavar="FILE",
        help="the encoder that the model was fine-tuned from: the teacher, and for means with the model's weights "
        "(WiSE-FT, Wortsman et al. 2022)",
    )
    parser.add_argument(
        "--only", nargs="+", choices=list(levers(Path(), 1)), metavar="NAME", help="only these runs"
    )
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    runs: dict[str, Run] = {}
    trained: dict[str, AnyEncoder] = {}
    try:
        weights = resolve_model(args.model) / "model.safetensors"
        base = recipe_of(args, weights)
        start = Trainer(base, args.out / "start", ProcessGroup.from_environment(), lambda _: None)
        before = start.averaged_encoder()
        runs["start"] = measure(start, before, steps=0, seconds=0)
        pretrained = copy.deepcopy(before)
        load_pretrained(pretrained, args.whisper)
        for share in (0.03, 0.06):
            mean = averaged([before, pretrained], [1 - share, share])
            runs[f"mean with {share:.0%} of {args.whisper.stem}"] = measure(start, mean, steps=0, seconds=0)
        for number, (name, lever) in enumerate(levers(args.whisper, args.steps).items()):
            if args.only and name not in args.only:
                continue
            print(name, file=sys.stderr, flush=True)
            trainer = train(lever(base), args.out / f"run-{number}", args.minutes)
            trained[name] = trainer.averaged_encoder()
            runs[name] = measure(start, trained[name], steps=trainer.step, seconds=trainer.seconds)
            print(runs[name], file=sys.stderr, flush=True)
        for name, parts in MEANS.items():
            if all(part in trained for part in parts):
                mean = averaged([trained[part] for part in parts], [1 / len(parts)] * len(parts))
                runs[name] = measure(
                    start,
                    mean,
                    steps=sum(runs[part].steps for part in parts),
                    seconds=3600 * sum(runs[part].hours for part in parts),
                )
    except StreamasrError as error:
        print(f"training_levers: {error.message}", file=sys.stderr)
        return 1
    print_runs(runs)
    settings = {"minutes": args.minutes, "learning_rate": args.learning_rate}
    figures = {name: asdict(each) for name, each in runs.items()}
    print(json.dumps({"benchmark": "training_levers", **settings, "runs": figures}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
