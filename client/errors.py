"""Define the errors that clients raise."""

from __future__ import annotations

from streamasr.errors import Fault, StreamasrError


class ConnectionFailed(StreamasrError):
    """The daemon could not be reached, or the connection was lost. A later attempt may succeed."""

    code = "connection_failed"
    fault: Fault = "server"


class DaemonError(StreamasrError):
    """The daemon ended the session with an ``error`` message, or refused the handshake.

    Attributes:
        fault: from the daemon. ``client`` means that the same request will fail again.
    """

    def __init__(self, message: str, *, code: str, fault: Fault, retry_after_ms: int | None = None) -> None:
        super().__init__(message, code=code, retry_after_ms=retry_after_ms)
        self.fault = fault

    @property
    def may_retry(self) -> bool:
        """Whether the same request may succeed later."""
        return self.fault == "server" or self.retry_after_ms is not None


class MicrophoneError(StreamasrError):
    """The microphone cannot be used. The message says what to install, connect or choose."""

    code = "no_microphone"
    fault: Fault = "client"
