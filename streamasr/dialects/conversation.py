"""Run one client's session in any dialect: frames become native events, in the order that the protocol allows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from streamasr.dialects.base import Frame, Incoming, Reply, Translation
from streamasr.protocol.connection import ServerConnection
from streamasr.protocol.limits import DEFAULT_LIMITS, Limits
from streamasr.protocol.messages import ServerMessage
from streamasr.protocol.states import State


class Conversation:
    """Translates frames and checks the native events against the state table and the limits.

    Args:
        translation: the client's dialect.
        limits: the limits to enforce, whatever the dialect.
    """

    def __init__(self, translation: Translation, limits: Limits = DEFAULT_LIMITS) -> None:
        self._translation = translation
        self._connection = ServerConnection(limits)
        self.close_code = translation.close_code
        """Returns the websocket's close code after the last message."""
        self.opens_late = translation.opens_late
        """Whether clients may connect long before they open the session."""

    @property
    def state(self) -> State:
        """The native session's state."""
        return self._connection.state

    def opened(self) -> Iterator[Incoming]:
        """Yield what follows from the handshake. See :meth:`receive`."""
        return self._accepted(self._translation.opened())

    def receive(self, frame: Frame) -> Iterator[Incoming]:
        """Yield what a frame means. The caller acts on each event before it asks for the next one.

        Raises:
            ProtocolError: the frame is invalid, beyond a limit, or not allowed in the current state.
        """
        return self._accepted(self._translation.receive(frame))

    def drain(self) -> None:
        """Ignore the client's events from now on, because the server is shutting down."""
        self._connection.drain()

    def resume(self, former: Conversation, seq: int) -> None:
        """Continue the session of a former connection: take over its state, and number the next message ``seq``."""
        self._connection = former._connection
        self._connection.reopen()
        self._translation.continue_from(seq)

    def send(self, message: ServerMessage | Reply) -> Iterable[Frame]:
        """Return the frames to send for ``message``. After ``done`` or ``error`` the session is closed."""
        if isinstance(message, Reply):
            return (self._translation.reply(message),)
        self._connection.note_sent(message)
        return self._translation.send(message)

    def _accepted(self, incoming: Iterable[Incoming]) -> Iterator[Incoming]:
        for item in incoming:
            if isinstance(item, Reply) or self._connection.accept(item):
                yield item
