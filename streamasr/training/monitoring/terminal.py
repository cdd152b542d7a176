"""Show a run in the terminal: as a live screen, or as plain lines if the output is not a terminal."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from streamasr.report.analysis import scoring_units
from streamasr.report.results import Unit
from streamasr.scoring import align
from streamasr.training.monitoring.events import (
    DevReport,
    Diagnosis,
    Event,
    PreparationProgress,
    RunStarted,
    StepReport,
)

DIAGNOSES_SHOWN = 3
"""Number of diagnoses on the screen, the newest last; the log has all of them."""
SAMPLES_SHOWN = 2
"""Number of utterances below the table."""
PROGRESS_LINE_SECONDS = 10.0
"""Time between two lines about the preparation of data if the output is not a terminal."""


class TerminalView:
    """Shows a run's events; use it as a context manager.

    Args:
        console: the console to write to; standard error by default.
        clock: returns seconds from a monotonic clock.
    """

    def __init__(self, console: Console | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console or Console(stderr=True, emoji=False)
        self._clock = clock
        self._preparation_bars = Progress(
            TextColumn("preparing {task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[hours]}"),
            TimeElapsedColumn(),
            TextColumn("elapsed,"),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=self._console,
        )
        self._preparations: dict[tuple[str, int], _Preparation] = {}
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("elapsed,"),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=self._console,
        )
        self._task = self._progress.add_task("training", total=None, visible=False)
        self._run: RunStarted | None = None
        self._step: StepReport | None = None
        self._dev: dict[tuple[str, int], list[DevReport]] = {}
        self._samples: tuple[tuple[str, str], ...] = ()
        self._diagnoses: list[Diagnosis] = []
        self._live = Live(
            console=self._console, get_renderable=self._screen, auto_refresh=self._console.is_terminal
        )

    def __enter__(self) -> TerminalView:
        if self._console.is_terminal:
            self._live.start(refresh=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def __call__(self, event: Event | PreparationProgress) -> None:
        """Show one event."""
        if isinstance(event, PreparationProgress):
            self._show_preparation(event)
            return
        match event:
            case RunStarted():
                self._run = event
                self._progress.update(
                    self._task, description=event.name, total=event.steps, completed=event.step, visible=True
                )
            case StepReport():
                self._step = event
                self._progress.update(self._task, completed=event.step)
            case DevReport():
                self._dev.setdefault((event.manifest, event.chunk_frames), []).append(event)
                self._samples = event.samples or self._samples
            case Diagnosis():
                self._diagnoses = [*self._diagnoses, event][-DIAGNOSES_SHOWN:]
        if not self._console.is_terminal:
            self._console.print(self._line(event), soft_wrap=True, markup=False, highlight=False)

    def _show_preparation(self, event: PreparationProgress) -> None:
        key, now = (event.what, event.total), self._clock()
        if key not in self._preparations:
            task = self._preparation_bars.add_task(event.what, total=event.total, hours="")
            self._preparations[key] = _Preparation(task, now, now)
        preparation = self._preparations[key]
        hours = f"{event.hours:.2f} h" if event.hours else ""
        self._preparation_bars.update(preparation.task, completed=event.done, hours=hours)
        over = event.done == event.total
        if not self._console.is_terminal and (over or now - preparation.line >= PROGRESS_LINE_SECONDS):
            preparation.line = now
            left = (now - preparation.started) / max(1, event.done) * (event.total - event.done)
            parts = [f"preparing {event.what}: {event.done} of {event.total}", hours]
            parts += ["" if over else f"{_clock_time(left)} left"]
            self._console.print(", ".join(filter(None, parts)), soft_wrap=True, markup=False, highlight=False)

    def _screen(self) -> RenderableType:
        if self._run is None and self._preparations:
            return self._preparation_bars
        parts: list[RenderableType] = [self._progress]
        if self._step is not None:
            parts.append(_figures(self._step))
        if self._dev:
            parts += [self._table(), *self._sample_lines()]
        parts += [_panel(diagnosis) for diagnosis in self._diagnoses]
        return Group(*parts)

    def _table(self) -> Table:
        """Return a table of error rates with their last changes, one row per manifest, one column per chunk size."""
        chunks = sorted({frames for _, frames in self._dev})
        table = Table(
            title=f"{'CER' if self._unit == 'character' else 'WER'} during training (greedy)",
            title_justify="left",
        )
        table.add_column("")
        for frames in chunks:
            table.add_column(self._chunk(frames), justify="right")
        for manifest in dict.fromkeys(name for name, _ in self._dev):
            table.add_row(manifest, *(_change(self._rates(manifest, frames)) for frames in chunks))
        return table

    @property
    def _unit(self) -> Unit:
        return "word" if self._run is None else self._run.unit

    def _rates(self, manifest: str, frames: int) -> list[float]:
        reports = self._dev.get((manifest, frames), [])
        return [report.cer if self._unit == "character" else report.wer for report in reports]

    def _sample_lines(self) -> list[Text]:
        lines = []
        for reference, hypothesis in self._samples[:SAMPLES_SHOWN]:
            lines += [
                Text(f"ref  {reference}", style="dim"),
                Text("hyp  ") + _marked(reference, hypothesis, self._unit),
            ]
        return lines

    def _chunk(self, frames: int) -> str:
        return f"{frames} frames" if self._run is None else f"{frames * self._run.frame_ms:.0f} ms"

    def _line(self, event: Event) -> str:
        match event:
            case RunStarted():
                return f"{event.name}: from step {event.step} to {event.steps}"
            case StepReport():
                return f"step {event.step}  {_figures(event).plain}"
            case DevReport():
                errors = f"{event.substitutions} sub, {event.insertions} ins, {event.deletions} del"
                sample = "".join(f"\n  ref  {a}\n  hyp  {b}" for a, b in event.samples[:1])
                where = f"{event.manifest}, {self._chunk(event.chunk_frames)} chunks"
                rates = f"WER {event.wer:.2%}  CER {event.cer:.2%}  ({errors} in {event.words} words)"
                return f"step {event.step}  {where}: {rates}{sample}"
            case Diagnosis():
                problem = f"PROBLEM: {event.finding} Likely cause: {event.cause} Remedy: {event.remedy}"
                return f"step {event.step}  {problem}"


@dataclass(slots=True)
class _Preparation:
    """A progress bar of decoding or simulating, and the times of its start and its last line."""

    task: TaskID
    started: float
    line: float


def _clock_time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def _figures(step: StepReport) -> Text:
    parts = [("ctc", step.ctc), ("crf", step.crf), ("intermediate", step.intermediate)]
    parts += [("consistency", step.consistency), ("distillation", step.distillation)]
    losses = ", ".join(f"{name} {value:.3f}" for name, value in parts if value)
    warning = f" · {step.unalignable} rows with too few frames for their text" if step.unalignable else ""
    return Text(
        f"loss {step.loss:.4f} ({losses}) · blank {step.blank_share:.0%} · lr {step.learning_rate:.1e}"
        f" · norm {step.gradient_norm:.2f} · {step.speed:.0f} × real time · padding {step.padding_share:.0%}"
        f" · {step.hours:.1f} h of audio{warning}"
    )


def _change(rates: list[float]) -> Text:
    if not rates:
        return Text("–", style="dim")
    text = Text(f"{rates[-1]:.1%}")
    if len(rates) > 1 and (change := rates[-1] - rates[-2]):
        text.append(f" {'▲' if change > 0 else '▼'}{abs(change):.1%}", style="red" if change > 0 else "green")
    return text


def _marked(reference: str, hypothesis: str, unit: Unit) -> Text:
    """Return the hypothesis with its errors in red and a dot for each deleted word or character."""
    text = Text()
    for expected, recognised in align(scoring_units(reference, unit), scoring_units(hypothesis, unit)):
        if len(text) and unit == "word":
            text.append(" ")
        text.append("·" if recognised is None else recognised, style="" if expected == recognised else "red")
    return text


def _panel(diagnosis: Diagnosis) -> Panel:
    body = Text.assemble(
        (diagnosis.finding, "bold"), "\nLikely cause: ", diagnosis.cause, "\nRemedy: ", diagnosis.remedy
    )
    return Panel(body, title=f"step {diagnosis.step}", title_align="left", border_style="red")
