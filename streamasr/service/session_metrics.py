"""What one conversation is counted and logged as: messages, audio, delays and how it ended.

Knows the metrics and the log; no socket and no engine. Neither audio nor text is kept.
"""

from __future__ import annotations

import time
from collections import deque
from typing import cast

from streamasr.frontend.pcm import Encoding, frame_bytes
from streamasr.protocol.messages import Done, Finalize, Finalized, Ready, ServerMessage, Start, Stop
from streamasr.service.logs import log_event
from streamasr.service.metrics import Metrics
from streamasr.units import MS_PER_SECOND

_REAL_TIME_SLACK_MS = 1_000
"""A client no further ahead of the clock than this sends in real time: a backlog is then the server's."""

_REQUEST_ANSWERED_BY = {Finalized: Finalize.type, Done: Stop.type}


class SessionMetrics:
    """One conversation's books.

    Args:
        peer: the client's address, for the log.
    """

    def __init__(self, metrics: Metrics, peer: str) -> None:
        self._metrics = metrics
        self._peer = peer
        self._bytes_per_second = 1
        self._audio_bytes = 0
        self._opened_at = time.monotonic()
        self._requested_at: dict[str, deque[float]] = {
            request: deque() for request in _REQUEST_ANSWERED_BY.values()
        }
        self.session = ""
        """The session's name; empty before there is one."""
        self.outcome = "client_gone"
        """How it ended: an error code, ``done``, ``drained`` or ``client_gone``."""

    def session_opened(self, start: Start, ready: Ready) -> None:
        """The session began."""
        self.session = ready.session
        frame = frame_bytes(cast(Encoding, start.encoding), start.channels)
        self._bytes_per_second = frame * start.sample_rate
        self._opened_at = time.monotonic()
        log_event(
            "session_opened",
            session=self.session,
            peer=self._peer,
            sample_rate=start.sample_rate,
            encoding=start.encoding,
            latency_ms=ready.latency_ms,
        )

    def message_received(self, data: str | bytes) -> None:
        """A websocket message came in."""
        size, kind = (len(data), "audio") if isinstance(data, bytes) else (len(data.encode()), "text")
        self._count("in", kind, size)

    def message_sent(self, message: ServerMessage, size: int, emitted_at: float) -> None:
        """A message went out that was said at ``said``."""
        now = time.monotonic()
        self._count("out", message.type, size)
        self._metrics.delivery.labels(message.type).observe(now - emitted_at)
        request = _REQUEST_ANSWERED_BY.get(type(message))
        if request is not None and self._requested_at[request]:
            self._metrics.final_lag.labels(request).observe(now - self._requested_at[request].popleft())

    def audio_received(self, size: int) -> None:
        """The session took ``size`` bytes of audio."""
        self._audio_bytes += size

    def request_received(self, request: str) -> None:
        """The client asked for something that will be answered."""
        self._requested_at[request].append(time.monotonic())

    def reading_paused(self) -> None:
        """The client is not read further for a while."""
        self._metrics.pauses.inc()

    def in_real_time(self) -> bool:
        """Whether the audio came no faster than it was spoken."""
        elapsed_ms = (time.monotonic() - self._opened_at) * MS_PER_SECOND
        return self._audio_ms() <= elapsed_ms + _REAL_TIME_SLACK_MS

    def connection_closed(self) -> None:
        """It is over."""
        failed = self.outcome not in ("done", "drained", "client_gone")
        if failed and not self.session:
            self._metrics.refused.labels(self.outcome).inc()
        elif failed:
            self._metrics.errors.labels(self.outcome).inc()
        log_event(
            "session_closed" if self.session else "connection_closed",
            session=self.session,
            peer=self._peer,
            outcome=self.outcome,
            audio_ms=self._audio_ms(),
        )

    def _audio_ms(self) -> int:
        return self._audio_bytes * MS_PER_SECOND // self._bytes_per_second

    def _count(self, direction: str, kind: str, size: int) -> None:
        self._metrics.messages.labels(direction, kind).inc()
        self._metrics.bytes.labels(direction).inc(size)
