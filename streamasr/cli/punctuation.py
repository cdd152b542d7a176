"""Implement ``streamasr punctuation``: train and measure models that write capitals and punctuation."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

EXAMPLE = """\
streamasr punctuation train books.txt.gz talk.txt --out models/mine
streamasr punctuation evaluate dev.txt --model models/mine"""

_TEXT_HELP = "written text, one paragraph or sentence a line, UTF-8, plain or .gz"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    commands = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    train = commands.add_parser("train", help="train punctuation.safetensors of a model folder")
    train.add_argument("texts", metavar="TEXT", nargs="+", type=Path, help=_TEXT_HELP)
    train.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder to write to, usually a model folder"
    )
    train.add_argument(
        "--language", metavar="TAG", help="language of the text (default: that of the model in --out, or en)"
    )
    train.add_argument("--epochs", type=int, default=6, metavar="N", help="passes over the text (default: 6)")
    train.add_argument(
        "--minutes",
        type=float,
        default=60.0,
        metavar="M",
        help="end after M minutes at the latest (default: 60)",
    )
    train.add_argument("--threads", type=int, default=2, metavar="N", help="CPU threads (default: 2)")
    train.add_argument("--seed", type=int, default=0, metavar="N", help="default: 0")

    evaluate = commands.add_parser("evaluate", help="measure the F1 of marks and capitals on written text")
    evaluate.add_argument("texts", metavar="TEXT", nargs="+", type=Path, help=_TEXT_HELP)
    evaluate.add_argument(
        "--model", default="en-small", metavar="DIR", help="model folder or name (default: en-small)"
    )
    evaluate.add_argument(
        "--joined",
        action="store_true",
        help="the lines are one utterance: the model is not told where they end",
    )
    evaluate.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Run the action."""
    return _train(args) if args.action == "train" else _evaluate(args)


def _train(args: argparse.Namespace) -> int:
    from streamasr.cli.training_bar import training_bar
    from streamasr.punctuation.model_file import PUNCTUATION_FILE
    from streamasr.punctuation.training import TrainConfig, TrainingProgress, train

    config = TrainConfig(
        language=args.language or _language_of(args.out),
        epochs=args.epochs,
        minutes=args.minutes,
        threads=args.threads,
        seed=args.seed,
    )
    path = args.out / PUNCTUATION_FILE
    with training_bar() as bar:

        def report(progress: TrainingProgress) -> None:
            bar.update(progress)
            if progress.validation is not None:
                scores = ", ".join(f"{name} {value:.3f}" for name, value in progress.validation.items())
                bar.console.print(
                    f"step {progress.step}: loss {progress.loss:.3f}; F1 on held-out lines: {scores}"
                )

        train(args.texts, path, config, report=report)
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
    return 0


def _evaluate(args: argparse.Namespace) -> int:
    from streamasr.errors import ModelError
    from streamasr.punctuation.corpus import read_lines
    from streamasr.punctuation.loading import load_punctuator
    from streamasr.punctuation.model_file import PUNCTUATION_FILE
    from streamasr.punctuation.scoring import score, write_by_model
    from streamasr.recognition.model import read_model_config, resolve_model

    folder = resolve_model(args.model)
    config = read_model_config(folder)
    punctuator = load_punctuator(folder, config.punctuation)
    if punctuator is None:
        raise ModelError(f"{folder / PUNCTUATION_FILE}: missing; `streamasr punctuation train` writes one")
    scores = score(read_lines(args.texts), config.language, write_by_model(punctuator, joined=args.joined))
    if args.json:
        figures = {
            name: {
                "f1": counts.f1,
                "precision": counts.precision,
                "recall": counts.recall,
                "places": counts.expected,
            }
            for name, counts in scores.counts.items()
        }
        print(json.dumps({"words": scores.words, "scores": figures}))
        return 0
    print(f"{scores.words} words")
    print(f"{'':26}{'F1':>7}{'precision':>11}{'recall':>8}{'places':>8}")
    for name, counts in scores.counts.items():
        print(f"{name:26}{counts.f1:7.3f}{counts.precision:11.3f}{counts.recall:8.3f}{counts.expected:8}")
    return 0


def _language_of(folder: Path) -> str:
    from streamasr.config import ModelConfig
    from streamasr.toml import load_toml

    path = folder / "config.toml"
    return load_toml(ModelConfig, path).language if path.is_file() else "en"
