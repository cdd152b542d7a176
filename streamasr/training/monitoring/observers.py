"""Send a run's events to its observers: log, TensorBoard and terminal; write the page when the run ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from rich.console import Console

from streamasr.training.monitoring.events import Event, Observer, PreparationProgress
from streamasr.training.monitoring.log import EVENTS_FILE, EventLog
from streamasr.training.monitoring.run_page import write_page
from streamasr.training.monitoring.tensorboard import TENSORBOARD_FOLDER, TensorBoardWriter
from streamasr.training.monitoring.terminal import TerminalView


@contextmanager
def open_observers(
    run: Path, *, tensorboard: bool = True, live: bool = True, console: Console | None = None
) -> Iterator[Observer]:
    """Open the observers of a run and yield a function that sends each of them an event.

    The first event must be a :class:`RunStarted`. On leaving, ``report.html`` is written, also after an error.

    Args:
        run: the run's folder.
        tensorboard: whether to write for TensorBoard.
        live: whether to show the run in the terminal.
        console: the terminal; standard error by default.

    Raises:
        ConfigError: ``tensorboard`` is set, but TensorBoard is not installed.
    """
    with ExitStack() as stack:
        observers: list[Callable[[Event], None]] = [stack.enter_context(EventLog(run / EVENTS_FILE))]
        stack.callback(write_page, run)
        if tensorboard:
            observers.append(stack.enter_context(TensorBoardWriter(run / TENSORBOARD_FOLDER)))
        view = stack.enter_context(TerminalView(console)) if live else None
        if view is not None:
            observers.append(view)

        def emit(event: Event | PreparationProgress) -> None:
            if not isinstance(event, PreparationProgress):
                for observer in observers:
                    observer(event)
            elif view is not None:
                view(event)

        yield emit
