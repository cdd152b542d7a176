"""``streamasr listen``: flags to a live stream of captions."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
from pathlib import Path

from rich.console import Console

from streamasr.cli.format_flag import add_written_flag
from streamasr.cli.hotword import add_hotword_flag
from streamasr.errors import ConfigError
from streamasr.protocol.messages import Start
from streamasr_client.audio import AudioSource, PacedFile
from streamasr_client.connection import DEFAULT_URL
from streamasr_client.microphone import Microphone, list_devices, load_portaudio
from streamasr_client.subtitles import SubtitleFile
from streamasr_client.terminal import open_view, show_captions

EXAMPLE = """streamasr listen
streamasr listen --device usb --latency-ms 320 --hotword Scheveningen:12 --save meeting.srt"""

SAVE_FORMS = ("srt", "vtt", "txt")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    parser.add_argument("--url", default=DEFAULT_URL, help="the daemon's stream (default %(default)s)")
    parser.add_argument("--token", metavar="TOKEN", help="the daemon's token, where it asks for one")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--device", metavar="DEVICE", help="microphone, by number or a part of its name")
    source.add_argument("--file", type=Path, metavar="FILE", help="play a sound file instead of a microphone")
    parser.add_argument("--list-devices", action="store_true", help="print the microphones and leave")
    parser.add_argument(
        "--latency-ms",
        type=int,
        default=Start().latency_ms,
        metavar="N",
        help="audio per step: smaller is faster, larger more accurate (default %(default)s)",
    )
    add_hotword_flag(parser)
    add_written_flag(parser)
    parser.add_argument(
        "--save",
        type=Path,
        metavar="FILE",
        help="write the captions too; .srt, .vtt or .txt, replaced if it is there",
    )


def run(args: argparse.Namespace) -> int:
    """Listen until the source ends or Ctrl-C; returns the exit status."""
    out, err = Console(), Console(stderr=True)
    if args.list_devices:
        for device in list_devices(load_portaudio()):
            out.print(str(device), markup=False, highlight=False, soft_wrap=True)
        return 0
    start = Start(
        latency_ms=args.latency_ms, hotwords=tuple(args.hotword), token=args.token, format=args.text_format
    )
    with contextlib.ExitStack() as stack:
        save = _open_save(args.save, stack) if args.save else None
        microphone = None if args.file else Microphone(args.device)
        source: AudioSource = microphone or PacedFile(args.file)
        view = stack.enter_context(open_view(out, err))
        asyncio.run(
            show_captions(
                args.url,
                start,
                source,
                view,
                save=save,
                overruns=lambda: microphone.overruns if microphone else 0,
            )
        )
    return 0


def _open_save(path: Path, stack: contextlib.ExitStack) -> SubtitleFile:
    form = path.suffix.removeprefix(".").lower()
    if form not in SAVE_FORMS:
        endings = ", ".join(f".{form}" for form in SAVE_FORMS)
        raise ConfigError(f"--save {path}: the name must end in one of {endings}")
    try:
        file = stack.enter_context(path.open("w", encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"--save {path}: cannot be written: {error.strerror}") from None
    return SubtitleFile(file, form)
