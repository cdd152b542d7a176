"""Test showing a live stream in a view, and saving it to a subtitle file."""

from __future__ import annotations

import asyncio
import io
import os
import signal
from pathlib import Path

from rich.console import Console

from streamasr.protocol.audio import AudioFormat
from streamasr.protocol.messages import Partial, Start, Warning
from streamasr.subtitles import SubtitleFile, to_srt
from streamasr_client.audio import PacedFile
from streamasr_client.live import AudioLost, ConnectionStatus
from streamasr_client.terminal import PlainView, TerminalView, open_view, show_captions, stop_on_interrupt
from tests.client.scripted import ListSource, MakeFinal, ScriptedConnection, ScriptedDaemon

LOUD = b"\x00\x40" * 800
PARTIAL = Partial(utterance=0, committed="hel", tail="lo", start_ms=0, end_ms=1)


def plain() -> Console:
    return Console(file=io.StringIO(), width=20)


def printed(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


async def test_plain_lines_without_a_terminal(daemon: ScriptedDaemon, final: MakeFinal) -> None:
    finals = [final("a first line that is longer than the console"), final("[bold]two", utterance=1)]

    async def script(connection: ScriptedConnection) -> None:
        await connection.open()
        await connection.send(PARTIAL)
        await connection.finish(*finals)

    daemon.scripts = [script]
    source = ListSource(LOUD, LOUD)
    source.stop()
    out, err, file = plain(), plain(), io.StringIO()
    lost = iter([0, 3])
    with open_view(out, err) as view:
        assert isinstance(view, PlainView)
        await show_captions(
            daemon.url, Start(), source, view, save=SubtitleFile(file, "srt"), overruns=lambda: next(lost)
        )
    assert printed(out) == "a first line that is longer than the console\n[bold]two\n"
    assert "3 audio blocks lost" in printed(err)
    assert file.getvalue() == to_srt(finals)


def test_notices_go_to_standard_error(final: MakeFinal) -> None:
    out, err = plain(), plain()
    view = PlainView(out, err)
    for event in (
        ConnectionStatus("connecting"),
        ConnectionStatus("waiting", "no daemon", 800),
        Warning(code="backlog", message="late"),
        AudioLost(ms=2_000),
        final(""),
    ):
        view.show(event)
    view.show_level(-20.0)
    view.show_microphone("the device 'A' stopped recording")
    view.show_microphone("")
    assert printed(out) == ""
    assert printed(err).splitlines() == [
        "no daemon; next try in 0.8 s",
        "late",
        "2.0 s of audio lost while the daemon was away",
        "the device 'A' stopped recording",
        "the microphone records again",
    ]


def test_a_terminal_keeps_finals_and_redraws_the_rest(final: MakeFinal) -> None:
    out = Console(file=io.StringIO(), width=60, force_terminal=True)
    with open_view(out, plain()) as view:
        assert isinstance(view, TerminalView)
        view.show(ConnectionStatus("live"))
        view.show(PARTIAL)
        view.show_level(-10.0)
        view.show_overrun(2)
        view.show_microphone("no signal from 'A'")
        view.show(final("hello world"))
    text = printed(out)
    assert "no signal from 'A'" in text
    assert text.count("hello world") == 1
    assert "2 audio blocks lost" in text


async def test_the_first_interrupt_stops_the_source_only() -> None:
    stopped = asyncio.Event()
    async with stop_on_interrupt(stopped.set):
        os.kill(os.getpid(), signal.SIGINT)
        await stopped.wait()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


async def test_a_file_plays_as_a_microphone(daemon: ScriptedDaemon) -> None:
    clips = Path(__file__).parents[1] / "data" / "librispeech"

    async def no_sleep(seconds: float) -> None:
        return None

    async def script(connection: ScriptedConnection) -> None:
        await connection.open()
        await connection.finish()

    daemon.scripts = [script]
    source = PacedFile(clips / "2136-5147-0011.flac", sleep=no_sleep)
    assert source.format == AudioFormat(16_000)
    await show_captions(daemon.url, Start(), source, PlainView(plain(), plain()))
    assert daemon.connections[0].received_ms == 4_800
