"""Live captions in a terminal: events in, a picture out.

:func:`update` folds events into a :class:`CaptionState`, :func:`render` draws one with rich; both are pure.
Knows no socket and no clock.
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
from streamasr_client.live import AudioLost, ConnectionStatus, LiveEvent

METER_CELLS = 16
METER_FLOOR_DBFS = -60.0
"""The left end of the level meter; its right end is full scale."""
LOUD_DBFS = -3.0
"""Above this the meter turns red: the microphone may clip."""

COMMITTED_STYLE = Style(bold=True)
TAIL_STYLE = Style(dim=True, italic=True)


@dataclass(frozen=True, slots=True)
class CaptionState:
    """All that the picture shows. Finished utterances are not in it: they belong to the terminal above."""

    committed: str = ""
    tail: str = ""
    connection: Literal["connecting", "live", "waiting", "done"] = "connecting"
    model: str = ""
    latency_ms: int = 0
    notice: str = ""
    """A warning, or why there is no connection."""
    overruns: int = 0
    level_dbfs: float = SILENCE_DBFS


def update(state: CaptionState, event: LiveEvent) -> CaptionState:
    """The state after ``event``."""
    match event:
        case Partial():
            return dataclasses.replace(state, committed=event.committed, tail=event.tail)
        case Final():
            return dataclasses.replace(state, committed="", tail="")
        case Ready():
            return dataclasses.replace(state, model=event.model, latency_ms=event.latency_ms)
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
    """What to tell a person about audio that was not recognised."""
    return f"{event.ms / 1000:.1f} s of audio lost while the daemon was away"


def overrun_notice(overruns: int) -> str:
    """What to tell a person about blocks that this machine was too slow to take."""
    return f"{overruns} audio blocks lost: this machine is too busy to record without gaps"


def render(state: CaptionState) -> RenderableType:
    """The running utterance (committed text solid, tail dim), what there is to warn of, a status line."""
    lines: list[RenderableType] = [caption(state.committed, state.tail)]
    if state.overruns:
        lines.append(Text(overrun_notice(state.overruns), style="yellow"))
    if state.notice:
        lines.append(Text(state.notice, style="yellow"))
    lines.append(_status_line(state))
    return Group(*lines)


def caption(committed: str, tail: str) -> Text:
    """The running utterance."""
    text = Text()
    text.append(committed, style=COMMITTED_STYLE)
    text.append(" " * (len(join_words([committed, tail])) - len(committed) - len(tail)))
    text.append(tail, style=TAIL_STYLE)
    return text


def meter(level_dbfs: float) -> Text:
    """The level as a bar of :data:`METER_CELLS` cells, in eighths of a cell."""
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
    text.append("  Ctrl-C ends", style="dim")
    return text
