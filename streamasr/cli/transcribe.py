"""Transcribe audio files to text, JSON or subtitles, by a daemon or in this process: ``streamasr transcribe``."""

from __future__ import annotations

import argparse
import asyncio
import errno
import functools
import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from streamasr.cli.audio_flags import CHANNEL_OF, Channels, add_audio_flags, audio_input
from streamasr.cli.cue_flags import add_cue_flags, cue_limits
from streamasr.cli.format_flag import add_written_flag
from streamasr.cli.hotword import add_hotword_flag
from streamasr.cli.output import write_stdout
from streamasr.cli.transcribe_manifest import DEFAULT_MODEL, add_manifest_flags, transcribe_manifest
from streamasr.config import BACKENDS, PRECISION_CHOICES, Backend, PrecisionChoice
from streamasr.cues import CueLimits
from streamasr.errors import ConfigError, StreamasrError
from streamasr.media.channels import channel_label
from streamasr.media.inputs import STDIN, AudioInput, stored
from streamasr.protocol.messages import Final, Partial, Start, Warning
from streamasr.subtitles import to_json, to_srt, to_text, to_vtt
from streamasr_client.audio import SoundFile
from streamasr_client.channels import WRITERS, Transcript, channels_to_json
from streamasr_client.connection import DEFAULT_URL
from streamasr_client.hotwords import describe_readings
from streamasr_client.transcription import transcribe_file

EXAMPLE = """streamasr transcribe interview.flac
streamasr transcribe --local --format srt --output subtitles/ *.wav
streamasr transcribe --channels each call.wav
arecord -f S16_LE -r 16000 -d 60 | streamasr transcribe -
streamasr transcribe --manifest calls.jsonl --out texts.jsonl"""

SUFFIXES = {"text": ".txt", "json": ".json", "srt": ".srt", "vtt": ".vtt"}
"""Suffixes of the output files, by format."""

Recogniser = Callable[[SoundFile, Callable[[int], None], Callable[[str], None]], list[Final]]
"""Takes a file, a callback for progress in milliseconds and one for notices, and returns the finals."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    parser.add_argument(
        "files",
        nargs="*",
        metavar="FILE",
        help="WAV, FLAC, Ogg, Opus, MP3; with ffmpeg also video, M4A and URLs; - for standard input",
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--url", default=DEFAULT_URL, help="the daemon's websocket (default: %(default)s)")
    where.add_argument("--local", action="store_true", help="recognise in this process, without a daemon")
    parser.add_argument(
        "--model", metavar="NAME|DIR", help=f"model without a daemon (default: {DEFAULT_MODEL})"
    )
    parser.add_argument(
        "--backend",
        choices=BACKENDS,
        default="auto",
        help="runtime without a daemon (default: %(default)s)",
    )
    parser.add_argument(
        "--precision",
        choices=PRECISION_CHOICES,
        default="auto",
        help="precision of a native encoder without a daemon (default: %(default)s)",
    )
    parser.add_argument("--token", metavar="TOKEN", help="the daemon's token, if it requires one")
    parser.add_argument(
        "--format", choices=tuple(SUFFIXES), default="text", help="output format (default: %(default)s)"
    )
    parser.add_argument(
        "--output",
        metavar="PATH",
        help="output file, or a folder; several FILEs need a folder (default: standard output)",
    )
    parser.add_argument(
        "--latency-ms",
        type=int,
        default=Start().latency_ms,
        metavar="N",
        help="chunk length in ms: longer is more accurate (default: %(default)s)",
    )
    add_audio_flags(parser)
    add_hotword_flag(parser)
    add_written_flag(parser)
    add_cue_flags(parser)
    add_manifest_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Recognise every file that can be read.

    Returns 1 if one could not be read, or was incomplete; else 0.
    """
    if args.manifest is not None:
        return transcribe_manifest(args)
    if not args.files:
        raise ConfigError("nothing to transcribe; name FILEs, or a manifest with --manifest")
    if args.out is not None:
        raise ConfigError("--out needs --manifest; for FILEs use --output")
    sources = [audio_input(args, text) for text in args.files]
    limits = cue_limits(args)
    _check(args, sources)
    start = Start(
        latency_ms=args.latency_ms, hotwords=tuple(args.hotword), token=args.token, format=args.text_format
    )
    recognise = (
        _local_recogniser(args.model, start, args.backend, args.precision)
        if args.local
        else _daemon_recogniser(args.url, start)
    )
    failed = 0
    shown: set[str] = set()
    with _progress() as progress:
        for source in sources:
            bar = progress.add_task(source.name, total=None)
            warnings: list[str] = []
            try:
                transcripts, incomplete = _transcribe(
                    source, args.channels, recognise, _Bar(progress, bar), warnings
                )
                failed += incomplete
                _write(args, source, transcripts, limits)
            except StreamasrError as error:
                failed += 1
                named = error.message.startswith(source.name)
                warnings.append(error.message if named else f"{source.name}: {error.message}")
            progress.remove_task(bar)
            for warning in dict.fromkeys(warnings):
                if warning in shown:
                    continue
                shown.add(warning)
                progress.console.print(warning, markup=False, highlight=False, soft_wrap=True)
    return 1 if failed else 0


