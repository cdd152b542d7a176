"""What can go wrong on the client's side of the socket."""

from __future__ import annotations

from streamasr.errors import Fault, StreamasrError


class ConnectionFailed(StreamasrError):
    """The daemon could not be reached, or the connection broke; trying again may help."""

    code = "connection_failed"
    fault: Fault = "server"


class DaemonError(StreamasrError):
    """The daemon ended the session with an ``error`` message, or refused the handshake.

    Attributes:
        fault: as the daemon said. ``client`` means that trying again the same way will fail the same way.
    """

    def __init__(self, message: str, *, code: str, fault: Fault, retry_after_ms: int | None = None) -> None:
        super().__init__(message, code=code, retry_after_ms=retry_after_ms)
        self.fault = fault

    @property
    def may_retry(self) -> bool:
        """Whether the same request may succeed later."""
        return self.fault == "server" or self.retry_after_ms is not None


class MicrophoneError(StreamasrError):
    """No sound can be captured; the message says what to install, plug in or choose."""

    code = "no_microphone"
    fault: Fault = "client"


class MediaError(StreamasrError):
    """A sound file cannot be read."""

    code = "bad_file"
    fault: Fault = "client"
