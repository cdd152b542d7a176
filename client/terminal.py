"""Show live captions in a terminal, or print them as plain lines where there is none.

In a terminal, the output of :mod:`streamasr_client.render` is redrawn continuously. Elsewhere each final is printed
on its own line, and notices go to standard error.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, contextmanager
from typing import Protocol

from rich.console import Console
from rich.live import Live

from streamasr.protocol.messages import Final, Start, Warning
from streamasr_client.audio import AudioSource, level_dbfs
from streamasr_client.live import AudioLost, ConnectionStatus, LiveEvent, LiveStream
from streamasr_client.render import CaptionState, lost_notice, overrun_notice, render, update
from streamasr_client.subtitles import SubtitleFile

REFRESH_PER_SECOND = 12


class View(Protocol):
    """Shows a live stream."""

    def show(self, event: LiveEvent) -> None:
        """Show an event of the stream."""
        ...

    def show_level(self, dbfs: float) -> None:
        """Show the level of a captured block, in dBFS."""
        ...

    def show_overrun(self, blocks: int) -> None:
        """Show that ``blocks`` audio blocks have been lost so far."""
        ...


class PlainView:
    """Prints finals on ``out``, one per line, and notices on ``err``."""

    def __init__(self, out: Console, err: Console) -> None:
        self._out = out
        self._err = err

    def show(self, event: LiveEvent) -> None:
        """See :class:`View`."""
        match event:
            case Final() if event.text:
                self._out.print(event.text, markup=False, highlight=False, soft_wrap=True)
            case ConnectionStatus(state="waiting"):
                self._print_notice(f"{event.message}; next try in {event.retry_ms / 1000:.1f} s")
            case Warning():
                self._print_notice(event.message)
            case AudioLost():
                self._print_notice(lost_notice(event))

    def show_level(self, dbfs: float) -> None:
        """Do nothing: plain lines have no level meter."""

    def show_overrun(self, blocks: int) -> None:
        """See :class:`View`."""
        self._print_notice(overrun_notice(blocks))

    def _print_notice(self, text: str) -> None:
        self._err.print(text, markup=False, highlight=False, soft_wrap=True)


class TerminalView:
    """Redraws the running utterance and the status line; finished utterances scroll up above them."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._state = CaptionState()

    def show(self, event: LiveEvent) -> None:
        """See :class:`View`."""
        self._draw(update(self._state, event))  # before printing, so that no word is on the screen twice
        if isinstance(event, Final) and event.text:
            self._live.console.print(event.text, markup=False, highlight=False)

    def show_level(self, dbfs: float) -> None:
        """See :class:`View`."""
        self._draw(dataclasses.replace(self._state, level_dbfs=dbfs))

    def show_overrun(self, blocks: int) -> None:
        """See :class:`View`."""
        self._draw(dataclasses.replace(self._state, overruns=blocks))

    def _draw(self, state: CaptionState) -> None:
        self._state = state
        self._live.update(render(state))


@contextmanager
def open_view(out: Console, err: Console) -> Iterator[View]:
    """Open a :class:`TerminalView` if ``out`` is a terminal, otherwise a :class:`PlainView`."""
    if not out.is_terminal:
        yield PlainView(out, err)
        return
    with Live(console=out, refresh_per_second=REFRESH_PER_SECOND) as live:
        yield TerminalView(live)


async def show_captions(
    url: str,
    start: Start,
    source: AudioSource,
    view: View,
    *,
    save: SubtitleFile | None = None,
    overruns: Callable[[], int] = lambda: 0,
) -> None:
    """Show the captions of ``source`` until it ends. The first Ctrl-C stops it and waits for the last finals.

    Args:
        url: the daemon's stream.
        start: the ``start`` message. The source's format replaces its audio fields.
        source: the audio.
        view: shows the captions.
        save: also receives the finals, if given.
        overruns: returns the number of audio blocks lost so far.

    Raises:
        StreamasrError: as from :meth:`LiveStream.events`.
    """

    reported = 0

    def on_audio(block: bytes) -> None:
        nonlocal reported
        view.show_level(level_dbfs(block, source.format.encoding))
        if (count := overruns()) > reported:
            reported = count
            view.show_overrun(count)

    stream = LiveStream(url, start, source, on_audio=on_audio)
    async with stop_on_interrupt(source.stop), aclosing(stream.events()) as events:
        async for event in events:
            view.show(event)
            if save is not None and isinstance(event, Final):
                save.add(event)


@contextlib.asynccontextmanager
async def stop_on_interrupt(stop: Callable[[], None]) -> AsyncIterator[None]:
    """Call ``stop`` at the first SIGINT. The second one raises ``KeyboardInterrupt`` as usual."""
    loop = asyncio.get_running_loop()

    def on_interrupt() -> None:
        loop.remove_signal_handler(signal.SIGINT)
        stop()

    loop.add_signal_handler(signal.SIGINT, on_interrupt)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)
