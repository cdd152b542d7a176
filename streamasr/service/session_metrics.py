"""Count and log one connection's messages, audio, delays and outcome. Neither audio nor text is stored."""

from __future__ import annotations

import time
from collections import deque
from typing import cast

from streamasr.dialects.base import Frame, Reply
from streamasr.frontend.pcm import Encoding, frame_bytes
from streamasr.protocol.messages import Done, Finalize, Finalized, Ready, ServerMessage, Start, Stop
from streamasr.service.logs import StrangersLog, log_event
from streamasr.service.metrics import Metrics
from streamasr.units import MS_PER_SECOND

_REAL_TIME_SLACK_MS = 1_000
"""A client sends in real time if its audio is at most this far ahead of the clock."""

_REQUEST_ANSWERED_BY = {Finalized: Finalize.type, Done: Stop.type}
"""Server message to the type of the client message that it answers."""


class SessionMetrics:
    """Metrics and log lines of one connection and its session.

    Args:
        metrics: the daemon's metrics.
        dialect: the dialect's name.
        peer: the client's address, for the log.
        log: logs connections without a session.
    """

    def __init__(self, metrics: Metrics, dialect: str, peer: str, log: StrangersLog) -> None:
        self._metrics = metrics
        self._log = log
        self._dialect = dialect
        self._peer = peer
        self._bytes_per_second = 1
        self._audio_bytes = 0
        self._opened_at = time.monotonic()
        self._requested_at: dict[str, deque[float]] = {
            request: deque() for request in _REQUEST_ANSWERED_BY.values()
        }
        self.session = ""
        """The session's id; empty before the session opens."""
        self.outcome = "client_gone"
        """How the connection ended: an error code, ``done``, ``drained`` or ``client_gone``."""

    def session_opened(self, start: Start, ready: Ready) -> None:
        """Log the new session."""
        self.session = ready.session
        frame = frame_bytes(cast(Encoding, start.encoding), start.channels)
        self._bytes_per_second = frame * start.sample_rate
        self._opened_at = time.monotonic()
        self._metrics.dialect_sessions.labels(self._dialect).inc()
        log_event(
            "session_opened",
            session=self.session,
            peer=self._peer,
            dialect=self._dialect,
            sample_rate=start.sample_rate,
            encoding=start.encoding,
            latency_ms=ready.latency_ms,
        )

    def session_parked(self) -> None:
        """Log that the session waits for its client, whose connection broke."""
        log_event("session_parked", session=self.session, peer=self._peer)

    def session_resumed(self, peer: str) -> None:
        """Log that the client at ``peer`` resumed the session."""
        self._peer = peer
        self.outcome = "client_gone"
        log_event("session_resumed", session=self.session, peer=peer)

    def message_received(self, frame: Frame) -> None:
        """Count an incoming message."""
        self._count("in", "audio" if isinstance(frame, bytes) else "text", frame_size(frame))

    def message_sent(self, message: ServerMessage | Reply, size: int, emitted_at: float) -> None:
        """Count an outgoing message of ``size`` bytes and observe its delays.

        ``emitted_at`` is the time of the monotonic clock when the message was emitted, in seconds.
        """
        now = time.monotonic()
        if isinstance(message, Reply):
            self._count("out", "reply", size)
            return
        self._count("out", message.type, size)
        self._metrics.delivery.labels(message.type).observe(now - emitted_at)
        request = _REQUEST_ANSWERED_BY.get(type(message))
        if request is not None and self._requested_at[request]:
            self._metrics.final_lag.labels(request).observe(now - self._requested_at[request].popleft())

    def audio_received(self, size: int) -> None:
        """Count ``size`` bytes of audio that the session accepted."""
        self._audio_bytes += size
        self._metrics.dialect_audio.labels(self._dialect).inc(size / self._bytes_per_second)

    def request_received(self, request: str) -> None:
        """Remember when the client sent ``finalize`` or ``stop``, to measure the time to its answer."""
        self._requested_at[request].append(time.monotonic())

    def reading_paused(self) -> None:
        """Count a pause in reading from the client (backpressure)."""
        self._metrics.pauses.inc()

    def in_real_time(self) -> bool:
        """Whether the client sends audio no faster than real time."""
        elapsed_ms = (time.monotonic() - self._opened_at) * MS_PER_SECOND
        return self._audio_ms() <= elapsed_ms + _REAL_TIME_SLACK_MS

    def connection_closed(self) -> None:
        """Log the end of the connection and count its error, if it failed."""
        failed = self.outcome not in ("done", "drained", "client_gone")
        if failed and not self.session:
            self._metrics.refused.labels(self.outcome).inc()
        elif failed:
            self._metrics.errors.labels(self.outcome).inc()
        if failed:
            self._metrics.dialect_errors.labels(self._dialect, self.outcome).inc()
        if self.session:
            log_event(
                "session_closed",
                session=self.session,
                peer=self._peer,
                outcome=self.outcome,
                audio_ms=self._audio_ms(),
            )
        else:
            self._log.event("connection_closed", peer=self._peer, outcome=self.outcome)

    def _audio_ms(self) -> int:
        return self._audio_bytes * MS_PER_SECOND // self._bytes_per_second

    def _count(self, direction: str, kind: str, size: int) -> None:
        self._metrics.messages.labels(direction, kind).inc()
        self._metrics.bytes.labels(direction).inc(size)


def frame_size(frame: Frame) -> int:
    """Return the size of a frame in bytes."""
    return len(frame) if isinstance(frame, bytes) else len(frame.encode("utf-8", "surrogatepass"))
