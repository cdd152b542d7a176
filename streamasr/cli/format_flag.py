"""Add the flag ``--written`` to commands that recognise speech."""

from __future__ import annotations

import argparse


def add_written_flag(parser: argparse.ArgumentParser) -> None:
    """Add ``--written``; it sets ``args.text_format``, the ``format`` of ``start``."""
    parser.add_argument(
        "--written",
        dest="text_format",
        action="store_const",
        const="written",
        default="plain",
        help="write capitals, punctuation and digits instead of bare words as spoken",
    )
