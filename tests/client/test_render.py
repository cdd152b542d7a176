"""Test what the terminal shows after events."""

from __future__ import annotations

import functools
import io

from rich.console import Console

from streamasr.protocol.messages import Done, Partial, Ready, SpeechStarted, Warning
from streamasr_client.live import AudioLost, ConnectionStatus, LiveEvent
from streamasr_client.render import (
    COMMITTED_STYLE,
    METER_CELLS,
    TAIL_STYLE,
    CaptionState,
    caption,
    meter,
    render,
    update,
)
from tests.client.scripted import MakeFinal


def shown(state: CaptionState, *, width: int = 80, colour: bool = False) -> str:
    console = Console(
        file=io.StringIO(), width=width, force_terminal=colour, color_system="truecolor" if colour else None
    )
    with console.capture() as capture:
        console.print(render(state))
    return capture.get()


def after(*events: LiveEvent) -> CaptionState:
    return functools.reduce(update, events, CaptionState())


PARTIAL = Partial(utterance=0, committed="hello there", tail="gener", start_ms=0, end_ms=900)
READY = Ready(session="s", sample_rate=16_000, latency_ms=640, model="en-small")


def test_committed_text_is_bold_and_the_tail_dim() -> None:
    text = caption("hello there", "gener")
    assert text.plain == "hello there gener"
    assert [(span.start, span.end, span.style) for span in text.spans] == [
        (0, 11, COMMITTED_STYLE),
        (12, 17, TAIL_STYLE),
    ]
    assert caption("", "gener").plain == "gener"
    assert caption("hello", "").plain == "hello"
    assert caption("今天", "很好").plain == "今天很好"


def test_a_running_session() -> None:
    lines = shown(
        after(
            ConnectionStatus("connecting"), ConnectionStatus("live"), READY, SpeechStarted(at_ms=1), PARTIAL
        )
    ).splitlines()
    assert lines[0] == "hello there gener"
    assert lines[1].startswith("● live")
    assert "en-small · 640 ms" in lines[1]
    assert len(lines) == 2


def test_a_final_clears_the_running_utterance(final: MakeFinal) -> None:
    state = after(PARTIAL, final("hello there general"))
    assert (state.committed, state.tail) == ("", "")


def test_notices_are_shown_until_they_are_over() -> None:
    waiting = after(ConnectionStatus("waiting", "no daemon", 1_500))
    assert "no daemon; next try in 1.5 s" in shown(waiting)
    assert "◌ waiting" in shown(waiting)
    assert "no daemon" not in shown(update(waiting, ConnectionStatus("live")))
    assert "late" in shown(after(Warning(code="backlog", message="late")))
    assert "3.0 s of audio lost" in shown(after(ConnectionStatus("live"), AudioLost(ms=3_000)))
    assert "7 audio blocks lost" in shown(CaptionState(overruns=7))
    assert "■ done" in shown(after(ConnectionStatus("live"), Done(audio_ms=1)))


def test_the_meter_fills_from_floor_to_full_scale() -> None:
    assert meter(-90).plain == "·" * METER_CELLS
    assert meter(0).plain == "█" * METER_CELLS
    assert meter(-30).plain == "█" * (METER_CELLS // 2) + "·" * (METER_CELLS // 2)
    assert {len(meter(level).plain) for level in range(-70, 5)} == {METER_CELLS}
    assert meter(-1).style == "red"
    assert meter(-20).style == "green"


def test_long_captions_wrap_at_words() -> None:
    state = CaptionState(committed="one two three four five six seven")
    assert [line.rstrip() for line in shown(state, width=20).splitlines()[:2]] == [
        "one two three four",
        "five six seven",
    ]
