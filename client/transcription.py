"""Transcribe a whole audio file with the daemon, as fast as the daemon reads.

The socket's flow control sets the pace: sending waits while its buffers are full.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import math
from collections.abc import Callable
from contextlib import AsyncExitStack, aclosing

from streamasr.protocol.messages import Done, Final, KeepAlive, Start, Warning
from streamasr.units import MS_PER_SECOND
from streamasr_client.audio import SoundFile
from streamasr_client.connection import (
    AUDIO_TOLERANCE_MS,
    KEEPALIVE_MS,
    Backoff,
    Session,
    open_session,
    try_to_resume,
)
from streamasr_client.errors import ConnectionFailed, DaemonError
from streamasr_client.hotwords import describe_readings

TRIES = 5
"""Attempts per file, if the daemon has no free session or stops in the middle."""
BLOCK_MS = 500
"""Length of the blocks that are sent."""
_SHUTTING_DOWN = "shutting_down"
"""The warning after which the file is sent again, so that the user needs no notice."""


async def transcribe_file(
    url: str,
    start: Start,
    file: SoundFile,
    *,
    tries: int = TRIES,
    backoff: Backoff | None = None,
    on_progress: Callable[[int], None] | None = None,
    on_notice: Callable[[str], None] = lambda _: None,
) -> list[Final]:
    """Send a file and return its finals.

    Args:
        url: the daemon's stream.
        start: the ``start`` message. The file's format replaces its audio fields.
        file: the audio.
        tries: attempts in all; only temporary failures are retried. After a lost connection the session is resumed,
            if the daemon still has it; otherwise the whole file is sent again.
        backoff: the waiting times between attempts.
        on_progress: called with the milliseconds of audio sent so far.
        on_notice: called with sentences for the user: the daemon's warnings, and how hotwords were read.

    Raises:
        DaemonError: the daemon refused the session permanently, or in every attempt.
        ConnectionFailed: the daemon could not be reached, or the connection was lost, in every attempt.
        DataError: the file cannot be read, or it has a sample that cannot be used.
    """
    backoff = backoff or Backoff()
    start = dataclasses.replace(
        start,
        sample_rate=file.format.sample_rate,
        channels=file.format.channels,
        encoding=file.format.encoding,
        partials=False,
    )
    transfer = _Transfer(url, start, file, on_progress, on_notice)
    for tries_left in reversed(range(tries)):
        try:
            return await transfer.attempt()
        except DaemonError as error:
            if not tries_left or not error.may_retry:
                raise
            wait_ms = backoff.next_ms(error.retry_after_ms)
        except ConnectionFailed:
            if not tries_left:
                raise
            wait_ms = backoff.next_ms()
        await asyncio.sleep(wait_ms / MS_PER_SECOND)
    raise ValueError(f"tries must be positive, got {tries}")


class _Transfer:
    """A file on its way to the daemon, over one connection or several."""

    def __init__(
        self,
        url: str,
        start: Start,
        file: SoundFile,
        on_progress: Callable[[int], None] | None,
        on_notice: Callable[[str], None],
    ) -> None:
        self._url = url
        self._start = start
        self._file = file
        self._on_progress = on_progress
        self._on_notice = on_notice
        self._finals: list[Final] = []
        """Those of the session so far."""
        self._broken: Session | None = None
        """The session whose connection was lost."""

    async def attempt(self) -> list[Final]:
        """Send the file, or what the daemon lacks of it, and return the finals."""
        async with AsyncExitStack() as stack:
            session = await self._connect(stack)
            self._broken = None
            if session.resumed is None:
                self._finals.clear()
                if text := describe_readings(session.ready.hotwords):
                    self._on_notice(text)
            sender = asyncio.create_task(self._send(session))
            receiver = asyncio.create_task(self._receive(session))
            try:
                await asyncio.wait({sender, receiver}, return_when=asyncio.FIRST_COMPLETED)
                sent_ms = sender.result() if sender.done() else math.inf
                recognised_ms = await receiver
            except ConnectionFailed:
                self._broken = session
                raise
            except BaseException:
                session.abort()  # a closing handshake would wait behind the audio in the buffers
                raise
            finally:
                sender.cancel()
                receiver.cancel()
                await asyncio.gather(sender, receiver, return_exceptions=True)
            if recognised_ms + AUDIO_TOLERANCE_MS < sent_ms:
                session.abort()
                raise ConnectionFailed("the daemon is shutting down; it stopped in the middle of the file")
        return self._finals

    async def _connect(self, stack: AsyncExitStack) -> Session:
        session = await try_to_resume(stack, self._url, self._broken, ping_timeout_s=None)
        if session is not None:
            return session
        return await stack.enter_async_context(open_session(self._url, self._start, ping_timeout_s=None))

    async def _send(self, session: Session) -> float:
        """Send what the daemon lacks and ``stop``; return the duration of the file, in milliseconds."""
        format_, position, sent = self._file.format, 0, 0
        if session.resumed is not None:
            sent = session.resumed.audio_samples * format_.frame_bytes
            if session.resumed.requests:  # it has `stop`, so it has the whole file
                return format_.bytes_to_ms(sent)
        keeping_alive = asyncio.create_task(_keep_alive(session))  # a pipe or a URL may pause
        try:
            async with aclosing(self._file.blocks_from_thread(BLOCK_MS)) as blocks:
                async for block in blocks:
                    begin, position = position, position + len(block)
                    if position <= sent:
                        continue
                    await session.send_audio(block[max(0, sent - begin) :])
                    sent = position
                    if self._on_progress is not None:
                        self._on_progress(format_.bytes_to_ms(sent))
            keeping_alive.cancel()
            await session.stop()
        except ConnectionFailed:
            return math.inf  # the receiver fails, too, and knows the reason
        finally:
            keeping_alive.cancel()
        return format_.bytes_to_ms(position)

    async def _receive(self, session: Session) -> int:
        """Collect the finals; return ``done.audio_ms``."""
        audio_ms = 0
        async for message in session.messages():
            if isinstance(message, Final):
                self._finals.append(message)
            elif isinstance(message, Warning) and message.code != _SHUTTING_DOWN:
                self._on_notice(message.message)
            elif isinstance(message, Done):
                audio_ms = message.audio_ms  # the last message
        return audio_ms


async def _keep_alive(session: Session) -> None:
    with contextlib.suppress(ConnectionFailed):
        while True:
            await asyncio.sleep(KEEPALIVE_MS / MS_PER_SECOND)
            await session.send(KeepAlive())
