"""``streamasr transcribe``: sound files to text, JSON or subtitles, through a daemon or in this process."""

from __future__ import annotations

import argparse
import asyncio
import functools
import sys
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from streamasr.cli.format_flag import add_written_flag
from streamasr.cli.hotword import add_hotword_flag
from streamasr.config import BACKENDS, Backend
from streamasr.errors import ConfigError, StreamasrError
from streamasr.protocol.messages import Final, Partial, Start
from streamasr_client.audio import SoundFile
from streamasr_client.connection import DEFAULT_URL
from streamasr_client.subtitles import to_json, to_srt, to_text, to_vtt
from streamasr_client.transcription import transcribe_file

EXAMPLE = """streamasr transcribe interview.flac
streamasr transcribe --local --format srt --output subtitles/ *.wav"""

DEFAULT_MODEL = "en-small"
"""Packaged model of ``--local``."""
SUFFIXES = {"text": ".txt", "json": ".json", "srt": ".srt", "vtt": ".vtt"}
"""Format to the suffix of the files written."""

Recogniser = Callable[[SoundFile, Callable[[int], None]], list[Final]]
"""A file, and who wants to know of milliseconds done, to its finals."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="WAV, FLAC, Ogg, Opus or MP3")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--url", default=DEFAULT_URL, help="the daemon's stream (default %(default)s)")
    where.add_argument("--local", action="store_true", help="recognise in this process, without a daemon")
    parser.add_argument("--model", metavar="NAME|DIR", help=f"model for --local (default {DEFAULT_MODEL})")
    parser.add_argument(
        "--backend", choices=BACKENDS, default="auto", help="what computes with --local (default %(default)s)"
    )
    parser.add_argument("--token", metavar="TOKEN", help="the daemon's token, where it asks for one")
    parser.add_argument("--format", choices=tuple(SUFFIXES), default="text", help="default %(default)s")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="PATH",
        help="a file; a folder for several FILEs (default: standard output)",
    )
    parser.add_argument(
        "--latency-ms",
        type=int,
        default=Start().latency_ms,
        metavar="N",
        help="audio per step: larger is more accurate (default %(default)s)",
    )
    add_hotword_flag(parser)
    add_written_flag(parser)


def run(args: argparse.Namespace) -> int:
    """Recognise every file that can be; returns 1 if one could not."""
    _check(args)
    start = Start(
        latency_ms=args.latency_ms, hotwords=tuple(args.hotword), token=args.token, format=args.text_format
    )
    recognise = _local(args.model, start, args.backend) if args.local else _daemon(args.url, start)
    failed = 0
    with _progress() as progress:
        for path in args.files:
            bar = progress.add_task(path.name, total=None)
            try:
                file = SoundFile(path)
                progress.update(bar, total=file.duration_ms)
                finals = recognise(file, functools.partial(_advance, progress, bar))
                _write(args, path, finals)
                progress.update(bar, total=file.duration_ms, completed=file.duration_ms)
            except StreamasrError as error:
                failed += 1
                progress.console.print(
                    f"{path}: {error.message}", markup=False, highlight=False, soft_wrap=True
                )
    return 1 if failed else 0


def _check(args: argparse.Namespace) -> None:
    several = len(args.files) > 1
    if args.model is not None and not args.local:
        raise ConfigError("--model needs --local: a daemon has its own model")
    if several and args.output is None and args.format in ("srt", "vtt"):
        raise ConfigError(
            f"several files make several {args.format} files; name a folder for them with --output"
        )
    if args.output is None:
        return
    try:
        (args.output if several else args.output.parent).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--output {args.output}: cannot be made a folder: {error.strerror}") from None


def _progress() -> Progress:
    """Bars on standard error, gone when done; nothing where that is no terminal."""
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def _advance(progress: Progress, bar: TaskID, ms: int) -> None:
    progress.update(bar, completed=ms)


def _daemon(url: str, start: Start) -> Recogniser:
    def recognise(file: SoundFile, on_progress: Callable[[int], None]) -> list[Final]:
        return asyncio.run(transcribe_file(url, start, file, on_progress=on_progress))

    return recognise


def _local(model_name: str | None, start: Start, backend: Backend) -> Recogniser:
    # imported here: torch takes seconds, and a daemon's client needs none of it
    from streamasr.recognition.local import transcribe_file as transcribe_locally
    from streamasr.recognition.model import load_model

    model = load_model(model_name or DEFAULT_MODEL, backend=backend)

    def recognise(file: SoundFile, on_progress: Callable[[int], None]) -> list[Final]:
        finals = []
        for message in transcribe_locally(model, file.path, start):
            if isinstance(message, (Partial, Final)):
                on_progress(message.end_ms)
            if isinstance(message, Final):
                finals.append(message)
        return finals

    return recognise


def _write(args: argparse.Namespace, path: Path, finals: list[Final]) -> None:
    several = len(args.files) > 1
    if args.format == "json":
        text = to_json(finals, file=str(path))
    else:
        text = {"text": to_text, "srt": to_srt, "vtt": to_vtt}[args.format](finals)
    if args.output is None:
        if several and args.format == "text":
            sys.stdout.write(f"== {path} ==\n")
        sys.stdout.write(text)
        sys.stdout.flush()
        return
    target = args.output / (path.stem + SUFFIXES[args.format]) if several else args.output
    try:
        target.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{target}: cannot be written: {error.strerror}") from None
