"""``streamasr train``: run a recipe."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

EXAMPLE = "streamasr train en-small --data speech --out runs/en-small"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's flags."""
    parser.add_argument(
        "recipe", help="a TOML file or a packaged recipe's name; docs/training.md has the fields"
    )
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(),
        help="folder that the recipe's relative paths start from (default: .)",
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of the run; an interrupted run is resumed"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 … (default: %(default)s)")
    parser.add_argument("--minutes", type=float, help="stop (resumably) after so many minutes")
    parser.add_argument("--threads", type=int, help="CPU threads of torch")


def run(args: argparse.Namespace) -> int:
    """Train; returns 0 when the model folder is written."""
    import torch
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from streamasr.training.config import load_recipe
    from streamasr.training.trainer import DevReport, Report, Trainer

    if args.threads:
        torch.set_num_threads(args.threads)
    torch.set_float32_matmul_precision("high")
    config = load_recipe(args.recipe).rooted(args.data)
    chosen = ("cuda" if torch.cuda.is_available() else "cpu") if args.device == "auto" else args.device
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("training", total=config.optim.steps)

        def report(event: Report | DevReport) -> None:
            progress.update(task, completed=event.step)
            if isinstance(event, Report):
                console.print(
                    f"step {event.step}  ctc {event.ctc:.4f}  consistency {event.consistency:.4f}"
                    f"  distillation {event.distillation:.4f}  norm {event.gradient_norm:.2f}"
                    f"  rate {event.learning_rate:.2e}  {event.speed:.0f} audio s/s  {event.hours:.1f} h heard"
                )
            else:
                console.print(
                    f"step {event.step}  {event.manifest}  chunk {event.chunk_frames} frames"
                    f"  WER {event.wer:.2%}  CER {event.cer:.2%}"
                )

        trainer = Trainer(config, args.out, torch.device(chosen), report)
        deadline = time.monotonic() + args.minutes * 60 if args.minutes else None
        trainer.train(until=lambda: deadline is not None and time.monotonic() > deadline)
    console.print(f"model folder: {args.out / 'model'}")
    return 0
