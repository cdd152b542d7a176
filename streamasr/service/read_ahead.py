"""Receive a client's frames even while its session is behind, so that pings and a lost connection are noticed."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from streamasr.dialects.base import Frame
from streamasr.service.session_metrics import frame_size
from streamasr.service.transport import Transport


class ReadAhead:
    """Receives frames in order; some of them ahead of time, up to a number of bytes.

    A websocket answers a ping when it reads it, after all audio that was sent before.

    Args:
        transport: an open connection.
        limit_bytes: while this many bytes are held, no more frames are received.
    """

    def __init__(self, transport: Transport, limit_bytes: int) -> None:
        self._transport = transport
        self._limit_bytes = limit_bytes
        self._frames: deque[Frame] = deque()
        self._bytes = 0
        self._receiving: asyncio.Future[Frame] | None = None
        """Goes on between calls: a transport may lose part of a frame if it is cancelled."""

    async def receive(self) -> Frame:
        """Return the next frame.

        Raises:
            DisconnectedError: the other side is gone.
        """
        if not self._frames:
            receiving, self._receiving = self._receiving, None
            return await (receiving or self._transport.receive())
        frame = self._frames.popleft()
        self._bytes -= frame_size(frame)
        return frame

    async def receive_until(self, event: asyncio.Event) -> None:
        """Receive frames for later calls of :meth:`receive`, until ``event`` is set.

        Raises:
            DisconnectedError: the other side is gone.
        """
        waiting = asyncio.create_task(event.wait())
        try:
            while not event.is_set():
                ended = self._receiving is not None and self._receiving.done()
                if ended or self._bytes >= self._limit_bytes:
                    await waiting
                    return
                if self._receiving is None:
                    self._receiving = asyncio.ensure_future(self._transport.receive())
                either: set[asyncio.Future[Any]] = {waiting, self._receiving}
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
                if self._receiving.done():
                    if self._transport.half_closed:
                        continue  # the end comes after what was received
                    receiving, self._receiving = self._receiving, None
                    frame = receiving.result()
                    self._frames.append(frame)
                    self._bytes += frame_size(frame)
        finally:
            waiting.cancel()

    def close(self) -> None:
        """Receive no more."""
        if self._receiving is not None and not self._receiving.cancel() and not self._receiving.cancelled():
            self._receiving.exception()  # marks it as seen