def _transcribe(
    source: AudioInput,
    channels: Channels,
    recognise: Recogniser,
    bar: _Bar,
    warnings: list[str],
) -> tuple[list[Transcript], bool]:
    """Return the transcript of every wanted channel, and whether the audio was incomplete.

    Sentences about the audio are added to ``warnings``.
    """
    each = channels == "each"
    with stored(source) if source.is_pipe or (each and source.is_url) else nullcontext(source) as readable:
        numbers: list[int | None] = [0 if each else CHANNEL_OF[channels]]
        transcripts: list[Transcript] = []
        incomplete, done_ms = False, 0
        while numbers:
            number = numbers.pop(0)
            with SoundFile(readable, channel=number) as file:
                if each and not transcripts:
                    numbers = list(range(1, file.channels))
                stated_ms = file.duration_ms
                total_ms = None if stated_ms is None else done_ms + stated_ms * (len(numbers) + 1)
                try:
                    on_progress = functools.partial(_advance, bar, done_ms, total_ms)
                    finals = recognise(file, on_progress, warnings.append)
                finally:
                    warnings.extend(file.warnings)
                label = channel_label(number or 0, file.channels) if each else ""
                transcripts.append(Transcript(label, finals))
                incomplete = incomplete or file.incomplete_at_s is not None
                done_ms += stated_ms or 0
    return transcripts, incomplete


def _check(args: argparse.Namespace, sources: Sequence[AudioInput]) -> None:
    several = len(sources) > 1
    if args.model is not None and not args.local:
        raise ConfigError("--model needs --local: a daemon has its own model")
    if several and args.output is None and args.format in ("srt", "vtt"):
        raise ConfigError(
            f"several files make several {args.format} files; name a folder for them with --output"
        )
    if sum(source.source == STDIN for source in sources) > 1:
        raise ConfigError("standard input can be read only once: give - once")
    if args.output is None:
        return
    try:
        output = Path(args.output)
        (output if _is_folder(args) else output.parent).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--output {args.output}: cannot be made a folder: {error.strerror}") from None
    _check_targets(args, sources)


