"""Define what a dialect is: another vendor's protocol, translated to native messages and back.

A dialect has no sockets, threads or clocks, and does not know the engine. The service reads and writes the frames,
and runs a native session behind every dialect, so that limits, tokens, batching and metrics are those of the native
protocol.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import ClassVar, Generic, TypeVar

from streamasr.protocol.codes import CLOSE_NORMAL, close_code
from streamasr.protocol.connection import ClientEvent
from streamasr.protocol.messages import Done, Error, ServerMessage
from streamasr.protocol.model_info import ModelInfo

StateT = TypeVar("StateT", bound=Enum)

Frame = str | bytes
"""One websocket message."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A frame that the dialect answers by itself. It is sent after the messages that the engine emitted before."""

    frame: Frame


Incoming = ClientEvent | Reply
"""What a client's frame becomes: native events for the session, and replies for the client."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The parts of an HTTP request, or of a websocket's handshake, that dialects read."""

    id: str
    """Unique among all requests."""
    received_at: str
    """The time, as in ISO 8601."""
    path: str
    values: Mapping[str, tuple[str, ...]]
    """The values of the query, and of a form's fields, by name."""
    headers: Mapping[str, str]
    """By name in lower case."""
    model: ModelInfo

    def value(self, name: str, default: str = "") -> str:
        """Return the last value of ``name``."""
        return self.values.get(name, (default,))[-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An HTTP response."""

    body: bytes
    content_type: str = "application/json"
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why the service does not serve a request. A dialect turns it into an answer of its own shape."""

    status: int
    """The HTTP status."""
    code: str
    """A code of the native protocol, such as ``unauthorized``."""
    message: str
    """A sentence for people."""
    param: str | None = None
    """The parameter that is wrong, if one is."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Headers that the answer must have, such as ``Retry-After``."""


class RefusedError(Exception):
    """A dialect does not accept a request.

    Args:
        message: what was wrong and what would be right.
        status: the HTTP status.
        code: a code of the native protocol.
        param: the parameter that is wrong, if one is.
        headers: headers that the answer must have.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        code: str = "bad_message",
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.refusal = Refusal(status=status, code=code, message=message, param=param, headers=headers or {})

    @classmethod
    def of(cls, refusal: Refusal) -> RefusedError:
        """Return the error for a refusal."""
        error = cls(refusal.message)
        error.refusal = refusal
        return error


class Dialect(ABC):
    """A protocol of other vendors' clients. Instances have no state."""

    name: ClassVar[str]
    """The value of the label ``dialect`` in metrics."""

    @abstractmethod
    def refuse(self, refusal: Refusal) -> Answer:
        """Return the HTTP response of a refused request."""


class Translation(ABC):
    """One live connection in a dialect. All methods return at once.

    Attributes:
        headers: headers of the handshake's response.
        opens_late: whether clients may connect long before their first audio, for example before a person allows
            the microphone. Then ``idle_timeout_s`` holds from the beginning, not ``start_timeout_s``.
    """

    headers: Mapping[str, str] = {}
    opens_late: ClassVar[bool] = False

    def opened(self) -> Iterable[Incoming]:
        """Return what follows from the handshake alone."""
        return ()

    @abstractmethod
    def receive(self, frame: Frame) -> Iterable[Incoming]:
        """Translate a frame of the client.

        Raises:
            ProtocolError: the frame is invalid. The session ends with an error, after its last finals.
        """

    def continue_from(self, seq: int) -> None:
        """Number the next message ``seq``, in dialects that number messages: a session was resumed."""
        raise NotImplementedError("this dialect has no `resume`")

    @abstractmethod
    def send(self, message: ServerMessage) -> Iterable[Frame]:
        """Translate a message for the client. ``done`` and ``error`` are last: the websocket closes after them."""

    def reply(self, reply: Reply) -> Frame:
        """Return the frame of a reply when its turn has come to be sent."""
        return reply.frame

    def close_code(self, last: Done | Error) -> int:
        """Return the websocket's close code after ``last``."""
        return CLOSE_NORMAL if isinstance(last, Done) else close_code(last.code)


class StatefulTranslation(Translation, Generic[StateT]):
    """A translation that follows a table of states, and ignores inputs that the current state does not have.

    Args:
        transitions: state → input → next state.
        state: the first state.
    """

    def __init__(self, transitions: Mapping[StateT, Mapping[str, StateT]], state: StateT) -> None:
        self._transitions = transitions
        self._state = state

    def _advance(self, name: str) -> bool:
        """Follow the table; false if the input is ignored."""
        following = self._transitions[self._state].get(name)
        self._state = following or self._state
        return following is not None


class LiveDialect(Dialect):
    """A protocol for live audio over a websocket."""

    paths: ClassVar[tuple[str, ...]]
    """The paths of its websocket."""
    subprotocols: ClassVar[tuple[str, ...]] = ()
    """Websocket subprotocols that its clients offer; the first one that a client offers is confirmed."""

    @abstractmethod
    def open(self, request: Request) -> Translation:
        """Return the translation for a new connection.

        Raises:
            RefusedError: the handshake asks for something that is not supported; it is answered with HTTP.
        """


class TcpDialect(Dialect):
    """A protocol for live audio over a TCP connection without HTTP. Its frames are bytes, cut anywhere.

    Its clients have no tokens, and ``refuse`` returns the bytes to send before the connection is closed.
    """

    @abstractmethod
    def open(self, request: Request) -> Translation:
        """Return the translation for a new connection. Of ``request``, only the model means anything."""
