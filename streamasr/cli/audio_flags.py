"""Define the flags that `transcribe` and `listen` share for what they read, and check them."""

from __future__ import annotations

import argparse
from typing import Literal, get_args

from streamasr.errors import ConfigError
from streamasr.media.ffmpeg import READ_TIMEOUT_S
from streamasr.media.inputs import AudioInput, parse_input
from streamasr.media.pcm import RAW_ENCODINGS, RawFormat

Channels = Literal["mix", "left", "right", "each"]
CHANNELS: tuple[Channels, ...] = get_args(Channels)
CHANNEL_OF: dict[Channels, int | None] = {"mix": None, "left": 0, "right": 1}
"""Flag to the channel that is taken, counted from 0; ``each`` takes all of them in turn."""


def add_audio_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags for channels, raw audio and URLs."""
    parser.add_argument(
        "--channels",
        choices=CHANNELS,
        default="mix",
        help="mix all channels, take one, or recognise each on its own and label it (default %(default)s)",
    )
    parser.add_argument(
        "--rate", type=int, metavar="HZ", help="the input is raw PCM of this rate, without a header"
    )
    parser.add_argument(
        "--encoding",
        choices=RAW_ENCODINGS,
        help="encoding of raw PCM (default pcm_s16le)",
    )
    parser.add_argument(
        "--raw-channels", type=int, metavar="N", help="interleaved channels of raw PCM (default 1)"
    )
    parser.add_argument(
        "--read-timeout",
        type=float,
        default=READ_TIMEOUT_S,
        metavar="S",
        help="give up on a URL after this many seconds without data (default %(default)s)",
    )


def audio_input(args: argparse.Namespace, text: str) -> AudioInput:
    """Return the input that ``text`` names, with the flags.

    Raises:
        ConfigError: flags that do not fit together, or a value out of range.
        DataError: a URL of a kind that is not read.
    """
    if not args.read_timeout > 0:
        raise ConfigError(f"--read-timeout must be positive, got {args.read_timeout:g}")
    raw = None
    if args.rate is not None:
        raw = RawFormat(args.rate, args.encoding or "pcm_s16le", args.raw_channels or 1)
    elif args.encoding is not None or args.raw_channels is not None:
        raise ConfigError("--encoding and --raw-channels describe raw PCM: give its --rate, too")
    return parse_input(text, raw=raw, read_timeout_s=args.read_timeout)
