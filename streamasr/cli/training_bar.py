"""Show how far a training on text is, if standard error is a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class TextTraining(Protocol):
    """Where a run is."""

    @property
    def share(self) -> float:
        """Of the whole run, 0 to 1."""

    @property
    def step(self) -> int:
        """Number of the step."""

    @property
    def words_per_second(self) -> float:
        """Words of training text."""

    @property
    def loss(self) -> float:
        """Of the last steps."""


class TrainingBar:
    """A progress bar, and a console on which lines appear above it."""

    def __init__(self, progress: Progress, console: Console) -> None:
        self.console = console
        self._progress = progress
        self._task = progress.add_task("reading text", total=1.0)

    def update(self, training: TextTraining) -> None:
        """Move the bar."""
        speed = f"{training.words_per_second:,.0f} words/s"
        description = f"step {training.step}, loss {training.loss:.3f}, {speed}"
        self._progress.update(self._task, completed=training.share, description=description)


@contextmanager
def training_bar() -> Iterator[TrainingBar]:
    """Show a bar until the context ends."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    console = Console(stderr=True, emoji=False)
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        yield TrainingBar(progress, console)
