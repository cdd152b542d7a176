"""Run the server's side of one session without I/O: received messages become events, events become text to send.

The connection checks the order of messages and their limits. It does not look into the audio.
"""

from __future__ import annotations

from dataclasses import dataclass

from streamasr.errors import ProtocolError
from streamasr.protocol.limits import DEFAULT_LIMITS, Limits
from streamasr.protocol.messages import ClientMessage, ServerMessage
from streamasr.protocol.serialisation import encode, parse_client_message, refuse_text_as_audio
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
    """Checks one client's messages against the state table.

    After a :class:`~streamasr.errors.ProtocolError` the state is unchanged. The caller then passes an ``error``
    message to :meth:`send`, which closes the session.

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

    def receive_text(self, text: str) -> ClientMessage | None:
        """Parse a text message. Return ``None`` if the session is draining and the message must be ignored.

        Raises:
            ProtocolError: the message is invalid, or not allowed in the current state.
        """
        message = parse_client_message(text, self._limits)
        return message if self._advance(message.type) else None

    def receive_binary(self, data: bytes) -> Audio | None:
        """Accept a binary message. Return ``None`` if the session is draining and the audio must be ignored.

        Raises:
            ProtocolError: the message is too long, is text, or is not allowed in the current state.
        """
        if len(data) > self._limits.audio_bytes:
            raise ProtocolError(
                f"a binary message may have at most {self._limits.audio_bytes} bytes, this one has {len(data)}",
                code="message_too_big",
            )
        refuse_text_as_audio(data)
        return Audio(data) if self._advance("audio") else None

    def drain(self) -> None:
        """Ignore the client's messages from now on, because the server is shutting down."""
        self._advance("drain")

    def send(self, message: ServerMessage) -> str:
        """Return the text to send for ``message``. After ``done`` or ``error`` the session is closed."""
        assert self._state is not State.CLOSED, f"{message.type} after the session's last message"
        if message.type in ("done", "error"):
            self._advance(message.type)
        return encode(message)

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
