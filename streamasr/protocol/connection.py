"""The server's side of one session, sans-I/O: what came in gives events, what goes out gives text.

Knows the order of messages and their limits; no socket, no clock, no audio format.
"""

from __future__ import annotations

from dataclasses import dataclass

from streamasr.errors import ProtocolError
from streamasr.protocol.limits import DEFAULT_LIMITS, Limits
from streamasr.protocol.messages import ClientMessage, ServerMessage
from streamasr.protocol.serialisation import encode, parse_client_message
from streamasr.protocol.states import TRANSITIONS, State, allowed_inputs


@dataclass(frozen=True, slots=True)
class Audio:
    """A binary message: audio in the encoding that ``start`` named."""

    data: bytes


ClientEvent = ClientMessage | Audio
"""What a client may say."""

_HINTS = {
    (State.AWAITING_START, "audio"): "audio came before start",
    (State.STREAMING, "start"): "the session has started already; open a second socket for a second session",
    (State.STOPPING, "audio"): "audio came after stop",
}


class ServerConnection:
    """Checks one client's messages against the state table.

    A :class:`~streamasr.errors.ProtocolError` leaves the state as it was: the caller answers with an
    ``error`` message, through :meth:`send`, which closes the session.
    """

    def __init__(self, limits: Limits = DEFAULT_LIMITS) -> None:
        self._limits = limits
        self._state = State.AWAITING_START

    @property
    def state(self) -> State:
        """Where the session stands."""
        return self._state

    def receive_text(self, text: str) -> ClientMessage | None:
        """One text message; ``None`` while the session drains, when nothing is to be done about it.

        Raises:
            ProtocolError: not a message of the protocol, or not now.
        """
        message = parse_client_message(text, self._limits)
        return message if self._advance(message.type) else None

    def receive_binary(self, data: bytes) -> Audio | None:
        """One binary message; ``None`` while the session drains: that audio will not be recognised.

        Raises:
            ProtocolError: too long, or not now.
        """
        if len(data) > self._limits.audio_bytes:
            raise ProtocolError(
                f"a binary message may have {self._limits.audio_bytes} bytes, this one has {len(data)}",
                code="message_too_big",
            )
        return Audio(data) if self._advance("audio") else None

    def drain(self) -> None:
        """The server stops: from now on the client's messages are ignored and the session only finishes."""
        self._advance("drain")

    def send(self, message: ServerMessage) -> str:
        """The text to send for ``message``; ``done`` and ``error`` close the session."""
        assert self._state is not State.CLOSED, f"{message.type} after the session's last message"
        if message.type in ("done", "error"):
            self._advance(message.type)
        return encode(message)

    def _advance(self, name: str) -> bool:
        """Follow the table; true where the input means something to do."""
        before = self._state
        if name not in TRANSITIONS[before]:
            allowed = ", ".join(allowed_inputs(before)) or "nothing"
            what = _HINTS.get((before, name), f"{name} is not allowed now")
            raise ProtocolError(
                f"{what}; the session is {before.value} and takes {allowed}", code="out_of_order"
            )
        self._state = TRANSITIONS[before][name]
        return before is not State.DRAINING
