"""Keep the sessions whose connection broke, for a limited time, so that their clients can resume them."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from streamasr.service.client_session import ClientSession
from streamasr.service.metrics import Metrics
from streamasr.units import MS_PER_SECOND

_TOKEN_BYTES = 24
"""Randomness of a token."""


@dataclass(slots=True)
class _Entry:
    session: ClientSession
    detach: Callable[[], None]
    """Takes the session from the connection that has it."""
    expiry: asyncio.TimerHandle | None = None
    """Ends the session; set while it is parked."""


class ResumableSessions:
    """The sessions that clients may resume: those with a connection, and the parked ones, which lost theirs.

    A parked session keeps its slot in the engine. When a new session needs the slot, or the time, the one that was
    parked first is ended. Sessions that are over have no slot, only messages that their clients may have missed.

    Args:
        resume_for_ms: how long a session stays parked.
        most_parked: parked sessions; beyond, those that are over are dropped, the longest parked first.
        metrics: the daemon's metrics.
    """

    def __init__(self, resume_for_ms: int, most_parked: int, metrics: Metrics) -> None:
        self._resume_for_ms = resume_for_ms
        self._most_parked = most_parked
        self._metrics = metrics
        self._entries: dict[bytes, _Entry] = {}
        """By the digest of the token: how long a look-up takes tells nothing about the token."""
        self._parked: dict[str, None] = {}
        """Tokens of parked sessions, the longest parked first."""

    def add(self, session: ClientSession, detach: Callable[[], None]) -> str:
        """Register an open session and return its token. ``detach`` takes it from its connection."""
        session.token = secrets.token_urlsafe(_TOKEN_BYTES)
        self._entries[_digest(session.token)] = _Entry(session, detach)
        return session.token

    def park(self, session: ClientSession) -> None:
        """Keep a session that lost its connection; it ends after ``resume_for_ms``."""
        entry = self._entries[_digest(session.token)]
        loop = asyncio.get_running_loop()
        entry.expiry = loop.call_later(self._resume_for_ms / MS_PER_SECOND, self._expire, session.token)
        self._parked[session.token] = None
        self._metrics.parked.set(len(self._parked))
        session.metrics.session_parked()
        if len(self._parked) > self._most_parked:
            self._end_first(lambda other: other.over)

    def find(self, token: str) -> ClientSession | None:
        """Return the session of ``token``, parked or not."""
        entry = self._entries.get(_digest(token))
        return None if entry is None else entry.session

    def take(self, session: ClientSession, detach: Callable[[], None]) -> None:
        """Take a session from its former connection, or from the parked ones, for the owner of ``detach``."""
        entry = self._entries[_digest(session.token)]
        if not self._unpark(session.token):
            entry.detach()
        entry.detach = detach

    def forget(self, session: ClientSession) -> None:
        """Drop a session that is over, or whose client has left. Others are ignored."""
        self._unpark(session.token)
        self._entries.pop(_digest(session.token), None)

    def end_oldest(self, *, live_only: bool) -> bool:
        """End the session that was parked first, for its slot; false if none is parked.

        Args:
            live_only: whether it must count as live load, because a new session needs the time.
        """
        return self._end_first(lambda session: not session.over and (session.is_live or not live_only))

    def end_all(self) -> None:
        """End all parked sessions."""
        for token in list(self._parked):
            self._expire(token)

    def _end_first(self, matches: Callable[[ClientSession], bool]) -> bool:
        for token in self._parked:
            if matches(self._entries[_digest(token)].session):
                self._expire(token)
                return True
        return False

    def _expire(self, token: str) -> None:
        session = self._entries[_digest(token)].session
        self.forget(session)
        session.end()

    def _unpark(self, token: str) -> bool:
        if token not in self._parked:
            return False
        del self._parked[token]
        self._metrics.parked.set(len(self._parked))
        expiry = self._entries[_digest(token)].expiry
        assert expiry is not None, "a parked session expires"
        expiry.cancel()
        return True


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
