"""What waits to be sent to one client: bounded, partials replaced by newer ones, finals never lost.

Lives on the event loop; knows no socket.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import NamedTuple

from streamasr.protocol.messages import Final, Partial, ServerMessage


class QueuedMessage(NamedTuple):
    """A message, and the second of the monotonic clock at which it was said."""

    message: ServerMessage
    emitted_at: float


class Outbox:
    """A queue for one reader.

    A partial that still waits at the end of the queue is replaced by what comes next of the same utterance:
    the client reads the newest, however slow it is. Nothing else is ever dropped.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._waiting: deque[QueuedMessage] = deque()
        self._closed = False
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, message: ServerMessage, emitted_at: float) -> bool:
        """Queue ``message``; false, and nothing queued, at the limit. Once closed all is ignored."""
        if self._closed:
            return True
        if self._supersedes_last(message):
            self._waiting.pop()
        if len(self._waiting) >= self._limit:
            return False
        self._waiting.append(QueuedMessage(message, emitted_at))
        self._changed.set()
        return True

    def put_last(self, message: ServerMessage, emitted_at: float, *, drop_waiting: bool = False) -> None:
        """Queue ``message`` beyond any limit and take no more after it."""
        if self._closed:
            return
        if drop_waiting:
            self._waiting.clear()
        self._waiting.append(QueuedMessage(message, emitted_at))
        self.close()

    def close(self) -> None:
        """Take no more; what waits may still be read."""
        self._closed = True
        self._changed.set()

    async def get(self) -> QueuedMessage | None:
        """The next message; ``None`` once closed and empty."""
        while not self._waiting:
            if self._closed:
                return None
            self._changed.clear()
            await self._changed.wait()
        return self._waiting.popleft()

    def _supersedes_last(self, message: ServerMessage) -> bool:
        if not self._waiting or not isinstance(message, (Partial, Final)):
            return False
        last = self._waiting[-1].message
        return isinstance(last, Partial) and last.utterance == message.utterance
