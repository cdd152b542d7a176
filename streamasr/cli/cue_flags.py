"""Add the flags for the size of subtitles, which `transcribe` and `listen` share."""

from __future__ import annotations

import argparse
import math

from streamasr.cues import DEFAULT_LIMITS, CueLimits
from streamasr.units import MS_PER_SECOND


def add_cue_flags(parser: argparse.ArgumentParser) -> None:
    """Add ``--max-line-chars``, ``--max-lines`` and ``--max-cue-seconds``."""
    parser.add_argument(
        "--max-line-chars",
        type=int,
        default=DEFAULT_LIMITS.line_chars,
        metavar="N",
        help="subtitles: most characters of a line (default: %(default)s)",
    )
    parser.add_argument(
        "--max-lines",
        type=int,
        default=DEFAULT_LIMITS.lines,
        metavar="N",
        help="subtitles: most lines of a cue (default: %(default)s)",
    )
    parser.add_argument(
        "--max-cue-seconds",
        type=_seconds,
        default=DEFAULT_LIMITS.cue_ms / MS_PER_SECOND,
        metavar="S",
        help="subtitles: longest duration of a cue (default: %(default)g)",
    )


def cue_limits(args: argparse.Namespace) -> CueLimits:
    """Return the limits that the flags set.

    Raises:
        ConfigError: a value is out of range; the message begins with the flag.
    """
    return CueLimits(
        line_chars=args.max_line_chars,
        lines=args.max_lines,
        cue_ms=round(args.max_cue_seconds * MS_PER_SECOND),
    )


def _seconds(argument: str) -> float:
    try:
        seconds = float(argument)
    except ValueError:
        seconds = math.nan
    if not math.isfinite(seconds):
        raise argparse.ArgumentTypeError(f"{argument!r}: expected a number of seconds")
    return seconds
