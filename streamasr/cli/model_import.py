"""Convert a NeMo checkpoint into a model folder: ``streamasr model import-nemo``."""

from __future__ import annotations

import argparse
from pathlib import Path

from streamasr.errors import ConfigError

GIGABYTE = 1024**3
DEFAULT_MAX_GB = 16.0
"""Unpacked size of all members of an archive together."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "file", type=Path, metavar="FILE.nemo", help="checkpoint of a streaming FastConformer"
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="model folder to write")
    parser.add_argument(
        "--frontend",
        choices=("auto", "legacy", "current"),
        default="auto",
        help="front end of NeMo up to 2.4 (legacy) or later (current); auto uses the version in the file",
    )
    parser.add_argument("--name", metavar="NAME", help="name of the model (default: the file's name)")
    parser.add_argument(
        "--language",
        default="en",
        metavar="TAG",
        help="language of the model, for example en or zh (default: %(default)s)",
    )
    parser.add_argument(
        "--max-gb",
        type=float,
        default=DEFAULT_MAX_GB,
        metavar="N",
        help="refuse a file that unpacks to more (default: %(default)g)",
    )


def run(args: argparse.Namespace) -> int:
    """Convert the checkpoint and describe the model."""
    from streamasr.framing import framing_of
    from streamasr.nemo.archive import ArchiveLimits
    from streamasr.nemo.convert import import_nemo
    from streamasr.units import samples_to_ms

    if not args.max_gb > 0:
        raise ConfigError(f"--max-gb must be positive, got {args.max_gb}")
    imported = import_nemo(
        args.file,
        args.out,
        generation=None if args.frontend == "auto" else args.frontend,
        name=args.name,
        language=args.language,
        limits=ArchiveLimits(total_bytes=round(args.max_gb * GIGABYTE)),
    )
    config, version = imported.config, imported.model.version or "no version"
    frame_samples = framing_of(config.frontend, config.encoder).frame_samples
    sizes = [size * frame_samples for size in config.encoder.chunk_frames]
    latencies = ", ".join(str(samples_to_ms(size, config.frontend.sample_rate)) for size in sizes)
    print(
        f"{imported.folder}: {config.name}, {imported.model.kind} of {version}, "
        f"{imported.model.frontend.generation} front end, latencies of {latencies} ms"
    )
    return 0
