"""Implement ``streamasr model``: list and inspect models, and write the model card."""

from __future__ import annotations

import argparse
from pathlib import Path

from streamasr.acoustic.in_place import instructions
from streamasr.cli import (
    model_average,
    model_calibrate,
    model_export,
    model_fetch,
    model_import,
    model_logits,
)
from streamasr.engine.precision import resolve_precision
from streamasr.recognition.backend import GRAPH_FILE, uses_native_step
from streamasr.recognition.model import (
    CARD_FILE,
    packaged_models,
    pick_device,
    read_model_config,
    resolve_model,
)
from streamasr.report.card import write_card
from streamasr.report.results import read_evaluation
from streamasr.toml import to_toml

EXAMPLE = """\
streamasr model list
streamasr model info en-small
streamasr model card models/mine --from evaluation.json
streamasr model average runs/a/model runs/b/model --weights 0.5,0.5 --out models/mine/model.safetensors
streamasr model calibrate --model models/mine --manifest dev/manifest.jsonl --write
streamasr model export models/mine models/mine --onnx
streamasr model fetch stt_en_fastconformer_hybrid_large_streaming_multi --out models/fastconformer
streamasr model import-nemo stt_en_fastconformer_hybrid_large_streaming_multi.nemo models/fastconformer
streamasr model logits models/fastconformer speech.wav speech.npz --latency-ms 560"""

_ACTIONS = {
    "average": model_average,
    "calibrate": model_calibrate,
    "export": model_export,
    "fetch": model_fetch,
    "import-nemo": model_import,
    "logits": model_logits,
}
"""Actions that have their own modules."""
CARD_LINES = 12
"""Lines of the model card that ``info`` shows."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    commands = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    commands.add_parser("list", help="list the packaged models")
    info = commands.add_parser("info", help="show configuration, files and card of a model")
    info.add_argument("model", metavar="DIR|NAME", help="model folder or packaged model")
    card = commands.add_parser("card", help="write measurements into the model card")
    card.add_argument("folder", metavar="DIR", help="model folder")
    card.add_argument(
        "--from",
        dest="evaluations",
        type=Path,
        nargs="+",
        required=True,
        metavar="FILE",
        help="output of `streamasr evaluate --json`; later files replace equal measurements",
    )
    model_average.add_arguments(commands.add_parser("average", help="average the weights of several models"))
    model_calibrate.add_arguments(
        commands.add_parser("calibrate", help="calibrate the word confidences of a model")
    )
    model_export.add_arguments(
        commands.add_parser("export", help="export the encoder to ONNX and check it against the model")
    )
    model_fetch.add_arguments(commands.add_parser("fetch", help="download and import a published checkpoint"))
    model_import.add_arguments(
        commands.add_parser("import-nemo", help="import a NeMo checkpoint as a model folder")
    )
    model_logits.add_arguments(
        commands.add_parser("logits", help="write the mel frames and log-probs of a recording")
    )


def run(args: argparse.Namespace) -> int:
    """Run the action."""
    if args.action in _ACTIONS:
        return int(_ACTIONS[args.action].run(args))
    if args.action == "list":
        for name, folder in packaged_models().items():
            print(f"{name}\t{folder}")
        return 0
    if args.action == "card":
        config = read_model_config(Path(args.folder))
        print(
            write_card(Path(args.folder), [read_evaluation(path) for path in args.evaluations], config.name)
        )
        return 0
    folder = resolve_model(args.model)
    config = read_model_config(folder)
    print(f"{config.name}: {folder}\n")
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        print(f"{_size(path):>10}  {path.name}")
    print(f"\nruns here with: {_arithmetic(folder)}")
    print(f"\n{to_toml(config)}")
    print(_card(folder / CARD_FILE))
    return 0


def _arithmetic(folder: Path) -> str:
    """What the daemon computes the model's encoder with on this machine, by default."""
    device = pick_device("auto")
    if not uses_native_step(folder, device, "auto"):
        graph = device.type == "cpu" and (folder / GRAPH_FILE).is_file()
        return "ONNX Runtime" if graph else f"PyTorch on {device}"
    return f"native step, {resolve_precision('auto', folder)} ({instructions()})"


def _size(path: Path) -> str:
    size = path.stat().st_size
    if size < 1_000:
        return f"{size} B"
    return f"{size / 1e3:.1f} kB" if size < 1_000_000 else f"{size / 1e6:.1f} MB"


def _card(path: Path) -> str:
    """The first lines of the model card."""
    if not path.is_file():
        return f"no model card ({path.name})"
    lines = path.read_text(encoding="utf-8").strip().splitlines()
    rest = len(lines) - CARD_LINES
    return "\n".join(lines[:CARD_LINES] + ([f"… {rest} more lines in {path}"] if rest > 0 else []))
