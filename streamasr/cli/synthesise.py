"""Implement ``streamasr synthesise``: make training speech from text with a synthetic voice."""

from __future__ import annotations

import argparse
from pathlib import Path

from streamasr.synthesis.sentences import ScriptConfig, script_lines
from streamasr.synthesis.synthesise import MANIFEST_FILE, SynthesisConfig, SynthesisProgress, synthesise
from streamasr.synthesis.voices import load_voice

EXAMPLE = "streamasr synthesise books.txt.gz talk.txt.gz --out made --voice piper:joe --hours 5"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    parser.add_argument(
        "texts",
        type=Path,
        nargs="+",
        metavar="TEXT",
        help="one sentence a line, plain or .gz, or a manifest (.jsonl) whose texts are used",
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder for audio files and manifest.jsonl; an interrupted run is resumed",
    )
    parser.add_argument(
        "--voice",
        default="piper:joe",
        metavar="VOICE",
        help="piper:joe, piper:PATH.onnx, hibari:heart or flite:awb, kal16, rms, slt (default: %(default)s)",
    )
    parser.add_argument(
        "--hours", type=float, default=1.0, help="hours of audio to make (default: %(default)s)"
    )
    parser.add_argument(
        "--seed", type=int, default=1, help="seed of sentences and styles (default: %(default)s)"
    )
    parser.add_argument(
        "--numbers",
        type=float,
        default=ScriptConfig.numbers,
        metavar="SHARE",
        help="share of sentences with many numbers (default: %(default)s)",
    )
    parser.add_argument(
        "--speeds",
        type=float,
        nargs=2,
        default=SynthesisConfig.speeds,
        metavar=("SLOW", "FAST"),
        help="range of speaking rates; 1 is the voice's own (default: %(default)s)",
    )
    parser.add_argument(
        "--format",
        choices=("opus", "flac"),
        default=SynthesisConfig.format,
        help="audio format (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Synthesise until the hours are reached or the sentences are used up."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    names = ", ".join(str(text) for text in args.texts)
    config = SynthesisConfig(
        voice=args.voice,
        source=f"{names}; numbers {args.numbers:g}",
        hours=args.hours,
        seed=args.seed,
        speeds=tuple(args.speeds),
        format=args.format,
    )
    sentences = script_lines(args.texts, ScriptConfig(seed=args.seed, numbers=args.numbers))
    voice = load_voice(args.voice)
    console = Console(stderr=True, emoji=False)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("synthesis", total=args.hours * 3600)

        def progress(done: SynthesisProgress) -> None:
            bar.update(task, completed=done.seconds, description=f"{done.seconds / 60:.1f} min of speech")

        done = synthesise(sentences, voice, args.out, config, progress)
    console.print(
        f"{done.sentences} sentences, {done.seconds / 3600:.2f} hours: {args.out / MANIFEST_FILE}",
        soft_wrap=True,
    )
    return 0
