"""The flag ``--written``, shared by the commands that recognise speech."""

from __future__ import annotations

import argparse


def add_written_flag(parser: argparse.ArgumentParser) -> None:
    """Declare ``--written``; ``args.text_format`` is a ``start`` message's ``format``."""
    parser.add_argument(
        "--written",
        dest="text_format",
        action="store_const",
        const="written",
        default="plain",
        help="write capitals and digits instead of words as they are said (English)",
    )
