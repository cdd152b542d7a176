"""The session's states and what may happen in each, as one table. Checks and the docs' diagram both read it.

Knows message names only: no JSON, no socket, no clock.
"""

from __future__ import annotations

import enum


class State(enum.Enum):
    """Where a session stands; the value is its name in ``docs/protocol.md``."""

    AWAITING_START = "awaiting_start"
    STREAMING = "streaming"
    STOPPING = "stopping"
    DRAINING = "draining"
    CLOSED = "closed"


CLIENT_INPUTS = ("start", "audio", "finalize", "configure", "keepalive", "stop")
"""What a client may send: its messages, and ``audio`` for a binary one."""

TRANSITIONS: dict[State, dict[str, State]] = {
    State.AWAITING_START: {
        "start": State.STREAMING,
        "keepalive": State.AWAITING_START,
        "error": State.CLOSED,
    },
    State.STREAMING: {
        "audio": State.STREAMING,
        "finalize": State.STREAMING,
        "configure": State.STREAMING,
        "keepalive": State.STREAMING,
        "stop": State.STOPPING,
        "drain": State.DRAINING,
        "error": State.CLOSED,
    },
    State.STOPPING: {
        "keepalive": State.STOPPING,
        "drain": State.STOPPING,
        "done": State.CLOSED,
        "error": State.CLOSED,
    },
    State.DRAINING: {
        "audio": State.DRAINING,
        "finalize": State.DRAINING,
        "configure": State.DRAINING,
        "keepalive": State.DRAINING,
        "stop": State.DRAINING,
        "done": State.CLOSED,
        "error": State.CLOSED,
    },
    State.CLOSED: {},
}
"""State → what happens → next state.

Inputs are the client's messages, ``drain`` (the server is told to stop) and the server's last
words, ``done`` and ``error``. While draining, the client's messages are read and ignored: it cannot know yet.
"""


def allowed_inputs(state: State) -> tuple[str, ...]:
    """What a client may send in ``state``."""
    return tuple(name for name in CLIENT_INPUTS if name in TRANSITIONS[state])


def diagram() -> str:
    """The table as a Mermaid state diagram, one arrow for every pair of states."""
    lines = ["stateDiagram-v2", f"    [*] --> {State.AWAITING_START.value}"]
    for state, row in TRANSITIONS.items():
        arrows: dict[State, list[str]] = {}
        for name, target in row.items():
            arrows.setdefault(target, []).append(name)
        for target, names in arrows.items():
            lines.append(f"    {state.value} --> {target.value}: {', '.join(names)}")
    lines.append(f"    {State.CLOSED.value} --> [*]")
    return "\n".join(lines)
