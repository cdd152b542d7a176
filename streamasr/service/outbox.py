"""Queue messages for one client: bounded, with newer partials replacing older ones."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import NamedTuple

from streamasr.dialects.base import Reply
from streamasr.protocol.messages import Final, Partial, ServerMessage


class QueuedMessage(NamedTuple):
    """A message and the time at which it was emitted, in seconds of the monotonic clock."""

    message: ServerMessage | Reply
    emitted_at: float


class Outbox:
    """A bounded send queue with one reader, used on one event loop.

    A partial at the end of the queue is replaced by the next partial or final of the same utterance, so a slow
    client receives the newest text. Other messages are never dropped.

    Args:
        limit: the largest number of queued messages.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._waiting: deque[QueuedMessage] = deque()
        self._closed = False
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, message: ServerMessage | Reply, emitted_at: float) -> bool:
        """Queue ``message``. Return false, and queue nothing, if the queue is full.

        A closed outbox ignores the message and returns true.
        """
        if self._closed:
            return True
        if self._supersedes_last(message):
            self._waiting.pop()
        if len(self._waiting) >= self._limit:
            return False
        self._waiting.append(QueuedMessage(message, emitted_at))
        self._changed.set()
        return True

    def put_last(
        self, message: ServerMessage | Reply, emitted_at: float, *, drop_waiting: bool = False
    ) -> None:
        """Queue ``message`` regardless of the limit, then close the outbox.

        ``drop_waiting`` discards the messages that are queued before it.
        """
        if self._closed:
            return
        if drop_waiting:
            self._waiting.clear()
        self._waiting.append(QueuedMessage(message, emitted_at))
        self.close()

    def close(self) -> None:
        """Accept no more messages. Those already queued can still be read."""
        self._closed = True
        self._changed.set()

    async def get(self) -> QueuedMessage | None:
        """Wait for the next message; ``None`` once the outbox is closed and empty."""
        while not self._waiting:
            if self._closed:
                return None
            self._changed.clear()
            await self._changed.wait()
        return self._waiting.popleft()

    def _supersedes_last(self, message: ServerMessage | Reply) -> bool:
        if not self._waiting or not isinstance(message, (Partial, Final)):
            return False
        last = self._waiting[-1].message
        return isinstance(last, Partial) and last.utterance == message.utterance
