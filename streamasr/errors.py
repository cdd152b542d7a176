"""Define the errors that streamasr raises. Each says whose fault it is, and what would be right."""

from __future__ import annotations

from typing import Literal

Fault = Literal["client", "server"]


class StreamasrError(Exception):
    """The base class of all errors.

    Attributes:
        code: a stable, lower-case identifier that is sent over the wire (``bad_audio``, ``overloaded`` …).
        message: one sentence for people: what was wrong and what would be right.
        fault: whose fault it is, the ``client``'s or the ``server``'s.
        retry_after_ms: when a retry may help, in milliseconds; ``None`` if it will not.
    """

    code: str = "internal"
    fault: Fault = "server"

    def __init__(self, message: str, *, code: str | None = None, retry_after_ms: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        if code is not None:
            self.code = code
        self.retry_after_ms = retry_after_ms


class ProtocolError(StreamasrError):
    """The client sent something that the protocol does not allow."""

    code = "bad_message"
    fault: Fault = "client"


class AudioError(StreamasrError):
    """The audio does not have the format that the session declared."""

    code = "bad_audio"
    fault: Fault = "client"


class OverloadedError(StreamasrError):
    """There is no capacity now; ``retry_after_ms`` says when to try again."""

    code = "overloaded"
    fault: Fault = "server"


class NoHeadroomError(OverloadedError):
    """The machine has slots for more sessions, but not the time: an idle session that ends makes no room.

    Attributes:
        late: whether captions are late already. Then even the end of a live session makes no room at once.
    """

    def __init__(self, message: str, *, late: bool, retry_after_ms: int) -> None:
        super().__init__(message, retry_after_ms=retry_after_ms)
        self.late = late


class EngineError(StreamasrError):
    """A step of the engine failed; the sessions in it end, the engine continues."""

    code = "engine_failed"
    fault: Fault = "server"


class ConfigError(StreamasrError, ValueError):
    """A configuration file, flag or argument is not usable."""

    code = "bad_config"
    fault: Fault = "client"


class ModelError(StreamasrError, ValueError):
    """A model folder is missing, incomplete or of another version."""

    code = "bad_model"
    fault: Fault = "server"


class DataError(StreamasrError, ValueError):
    """A manifest, an audio file or a text corpus is not usable."""

    code = "bad_data"
    fault: Fault = "client"


class TrainingError(StreamasrError):
    """Training cannot continue; the message says why and what to change."""

    code = "training_failed"
