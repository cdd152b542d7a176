"""List the error and warning codes of the native protocol, with their fault, close code and meaning.

The protocol's reference in ``docs/`` lists the same codes; a test compares the two.
"""

from __future__ import annotations

from dataclasses import dataclass

from streamasr.errors import Fault

CLOSE_NORMAL = 1000
CLOSE_GOING_AWAY = 1001
CLOSE_UNSUPPORTED = 1003
CLOSE_POLICY = 1008
CLOSE_TOO_BIG = 1009
CLOSE_INTERNAL = 1011
CLOSE_TRY_AGAIN_LATER = 1013
"""The close codes that the protocol uses, from RFC 6455 and IANA's registry."""


@dataclass(frozen=True, slots=True)
class ErrorCode:
    """The properties of an error: ``fault`` is sent in the message, ``close`` as the socket's close code."""

    fault: Fault
    close: int
    meaning: str


ERROR_CODES: dict[str, ErrorCode] = {
    "bad_message": ErrorCode(
        "client", CLOSE_POLICY, "not a message of this protocol: wrong JSON, field, type or value"
    ),
    "out_of_order": ErrorCode("client", CLOSE_POLICY, "a message that the session's state does not allow"),
    "message_too_big": ErrorCode("client", CLOSE_TOO_BIG, "a text or binary message beyond its limit"),
    "bad_audio": ErrorCode(
        "client", CLOSE_UNSUPPORTED, "audio that cannot be what `start` stated: a container, or NaN"
    ),
    "unauthorized": ErrorCode("client", CLOSE_POLICY, "no token, a wrong one, or an expired one"),
    "rate_limited": ErrorCode(
        "server", CLOSE_TRY_AGAIN_LATER, "too many wrong tokens from this address; see `retry_after_ms`"
    ),
    "unknown_session": ErrorCode("client", CLOSE_POLICY, "no session to resume: ended, expired or elsewhere"),
    "start_timeout": ErrorCode("client", CLOSE_POLICY, "no `start` in time after connecting"),
    "idle_timeout": ErrorCode("client", CLOSE_POLICY, "no audio and no message in time"),
    "slow_reader": ErrorCode("client", CLOSE_POLICY, "the client does not read its messages"),
    "overloaded": ErrorCode("server", CLOSE_TRY_AGAIN_LATER, "no free session now; see `retry_after_ms`"),
    "shutting_down": ErrorCode(
        "server", CLOSE_GOING_AWAY, "the server is shutting down and accepts no new session"
    ),
    "engine_failed": ErrorCode(
        "server", CLOSE_INTERNAL, "recognition of this session failed; open a new session"
    ),
    "internal": ErrorCode("server", CLOSE_INTERNAL, "an unexpected error of the server"),
}
"""The ``code`` of an ``error`` message to its properties."""

WARNING_CODES: dict[str, str] = {
    "suspicious_audio": "the audio does not look like what `start` stated; see the message",
    "bad_hotwords": "unusable hotwords: `start` goes on without them, `configure` changes nothing",
    "backlog": "recognition is behind the audio; the server stops reading until it has caught up",
    "shutting_down": "the server is shutting down; finals and `done` follow for audio already read",
}
"""The ``code`` of a ``warning`` message to its meaning."""


def close_code(code: str) -> int:
    """Return the close code that follows an error with ``code``; unknown codes count as internal errors."""
    return ERROR_CODES[code].close if code in ERROR_CODES else CLOSE_INTERNAL
