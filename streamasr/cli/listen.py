"""Show live captions of a microphone in the terminal: ``streamasr listen``."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
from pathlib import Path

from rich.console import Console

from streamasr.cli.audio_flags import CHANNEL_OF, add_audio_flags, audio_input
from streamasr.cli.cue_flags import add_cue_flags, cue_limits
from streamasr.cli.format_flag import add_written_flag
from streamasr.cli.hotword import add_hotword_flag
from streamasr.errors import ConfigError
from streamasr.protocol.messages import Start
from streamasr_client.audio import PacedFile
from streamasr_client.connection import DEFAULT_URL
from streamasr_client.devices import list_devices, load_portaudio
from streamasr_client.microphone import Microphone
from streamasr_client.saving import SavedCaptions
from streamasr_client.split import SplitFile
from streamasr_client.terminal import open_channel_views, open_view, show_captions, show_channels

EXAMPLE = """streamasr listen
streamasr listen --device usb --latency-ms 320 --hotword Scheveningen:12 --save meeting.srt
streamasr listen --file talk.flac"""

Consoles = tuple[Console, Console]
"""Standard output and standard error."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    parser.add_argument("--url", default=DEFAULT_URL, help="the daemon's websocket (default: %(default)s)")
    parser.add_argument("--token", metavar="TOKEN", help="the daemon's token, if it requires one")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--device", metavar="DEVICE", help="microphone: its number, its name or a part of it")
    source.add_argument(
        "--file",
        metavar="FILE",
        help="play an audio file or a URL instead of a microphone; - for a pipe with WAV or raw PCM",
    )
    parser.add_argument("--list-devices", action="store_true", help="list the microphones and exit")
    parser.add_argument(
        "--latency-ms",
        type=int,
        default=Start().latency_ms,
        metavar="N",
        help="chunk length in ms: shorter is faster, longer is more accurate (default: %(default)s)",
    )
    add_audio_flags(parser)
    add_hotword_flag(parser)
    add_written_flag(parser)
    add_cue_flags(parser)
    parser.add_argument(
        "--save",
        type=Path,
        metavar="FILE",
        help="also write the captions to a .srt, .vtt or .txt file, or onto the end of a pipe",
    )


def run(args: argparse.Namespace) -> int:
    """Show captions until the source ends or Ctrl-C is pressed; return the exit status."""
    out, err = Console(emoji=False), Console(stderr=True, emoji=False)
    if args.list_devices:
        for device in list_devices(load_portaudio()):
            out.print(str(device), markup=False, highlight=False, soft_wrap=True)
        return 0
    start = Start(
        latency_ms=args.latency_ms, hotwords=tuple(args.hotword), token=args.token, format=args.text_format
    )
    if args.file is None and (args.channels != "mix" or args.rate is not None):
        raise ConfigError("--channels and --rate are for --file; a microphone is recorded as one channel")
    limits = cue_limits(args)
    with contextlib.ExitStack() as opened:
        # The source comes first: if it cannot be used, the file of --save stays as it was.
        source: Microphone | PacedFile | SplitFile
        if args.file is None:
            source = Microphone(args.device)
        elif args.channels == "each":
            source = opened.enter_context(contextlib.closing(SplitFile(audio_input(args, args.file))))
        else:
            channel = CHANNEL_OF[args.channels]
            source = PacedFile(audio_input(args, args.file), channel=channel)
            opened.enter_context(source.file)
        save = None
        if args.save:
            _check_save(args)
            save = SavedCaptions(args.save, limits, channels_apart=args.channels == "each")
            opened.enter_context(save)
        if isinstance(source, SplitFile):
            complete = _show_channels(args.url, start, source, save, (out, err))
        else:
            complete = _show(args.url, start, source, save, (out, err))
        if save and (problem := save.finish()):
            _print_warnings([problem], err)
    return 0 if complete and not (save and save.failed) else 1


def _check_save(args: argparse.Namespace) -> None:
    """Refuse to write captions over the input."""
    path = audio_input(args, args.file).path if args.file is not None else None
    if path is not None and args.save.resolve() == path.resolve():
        raise ConfigError(f"--save {args.save}: would overwrite the input")


def _show(
    url: str, start: Start, source: Microphone | PacedFile, save: SavedCaptions | None, consoles: Consoles
) -> bool:
    """Show the captions of a microphone or a file; return whether a file was complete."""
    microphone = source if isinstance(source, Microphone) else None
    try:
        with open_view(*consoles) as view:
            if microphone:
                microphone.on_problem = view.show_microphone
            asyncio.run(
                show_captions(
                    url,
                    start,
                    source,
                    view,
                    save=save,
                    overruns=lambda: microphone.overruns if microphone else 0,
                )
            )
    finally:
        if isinstance(source, PacedFile):
            _print_warnings(source.file.warnings, consoles[1])
    return isinstance(source, Microphone) or source.file.incomplete_at_s is None


def _show_channels(
    url: str, start: Start, split: SplitFile, save: SavedCaptions | None, consoles: Consoles
) -> bool:
    """Show the captions of each channel of a file; return whether the file was complete."""
    try:
        with open_channel_views(list(split.channels), *consoles) as views:
            asyncio.run(show_channels(url, start, split, views, save=save))
    finally:
        _print_warnings(split.warnings, consoles[1])
    return split.incomplete_at_s is None


def _print_warnings(warnings: list[str], err: Console) -> None:
    for warning in warnings:
        err.print(warning, markup=False, highlight=False, soft_wrap=True)
