"""Render live captions for a terminal.

:func:`update` applies an event to a :class:`CaptionState`, and :func:`render` turns the state into a rich renderable.
Both are pure functions.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

from rich.console import Group, RenderableType
from rich.style import Style
from rich.text import Text

from streamasr.protocol.messages import Done, Final, Partial, Ready, Warning
from streamasr.text import join_words
from streamasr_client.audio import SILENCE_DBFS
from streamasr_client.hotwords import describe_readings
from streamasr_client.live import AudioLost, ConnectionStatus, LiveEvent

METER_CELLS = 16
METER_FLOOR_DBFS = -60.0
"""The left end of the level meter; its right end is full scale."""
LOUD_DBFS = -3.0
"""Above this level the meter is red, because the microphone may clip."""

COMMITTED_STYLE = Style(bold=True)
TAIL_STYLE = Style(dim=True, italic=True)


@dataclass(frozen=True, slots=True)
class CaptionState:
    """Everything that is redrawn. Finished utterances are not part of it: they scroll up in the terminal."""

    committed: str = ""
    tail: str = ""
    connection: Literal["connecting", "live", "waiting", "done"] = "connecting"
    model: str = ""
    latency_ms: int = 0
    notice: str = ""
    """A warning, or the reason why there is no connection."""
    overruns: int = 0
    microphone: str = ""
    """A problem of the microphone."""
    level_dbfs: float = SILENCE_DBFS


def update(state: CaptionState, event: LiveEvent) -> CaptionState:
    """Return the state after ``event``."""
    match event:
        case Partial():
            return dataclasses.replace(state, committed=event.committed, tail=event.tail)
        case Final():
            return dataclasses.replace(state, committed="", tail="")
        case Ready():
            notice = describe_readings(event.hotwords) or state.notice
            return dataclasses.replace(state, model=event.model, latency_ms=event.latency_ms, notice=notice)
        case ConnectionStatus(state="waiting"):
            notice = f"{event.message}; next try in {event.retry_ms / 1000:.1f} s"
            return dataclasses.replace(state, connection="waiting", notice=notice)
        case ConnectionStatus(state="live"):
            return dataclasses.replace(state, connection="live", notice="")
        case ConnectionStatus():
            return dataclasses.replace(state, connection="connecting")
        case Warning():
            return dataclasses.replace(state, notice=event.message)
        case AudioLost():
            return dataclasses.replace(state, notice=lost_notice(event))
        case Done():
            return dataclasses.replace(state, connection="done", notice="")
        case _:
            return state


def lost_notice(event: AudioLost) -> str:
    """Describe audio that was not recognised."""
    return f"{event.ms / 1000:.1f} s of audio lost while the daemon was away"


def overrun_notice(overruns: int) -> str:
    """Describe blocks that were lost because this machine was too slow."""
    return f"{overruns} audio blocks lost: this machine is too busy to record without gaps"


def render(state: CaptionState) -> RenderableType:
    """Return the running utterance (committed text bold, tail dim), the notices and a status line."""
    lines: list[RenderableType] = [caption(state.committed, state.tail)]
    if state.overruns:
        lines.append(Text(overrun_notice(state.overruns), style="yellow"))
    if state.microphone:
        lines.append(Text(state.microphone, style="yellow"))
    if state.notice:
        lines.append(Text(state.notice, style="yellow"))
    lines.append(_status_line(state))
    return Group(*lines)


def caption(committed: str, tail: str) -> Text:
    """Return the running utterance with styles."""
    text = Text()
    text.append(committed, style=COMMITTED_STYLE)
    text.append(" " * (len(join_words([committed, tail])) - len(committed) - len(tail)))
    text.append(tail, style=TAIL_STYLE)
    return text


def meter(level_dbfs: float) -> Text:
    """Return the level as a bar of :data:`METER_CELLS` cells, drawn in eighths of a cell."""
    share = min(1.0, max(0.0, 1 - level_dbfs / METER_FLOOR_DBFS))
    eighths = round(share * METER_CELLS * 8)
    bar = "█" * (eighths // 8) + (" ▏▎▍▌▋▊▉"[eighths % 8] if eighths % 8 else "")
    colour = "red" if level_dbfs > LOUD_DBFS else "green"
    return Text(bar.ljust(METER_CELLS, "·"), style=colour)


def _status_line(state: CaptionState) -> Text:
    labels = {
        "connecting": ("◌ connecting", "yellow"),
        "live": ("● live", "green"),
        "waiting": ("◌ waiting", "yellow"),
        "done": ("■ done", "dim"),
    }
    label, colour = labels[state.connection]
    text = Text()
    text.append(label, style=colour)
    text.append("  ")
    text.append(meter(state.level_dbfs))
    if state.model:
        text.append(f"  {state.model} · {state.latency_ms} ms", style="dim")
    text.append("  Ctrl-C to stop", style="dim")
    return text
