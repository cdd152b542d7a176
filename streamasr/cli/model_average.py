"""Average the weights of several models: ``streamasr model average``."""

from __future__ import annotations

import argparse
from pathlib import Path

from streamasr.errors import ConfigError, ModelError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the action's arguments."""
    parser.add_argument(
        "models",
        nargs="+",
        metavar="MODEL",
        help="model folder, packaged model or .safetensors file; all of the same architecture",
    )
    parser.add_argument(
        "--weights",
        type=_numbers,
        metavar="W,W,...",
        help="weight of each model, scaled to a sum of 1 (default: equal weights)",
    )
    parser.add_argument(
        "--pretrained",
        type=Path,
        metavar="FILE",
        help="also move the mean towards these weights, from which the models were fine-tuned",
    )
    parser.add_argument(
        "--pretrained-share",
        type=float,
        default=0.1,
        metavar="SHARE",
        help="their share of the result, 0 to 1 (default: %(default)s)",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help=".safetensors file to write")


def run(args: argparse.Namespace) -> int:
    """Write the average and print a summary."""
    from streamasr.training.averaging import Anchor, average_files

    if args.out.is_dir():
        raise ConfigError(f"{args.out}: is a folder; --out must name a .safetensors file")
    paths = [_weights_file(model) for model in args.models]
    anchor = None if args.pretrained is None else Anchor(args.pretrained, args.pretrained_share)
    average_files(paths, args.out, args.weights, anchor=anchor)
    moved = "" if anchor is None else f", with {anchor.share:.0%} of {anchor.path}"
    print(f"{args.out}: mean of {len(paths)} models{moved}")
    return 0


def _weights_file(model: str) -> Path:
    """The weights file of ``model``: the file itself, or that of a model folder."""
    from streamasr.recognition.backend import WEIGHTS_FILE
    from streamasr.recognition.model import resolve_model

    path = Path(model)
    if path.is_file():
        return path
    if path.suffix == ".safetensors":
        raise ModelError(f"{path}: no such weights file")
    return resolve_model(model) / WEIGHTS_FILE


def _numbers(text: str) -> list[float]:
    try:
        return [float(number) for number in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"must be numbers separated by commas, such as 0.5,0.5; got {text!r}"
        ) from None
