"""Write the report page of a training run: ``streamasr report``."""

from __future__ import annotations

import argparse
from pathlib import Path

EXAMPLE = "streamasr report runs/en-small --out report.html"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("folder", type=Path, metavar="RUN", help="folder of a run of `streamasr train`")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="HTML file to write (default: RUN/report.html)"
    )


def run(args: argparse.Namespace) -> int:
    """Write the page and print its path."""
    from streamasr.training.monitoring.run_page import write_page

    print(write_page(args.folder, args.out))
    return 0
