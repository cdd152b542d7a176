"""Check the order of one session's events and their limits, on the server's side and without I/O."""

from __future__ import annotations

from dataclasses import dataclass

from streamasr.errors import ProtocolError
from streamasr.protocol.limits import DEFAULT_LIMITS, Limits
from streamasr.protocol.messages import ClientMessage, ServerMessage
from streamasr.protocol.serialisation import check_client_message
from streamasr.protocol.states import TRANSITIONS, State, allowed_inputs


@dataclass(frozen=True, slots=True)
class Audio:
    """A binary message: audio in the encoding of ``start``."""

    data: bytes


ClientEvent = ClientMessage | Audio
"""An event that a client can cause."""

_HINTS = {
    (State.AWAITING_START, "audio"): "audio came before start",
    (
        State.STREAMING,
        "start",
    ): "the session has already started; open a second connection for another session",
    (State.STOPPING, "audio"): "audio came after stop",
}


class ServerConnection:
    """Checks one client's events against the state table. It does not look into the audio.

    After a :class:`~streamasr.errors.ProtocolError` the state is unchanged. The caller then sends an ``error``
    message and passes it to :meth:`note_sent`, which closes the session.

    Args:
        limits: the limits to enforce.
    """

    def __init__(self, limits: Limits = DEFAULT_LIMITS) -> None:
        self._limits = limits
        self._state = State.AWAITING_START

    @property
    def state(self) -> State:
        """The session's state."""
        return self._state

    def accept(self, event: ClientEvent) -> bool:
        """Accept a client's event. Return false if the session is draining and the event must be ignored.

        Raises:
            ProtocolError: the event is beyond a limit, or not allowed in the current state.
        """
        if isinstance(event, Audio):
            self._check_audio(event.data)
            return self._advance("audio")
        check_client_message(event, self._limits)
        return self._advance(event.type)

    def drain(self) -> None:
        """Ignore the client's messages from now on, because the server is shutting down."""
        self._advance("drain")

    def reopen(self) -> None:
        """Let messages be sent again after the last one, because the client did not receive them."""
        if self._state is State.CLOSED:
            self._state = State.STOPPING

    def note_sent(self, message: ServerMessage) -> None:
        """Follow the state table for a message that is sent. After ``done`` or ``error`` the session is closed."""
        assert self._state is not State.CLOSED, f"{message.type} after the session's last message"
        if message.type in ("done", "error"):
            self._advance(message.type)

    def _check_audio(self, data: bytes) -> None:
        if len(data) > self._limits.audio_bytes:
            raise ProtocolError(
                f"a binary message may have at most {self._limits.audio_bytes} bytes, this one has {len(data)}",
                code="message_too_big",
            )

    def _advance(self, name: str) -> bool:
        """Follow the state table. Return false if the input must be ignored."""
        before = self._state
        if name not in TRANSITIONS[before]:
            allowed = ", ".join(allowed_inputs(before)) or "nothing"
            problem = _HINTS.get((before, name), f"{name} is not allowed now")
            raise ProtocolError(
                f"{problem}; the session is {before.value} and accepts {allowed}", code="out_of_order"
            )
        self._state = TRANSITIONS[before][name]
        return before is not State.DRAINING
