"""Implement ``streamasr train``: run a recipe."""

from __future__ import annotations

import argparse
import signal
import time
from contextlib import nullcontext
from pathlib import Path
from threading import Event

EXAMPLE = "streamasr train en-small --data speech --out runs/en-small"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    parser.add_argument(
        "recipe", help="a TOML file or the name of a packaged recipe; docs/recipes.md lists the fields"
    )
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(),
        help="base folder of the recipe's relative paths (default: .)",
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of the run; an interrupted run is resumed"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 … (default: %(default)s)")
    parser.add_argument("--minutes", type=float, help="stop after this many minutes; the run can be resumed")
    parser.add_argument(
        "--threads",
        type=int,
        help="CPU threads of torch, and processes that decode speech (default: one per CPU)",
    )
    parser.add_argument(
        "--no-tensorboard", dest="tensorboard", action="store_false", help="do not write TensorBoard logs"
    )


def run(args: argparse.Namespace) -> int:
    """Train and write the model folder."""
    import torch

    from streamasr.cli.evaluate import progress_bar
    from streamasr.evaluation.run import evaluate_run
    from streamasr.training.config import load_recipe
    from streamasr.training.distributed import ProcessGroup
    from streamasr.training.monitoring.observers import open_observers
    from streamasr.training.trainer import Trainer

    if args.threads:
        torch.set_num_threads(args.threads)
    torch.set_float32_matmul_precision("high")
    config = load_recipe(args.recipe).rooted(args.data)
    group = ProcessGroup.from_environment(args.device)
    deadline = time.monotonic() + args.minutes * 60 if args.minutes else float("inf")
    observers = (
        open_observers(args.out, tensorboard=args.tensorboard)
        if group.is_first
        else nullcontext(_ignore_event)
    )
    with observers as emit:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        trainer = Trainer(config, args.out, group, emit, decode_workers=args.threads)
        stop_requested = _request_stop_on_signal()
        finished = trainer.train(until=lambda: stop_requested.is_set() or time.monotonic() > deadline)
    group.close()
    if group.is_first:
        _restore_signal_handlers()
        if finished:
            evaluate_run(args.out, config.data.dev_manifests, str(group.device), progress_bar)
        print(f"model folder: {args.out / 'model'}")
    return 0


def _request_stop_on_signal() -> Event:
    """Make Ctrl-C and SIGTERM end the run after the current step, with a checkpoint."""
    stop_requested = Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop_requested.set())
    return stop_requested


def _restore_signal_handlers() -> None:
    """Restore Ctrl-C and SIGTERM: after training there is nothing left to save."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _ignore_event(_: object) -> None:
    """Ignore events, in every process but the first."""
