"""Define the states of a session and their transitions in one table.

:class:`~streamasr.protocol.connection.ServerConnection` checks messages against the table, and the diagram in the
documentation is generated from it.
"""

from __future__ import annotations

import enum


class State(enum.Enum):
    """A state of the session. The value is its name in error messages and in the documentation."""

    AWAITING_START = "awaiting_start"
    STREAMING = "streaming"
    STOPPING = "stopping"
    DRAINING = "draining"
    CLOSED = "closed"


CLIENT_INPUTS = ("start", "audio", "finalize", "configure", "keepalive", "stop", "resume")
"""The inputs from a client: the types of its messages, and ``audio`` for a binary message."""

TRANSITIONS: dict[State, dict[str, State]] = {
    State.AWAITING_START: {
        "start": State.STREAMING,
        "resume": State.STREAMING,
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
"""State → input → next state.

Inputs are the client's messages, ``drain`` (the server is shutting down) and the server's last messages, ``done``
and ``error``. While draining, the client's messages are ignored: the client may not know yet.
"""


def allowed_inputs(state: State) -> tuple[str, ...]:
    """Return the inputs that a client may send in ``state``."""
    return tuple(name for name in CLIENT_INPUTS if name in TRANSITIONS[state])


def diagram() -> str:
    """Return the table as a Mermaid state diagram, with one arrow per pair of states."""
    lines = ["stateDiagram-v2", f"    [*] --> {State.AWAITING_START.value}"]
    for state, row in TRANSITIONS.items():
        arrows: dict[State, list[str]] = {}
        for name, target in row.items():
            arrows.setdefault(target, []).append(name)
        for target, names in arrows.items():
            lines.append(f"    {state.value} --> {target.value}: {', '.join(names)}")
    lines.append(f"    {State.CLOSED.value} --> [*]")
    return "\n".join(lines)
