"""Transcribe the files of a manifest: ``streamasr transcribe --manifest IN.jsonl --out OUT.jsonl``."""

from __future__ import annotations

import argparse
import contextlib
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bars

from streamasr.cli.audio_flags import CHANNEL_OF, audio_input
from streamasr.errors import ConfigError
from streamasr.media.inputs import AudioInput
from streamasr.protocol.messages import Start

if TYPE_CHECKING:
    from streamasr.bulk.recogniser import Outcome
    from streamasr.bulk.results import ResultsFile
    from streamasr.bulk.rows import Rows
    from streamasr.bulk.run import Progress
    from streamasr.bulk.worker import BulkOptions

DEFAULT_MODEL = "en-small"
"""Default model of ``--local`` and ``--manifest``."""
LINE_INTERVAL_S = 60.0
"""Seconds between lines of progress where standard error is no terminal."""
INTERRUPTED = 130
"""Exit status of a run that a signal ended."""


def add_manifest_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags for manifests."""
    group = parser.add_argument_group("many files, in this process (docs/bulk.md)")
    group.add_argument("--manifest", type=Path, metavar="IN.jsonl", help="transcribe the files of a manifest")
    group.add_argument(
        "--out", type=Path, metavar="OUT.jsonl", help="results, one a row; rows that have one are skipped"
    )
    group.add_argument(
        "--retries",
        type=int,
        default=2,
        metavar="N",
        help="further attempts of a row that fails (default: %(default)s)",
    )
    group.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: %(default)s)")
    group.add_argument(
        "--workers", type=int, metavar="N", help="threads that recognise (default: one a core; 2 on a GPU)"
    )
    group.add_argument(
        "--batch",
        type=int,
        default=16,
        metavar="N",
        help="files in one step of a worker (default: %(default)s)",
    )
    group.add_argument(
        "--ray",
        nargs="?",
        const="",
        metavar="ADDRESS",
        help="recognise on a Ray cluster; without ADDRESS on the running one, else on a new one of this machine",
    )
    group.add_argument("--no-words", action="store_true", help="leave out times and confidences of words")


def transcribe_manifest(args: argparse.Namespace) -> int:
    """Transcribe the rows that have no result yet.

    Returns:
        0 if every row of the manifest has been transcribed; 1 if some failed or were incomplete; 130 if a signal
        ended the run. The same command goes on with it.
    """
    _check(args)
    # Imported here: loading torch takes seconds.
    from streamasr.bulk.results import ResultsFile
    from streamasr.bulk.rows import Rows
    from streamasr.bulk.run import progress_of

    rows = Rows(args.manifest)
    start = Start(
        latency_ms=args.latency_ms,
        hotwords=tuple(args.hotword),
        format=args.text_format,
        words=not args.no_words,
        partials=False,
    )
    settings = {
        "model": args.model or DEFAULT_MODEL,
        "latency_ms": args.latency_ms,
        "format": args.text_format,
    }
    with ResultsFile(args.out, rows, settings) as results, _terminated_like_interrupted():
        progress = progress_of(rows, results)
        with _Display() as display:
            try:
                if progress.done < progress.rows:
                    _run(args, start, rows, results, progress=progress, display=display)
                else:
                    results.sort()
            except KeyboardInterrupt:
                display.close(progress, "interrupted; the same command goes on with the rest")
                return INTERRUPTED
            display.close(progress)
    return 1 if progress.transcribed + progress.skipped < progress.rows or progress.incomplete else 0


def _check(args: argparse.Namespace) -> None:
    if args.files:
        raise ConfigError("give FILEs or --manifest, not both")
    if args.out is None:
        raise ConfigError("--manifest needs --out, the file for the results")
    for flag, value, smallest in (
        ("--retries", args.retries, 0),
        ("--batch", args.batch, 1),
        ("--workers", args.workers, 1),
    ):
        if value is not None and value < smallest:
            raise ConfigError(f"{flag} must be {smallest} or more, got {value}")
    if args.channels == "each":
        raise ConfigError("--channels each needs FILEs; for a manifest use mix, left or right")
    if args.output is not None or args.format != "text":
        raise ConfigError("--output and --format are for FILEs; the results of --manifest go to --out")
    audio_input(args, "")  # checks the flags of raw audio before the model is loaded


def _run(
    args: argparse.Namespace,
    start: Start,
    rows: Rows,
    results: ResultsFile,
    *,
    progress: Progress,
    display: _Display,
) -> None:
    from streamasr.bulk.run import collect, unfinished
    from streamasr.bulk.worker import BulkOptions

    options = BulkOptions(
        model=args.model or DEFAULT_MODEL,
        start=start,
        device=args.device,
        backend=args.backend,
        precision=args.precision,
        channel=CHANNEL_OF[args.channels],
        workers=args.workers,
        batch=args.batch,
        retries=args.retries,
    )
    order = rows.longest_first(unfinished(results))

    def source(index: int) -> AudioInput:
        return audio_input(args, rows.audio_path(rows[index]))

    with _recognising(args.ray, options, order, source, display) as (outcomes, audio_s):
        progress.begin()
        collect(rows, results, outcomes, progress=progress, audio_s=audio_s, on_progress=display.show)


@contextlib.contextmanager
def _recognising(
    ray_address: str | None,
    options: BulkOptions,
    order: Sequence[int],
    source: Callable[[int], AudioInput],
    display: _Display,
) -> Iterator[tuple[Iterable[Outcome | None], Callable[[], float] | None]]:
    """Recognise rows in this process, or on a cluster; return the outcomes and what reports the progress."""
    if ray_address is None:
        from streamasr.bulk.worker import BulkWorker

        worker = BulkWorker(options)
        if worker.notice is not None:
            display.note(worker.notice)
        recogniser = worker.recognise(order, source)
        try:
            yield recogniser.outcomes(), lambda: recogniser.audio_s
        finally:
            recogniser.stop()
    else:
        from streamasr.bulk.on_ray import Cluster

        cluster = Cluster(ray_address)
        try:
            yield cluster.recognise(order, source, options), None
        finally:
            cluster.close()


@contextlib.contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """Treat SIGTERM, which schedulers send, like Ctrl-C."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _Display:
    """Shows a run on standard error: a bar on a terminal, else a line a minute; and a summary at its end."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, emoji=False)
        self._bar = Bars(
            BarColumn(), TextColumn("{task.description}"), console=self._console, transient=True,
            disable=not self._console.is_terminal,
        )  # fmt: skip
        self._task = self._bar.add_task("", total=None)
        self._next_line = time.monotonic() + LINE_INTERVAL_S

    def __enter__(self) -> _Display:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self, progress: Progress) -> None:
        """Show the progress."""
        text = f"{progress.done}/{progress.rows} rows, {_speed(progress)}"
        if progress.failed:
            text += f", {progress.failed} failed"
        if (remaining_s := progress.remaining_s) is not None:
            text += f", {_duration(remaining_s)} left"
        of = progress.wanted_s
        done, total = (progress.audio_s, of) if of else (float(progress.done), float(progress.rows))
        self._bar.update(self._task, description=text, completed=done, total=total)
        if not self._console.is_terminal and time.monotonic() >= self._next_line:
            self._next_line += LINE_INTERVAL_S
            self.note(text)

    def note(self, text: str) -> None:
        """Print a line."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def close(self, progress: Progress, ending: str = "") -> None:
        """Print the summary."""
        self._bar.stop()
        counts = [f"{progress.transcribed} transcribed"]
        if progress.incomplete:
            counts.append(f"{progress.incomplete} of them incomplete")
        counts += [
            f"{number} {what}"
            for number, what in ((progress.failed, "failed"), (progress.skipped, "finished before"))
            if number
        ]
        if progress.done < progress.rows:
            counts.append(f"{progress.rows - progress.done} not begun or unfinished")
        speed = f"; {_speed(progress)} in {_duration(progress.elapsed_s)}" if progress.audio_s else ""
        self.note(f"{progress.rows} rows: {', '.join(counts)}{speed}")
        if ending:
            self.note(ending)


def _speed(progress: Progress) -> str:
    return f"{_duration(progress.audio_s)} of audio, {progress.times_real_time:.1f} × real time"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 5_400:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3_600:.1f} h"