def _check_targets(args: argparse.Namespace, sources: Sequence[AudioInput]) -> None:
    """Refuse, before any work, to write two results into one file, one over an input, or one that would fail."""
    inputs = {path.resolve(): path for source in sources if (path := source.path) is not None}
    first_of: dict[Path, AudioInput] = {}
    for source in sources:
        target = _target(args, source)
        resolved = target.resolve()
        if target.is_dir() or not os.access(target if target.exists() else target.parent, os.W_OK):
            reason = errno.EISDIR if target.is_dir() else errno.EACCES
            raise ConfigError(f"{target}: cannot be written: {os.strerror(reason)}")
        if resolved in inputs:
            raise ConfigError(f"--output {args.output}: would overwrite the input {inputs[resolved]}")
        if resolved in first_of:
            raise ConfigError(
                f"{first_of[resolved].name} and {source.name} would both be written to {target}; "
                "transcribe them one by one, each with its own --output"
            )
        first_of[resolved] = source


def _is_folder(args: argparse.Namespace) -> bool:
    """Whether ``--output`` names a folder: for several FILEs, if it is one, or by its last slash."""
    return len(args.files) > 1 or args.output.endswith(os.sep) or Path(args.output).is_dir()


def _target(args: argparse.Namespace, source: AudioInput) -> Path:
    output = Path(args.output)
    return output / (source.stem + SUFFIXES[args.format]) if _is_folder(args) else output


def _progress() -> Progress:
    """Return progress bars on standard error, removed in the end; none if it is no terminal."""
    console = Console(stderr=True, emoji=False)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


@dataclass(frozen=True, slots=True)
class _Bar:
    """The progress bar of one input."""

    progress: Progress
    task: TaskID


def _advance(bar: _Bar, before_ms: int, total_ms: int | None, ms: int) -> None:
    bar.progress.update(bar.task, completed=before_ms + ms, total=total_ms)


def _daemon_recogniser(url: str, start: Start) -> Recogniser:
    def recognise(
        file: SoundFile, on_progress: Callable[[int], None], on_notice: Callable[[str], None]
    ) -> list[Final]:
        return asyncio.run(transcribe_file(url, start, file, on_progress=on_progress, on_notice=on_notice))

    return recognise


def _local_recogniser(
    model_name: str | None, start: Start, backend: Backend, precision: PrecisionChoice
) -> Recogniser:
    # Imported here: loading torch takes seconds, and clients of a daemon do not need it.
    from streamasr.engine.precision import resolve_precision
    from streamasr.recognition.hotwords import read_hotwords
    from streamasr.recognition.local import transcribe_blocks
    from streamasr.recognition.model import load_model

    name = model_name or DEFAULT_MODEL
    model = load_model(name, backend=backend, precision=resolve_precision(precision, name, backend=backend))
    readings = read_hotwords(start.hotwords, model).readings

    def recognise(
        file: SoundFile, on_progress: Callable[[int], None], on_notice: Callable[[str], None]
    ) -> list[Final]:
        finals = []
        if text := describe_readings(readings):
            on_notice(text)
        for message in transcribe_blocks(model, file.samples(model.sample_rate), start):
            if isinstance(message, (Partial, Final)):
                on_progress(message.end_ms)
            if isinstance(message, Final):
                finals.append(message)
            if isinstance(message, Warning):
                on_notice(message.message)
        return finals

    return recognise


def _write(
    args: argparse.Namespace, source: AudioInput, transcripts: Sequence[Transcript], limits: CueLimits
) -> None:
    several = len(args.files) > 1
    if args.channels == "each":
        if args.format == "json":
            text = channels_to_json(transcripts, file=source.name)
        else:
            text = WRITERS[args.format](transcripts, limits)
    else:
        finals = transcripts[0].finals
        match args.format:
            case "json":
                text = to_json(finals, file=source.name)
            case "srt":
                text = to_srt(finals, limits)
            case "vtt":
                text = to_vtt(finals, limits)
            case _:
                text = to_text(finals)
    if args.output is None:
        heading = f"== {source.name} ==\n" if several and args.format == "text" else ""
        write_stdout(heading + text)
        return
    target = _target(args, source)
    try:
        target.write_text(text, encoding="utf-8", errors="replace")
    except OSError as error:
        raise ConfigError(f"{target}: cannot be written: {error.strerror}") from None
