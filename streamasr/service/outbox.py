"""Queue messages for one client: bounded, with newer partials replacing older ones."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import NamedTuple

from streamasr.dialects.base import Reply
from streamasr.protocol.messages import Final, Partial, Resumed, ServerMessage, UtteranceEnding


class QueuedMessage(NamedTuple):
    """A message and the time at which it was emitted, in seconds of the monotonic clock."""

    message: ServerMessage | Reply
    emitted_at: float


class Outbox:
    """A bounded send queue with one reader at a time, used on one event loop.

    A partial at the end of the queue is replaced by the next partial or final of the same utterance, so a slow
    client receives the newest text. Other messages are never dropped.

    Messages are numbered from 0 as the reader gets them, replies not counted. The newest ones are kept, so that a
    client that resumes its session receives those that were lost with its connection.

    Args:
        limit: the largest number of queued messages.
        keep: the number of messages that are kept after the reader got them.
    """

    def __init__(self, limit: int, keep: int = 0) -> None:
        self._limit = limit
        self._waiting: deque[QueuedMessage] = deque()
        self._kept: deque[QueuedMessage] = deque(maxlen=keep)
        self._repeated = 0
        """Messages at the front of the queue that the reader gets for the second time."""
        self._closed = False
        self._changed = asyncio.Event()
        self._last_taken: ServerMessage | Reply | None = None
        self.next_seq = 0
        """The number of the next message."""
        self._room = asyncio.Event()

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def first_kept_seq(self) -> int:
        """The number of the oldest message that is kept."""
        return self.next_seq - len(self._kept)

    def put(self, message: ServerMessage | Reply, emitted_at: float) -> bool:
        """Queue ``message``. Return false, and queue nothing, if the queue is full.

        A closed outbox ignores the message and returns true.
        """
        if self._closed:
            return True
        if self._supersedes_last(message):
            self._waiting.pop()
        if len(self._waiting) - self._repeated >= self._limit:
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
            self._repeated = 0
        self._waiting.append(QueuedMessage(message, emitted_at))
        self.close()

    def resume(self, seq: int, resumed: Resumed, now: float) -> None:
        """Let the reader get ``resumed``, then the messages from number ``seq`` on, which must be kept, again."""
        assert self.first_kept_seq <= seq <= self.next_seq, "these messages are not kept"
        while self.next_seq > seq:
            self._waiting.appendleft(self._kept.pop())
            self._repeated += 1
            self.next_seq -= 1
        self._waiting.appendleft(QueuedMessage(resumed, now))
        self._repeated += 1
        self._changed.set()

    def close(self) -> None:
        """Accept no more messages. Those already queued can still be read."""
        self._closed = True
        self._changed.set()
        self._room.set()

    async def get(self) -> QueuedMessage | None:
        """Wait for the next message; ``None`` once the outbox is closed and empty."""
        while not self._waiting:
            if self._closed:
                return None
            self._changed.clear()
            await self._changed.wait()
        queued = self._waiting.popleft()
        self._last_taken = queued.message
        if len(self._waiting) <= self._limit // 2:
            self._room.set()
        self._repeated = max(0, self._repeated - 1)
        if not isinstance(queued.message, (Reply, Resumed)):
            self._kept.append(queued)
            self.next_seq += 1
        return queued

    async def wait_for_room(self) -> None:
        """Wait while more than half of the limit is queued, or until the outbox is closed."""
        while len(self._waiting) > self._limit // 2 and not self._closed:
            self._room.clear()
            await self._room.wait()

    def _supersedes_last(self, message: ServerMessage | Reply) -> bool:
        if len(self._waiting) <= self._repeated or not isinstance(message, (Partial, Final)):
            return False
        last = self._waiting[-1].message
        if not isinstance(last, Partial) or last.utterance != message.utterance:
            return False
        # A partial that takes an ending back must come before the final, whose text differs.
        before = self._waiting[-2].message if len(self._waiting) > 1 else self._last_taken
        return isinstance(message, Partial) or not isinstance(before, UtteranceEnding)
