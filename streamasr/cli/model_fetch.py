"""Download a published checkpoint and convert it into a model folder: ``streamasr model fetch``."""

from __future__ import annotations

import argparse
from pathlib import Path

from streamasr.errors import ConfigError
from streamasr.nemo.hub import CHECKPOINTS, SUFFIX, default_cache, fetch_checkpoint, find_checkpoint


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "checkpoint",
        nargs="?",
        metavar="NAME",
        help="a known name, or OWNER/REPOSITORY; without it, list the known names",
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="model folder to write (default: NAME in the current folder)"
    )
    parser.add_argument(
        "--cache",
        type=Path,
        metavar="DIR",
        help="folder for downloads (default: streamasr/checkpoints in the user's cache folder)",
    )
    parser.add_argument(
        "--endpoint", metavar="URL", help="URL of the hub (default: HF_ENDPOINT, or https://huggingface.co)"
    )
    parser.add_argument(
        "--revision", default="main", metavar="NAME", help="branch, tag or commit (default: %(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    """List the known checkpoints, or download and convert one."""
    if args.checkpoint is None:
        for name, known in CHECKPOINTS.items():
            print(f"{name}\t{known.description}\t{known.licence}")
        return 0
    checkpoint = find_checkpoint(args.checkpoint)
    name = checkpoint.file.removesuffix(SUFFIX)
    out = args.out or Path(name)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out}: exists already and is not empty; name a new folder with --out")
    path = fetch_checkpoint(
        checkpoint, args.cache or default_cache(), endpoint=args.endpoint, revision=args.revision
    )
    from streamasr.nemo.convert import import_nemo

    imported = import_nemo(path, out, name=name, language=checkpoint.language)
    print(
        f"{imported.folder}: {imported.config.name}, from {checkpoint.repository}, licence {checkpoint.licence}"
    )
    return 0
