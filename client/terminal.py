"""Show live captions in a terminal, or print them as plain lines where there is none.

In a terminal, the output of :mod:`streamasr_client.render` is redrawn continuously. Elsewhere each final is printed
on its own line, and notices go to standard error.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from typing import Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live

from streamasr.protocol.messages import Final, Partial, Ready, Start, Warning
from streamasr.subtitles import label_text
from streamasr_client.audio import AudioSource, level_dbfs
from streamasr_client.hotwords import describe_readings
from streamasr_client.live import AudioLost, ConnectionStatus, LiveEvent, LiveStream
from streamasr_client.render import CaptionState, lost_notice, overrun_notice, render, update
from streamasr_client.split import SplitFile

REFRESH_PER_SECOND = 12


class Saver(Protocol):
    """Keeps finished utterances."""

    def add(self, final: Final, label: str = "") -> str | None:
        """Save an utterance, labelled with its channel; return a sentence for the user if it cannot be saved."""
        ...


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

    def show_microphone(self, problem: str) -> None:
        """Show a problem of the microphone; an empty one ended."""
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
            case Ready() if text := describe_readings(event.hotwords):
                self._print_notice(text)
            case AudioLost():
                self._print_notice(lost_notice(event))

    def show_level(self, dbfs: float) -> None:
        """Do nothing: plain lines have no level meter."""

    def show_overrun(self, blocks: int) -> None:
        """See :class:`View`."""
        self._print_notice(overrun_notice(blocks))

    def show_microphone(self, problem: str) -> None:
        """See :class:`View`."""
        self._print_notice(problem or "the microphone records again")

    def _print_notice(self, text: str) -> None:
        self._err.print(text, markup=False, highlight=False, soft_wrap=True)


class Display(Protocol):
    """The lower part of a terminal, such as :class:`rich.live.Live`."""

    console: Console

    def update(self, renderable: RenderableType) -> None:
        """Show the renderable in place of the last one."""
        ...


class TerminalView:
    """Redraws the running utterance and the status line; finished utterances scroll up above them."""

    def __init__(self, live: Display) -> None:
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

    def show_microphone(self, problem: str) -> None:
        """See :class:`View`."""
        self._draw(dataclasses.replace(self._state, microphone=problem))

    def _draw(self, state: CaptionState) -> None:
        self._state = state
        self._live.update(render(state))


class LabelledView:
    """Shows the captions of one channel, each with the channel's label."""

    def __init__(self, view: View, label: str) -> None:
        self._view = view
        self._label = label

    def show(self, event: LiveEvent) -> None:
        """See :class:`View`."""
        if isinstance(event, Final) and event.text:
            event = dataclasses.replace(event, text=label_text(self._label, event.text))
        elif isinstance(event, Partial) and (event.committed or event.tail):
            event = dataclasses.replace(event, committed=label_text(self._label, event.committed).rstrip())
        self._view.show(event)

    def show_level(self, dbfs: float) -> None:
        """See :class:`View`."""
        self._view.show_level(dbfs)

    def show_overrun(self, blocks: int) -> None:
        """See :class:`View`."""
        self._view.show_overrun(blocks)

    def show_microphone(self, problem: str) -> None:
        """See :class:`View`."""
        self._view.show_microphone(problem)


class _Part:
    """A part of a display: its lines stand below those of the parts before it."""

    def __init__(self, live: Live, parts: list[RenderableType]) -> None:
        self.console = live.console
        self._live = live
        self._parts = parts
        self._number = len(parts)
        parts.append("")

    def update(self, renderable: RenderableType) -> None:
        self._parts[self._number] = renderable
        self._live.update(Group(*self._parts))


@contextmanager
def open_channel_views(labels: Sequence[str], out: Console, err: Console) -> Iterator[list[View]]:
    """Open a view for each channel, of the kinds that :func:`open_view` opens."""
    if not out.is_terminal:
        yield [LabelledView(PlainView(out, err), label) for label in labels]
        return
    with Live(console=out, refresh_per_second=REFRESH_PER_SECOND) as live:
        parts: list[RenderableType] = []
        yield [LabelledView(TerminalView(_Part(live, parts)), label) for label in labels]


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
    save: Saver | None = None,
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
                _save(save, event, view)


async def show_channels(
    url: str, start: Start, split: SplitFile, views: Sequence[View], *, save: Saver | None = None
) -> None:
    """Show the captions of every channel of a file, each from a session of its own, until the file ends.

    Args:
        url: the daemon's stream.
        start: the ``start`` message. The format of the file replaces its audio fields.
        split: the file.
        views: a view for each channel.
        save: also receives the finals, labelled, if given.

    Raises:
        StreamasrError: as from :meth:`LiveStream.events`, for any of the channels.
    """

    async def show(label: str, source: AudioSource, view: View) -> None:
        def on_audio(block: bytes) -> None:
            view.show_level(level_dbfs(block, source.format.encoding))

        async with aclosing(LiveStream(url, start, source, on_audio=on_audio).events()) as events:
            async for event in events:
                view.show(event)
                if save is not None and isinstance(event, Final) and event.text:
                    _save(save, event, view, label)

    async with stop_on_interrupt(split.stop):
        tasks = [
            asyncio.create_task(show(label, source, view))
            for (label, source), view in zip(split.channels.items(), views, strict=True)
        ]
        tasks.append(asyncio.create_task(split.play()))
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def _save(save: Saver, final: Final, view: View, label: str = "") -> None:
    problem = save.add(final, label)
    if problem is not None:
        view.show(Warning(code="not_saved", message=problem))


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
