"""Everybody who listens to a run: its log, TensorBoard, the terminal, and at the end the page."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from rich.console import Console

from streamasr.training.monitoring.events import Event, Listener, Opening
from streamasr.training.monitoring.log import EVENTS_FILE, EventLog
from streamasr.training.monitoring.run_page import write_page
from streamasr.training.monitoring.tensorboard import TENSORBOARD_FOLDER, TensorBoardWriter
from streamasr.training.monitoring.terminal import LiveView


@contextmanager
def listeners(
    run: Path, *, tensorboard: bool = True, live: bool = True, console: Console | None = None
) -> Iterator[Listener]:
    """One listener for all: tell it a :class:`RunStarted` first. Leaving writes ``report.html``, however it ended.

    Args:
        run: the run's folder.
        tensorboard: whether to write for TensorBoard, too.
        live: whether to show the run in the terminal.
        console: the terminal; standard error by default.

    Raises:
        ConfigError: TensorBoard is asked for and not installed.
    """
    with ExitStack() as stack:
        everybody: list[Callable[[Event], None]] = [stack.enter_context(EventLog(run / EVENTS_FILE))]
        stack.callback(write_page, run)
        if tensorboard:
            everybody.append(stack.enter_context(TensorBoardWriter(run / TENSORBOARD_FOLDER)))
        view = stack.enter_context(LiveView(console)) if live else None
        if view is not None:
            everybody.append(view)

        def tell(event: Event | Opening) -> None:
            if not isinstance(event, Opening):
                for listener in everybody:
                    listener(event)
            elif view is not None:
                view(event)

        yield tell
