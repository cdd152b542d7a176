"""Parse hotwords of the form ``TEXT[:BOOST]`` on the command line."""

from __future__ import annotations

import argparse

from streamasr.protocol.limits import DEFAULT_LIMITS
from streamasr.protocol.messages import HotwordSpec


def add_hotword_flag(parser: argparse.ArgumentParser) -> None:
    """Add ``--hotword`` to a command that recognises speech."""
    parser.add_argument(
        "--hotword",
        action="append",
        type=parse_hotword,
        default=[],
        metavar="TEXT[:BOOST]",
        help="a word or phrase to favour; may be repeated",
    )


def parse_hotword(argument: str) -> HotwordSpec:
    """Parse ``Scheveningen`` or ``Scheveningen:12``; a number after the last colon is the boost.

    Raises:
        ArgumentTypeError: the text is empty or too long, or the boost is out of range.
    """
    text, colon, number = argument.rpartition(":")
    boost = None
    if colon:
        try:
            boost = float(number)
        except ValueError:
            text = argument
    else:
        text = argument
    text = text.strip()
    if not text or len(text) > DEFAULT_LIMITS.hotword_chars:
        raise argparse.ArgumentTypeError(
            f"{argument!r}: expected TEXT or TEXT:BOOST, "
            f"TEXT of 1 to {DEFAULT_LIMITS.hotword_chars} characters"
        )
    if boost is not None and boost not in DEFAULT_LIMITS.boost:
        raise argparse.ArgumentTypeError(f"{argument!r}: the boost must be {DEFAULT_LIMITS.boost}")
    return HotwordSpec(text=text, boost=boost)
