"""``streamasr model``: what a model folder holds, and which models travel with the package."""

from __future__ import annotations

import argparse
from pathlib import Path

from streamasr.config import to_toml
from streamasr.engine.model import CARD_FILE, packaged_models, read_model_config, resolve_model

EXAMPLE = """\
streamasr model list
streamasr model info en-small"""

CARD_LINES = 12
"""Lines of the model card that ``info`` shows."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    commands = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    commands.add_parser("list", help="models that travel with the package")
    info = commands.add_parser("info", help="configuration, files and card of a model")
    info.add_argument("model", metavar="DIR|NAME", help="model folder or packaged model")


def run(args: argparse.Namespace) -> int:
    """Print what was asked for."""
    if args.action == "list":
        for name, folder in packaged_models().items():
            print(f"{name}\t{folder}")
        return 0
    folder = resolve_model(args.model)
    config = read_model_config(folder)
    print(f"{config.name}: {folder}\n")
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        print(f"{_size(path):>10}  {path.name}")
    print(f"\n{to_toml(config)}")
    print(_card(folder / CARD_FILE))
    return 0


def _size(path: Path) -> str:
    size = path.stat().st_size
    if size < 1_000:
        return f"{size} B"
    return f"{size / 1e3:.1f} kB" if size < 1_000_000 else f"{size / 1e6:.1f} MB"


def _card(path: Path) -> str:
    """The beginning of the model card."""
    if not path.is_file():
        return f"no model card ({path.name})"
    lines = path.read_text(encoding="utf-8").strip().splitlines()
    rest = len(lines) - CARD_LINES
    return "\n".join(lines[:CARD_LINES] + ([f"… {rest} more lines in {path}"] if rest > 0 else []))
