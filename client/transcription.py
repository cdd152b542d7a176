"""Transcribe a whole audio file with the daemon, as fast as the daemon reads.

The socket's flow control sets the pace: sending waits while its buffers are full.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import math
from collections.abc import Callable
from contextlib import aclosing

from streamasr.protocol.messages import Done, Final, KeepAlive, Start, Warning
from streamasr.units import MS_PER_SECOND
from streamasr_client.audio import SoundFile
from streamasr_client.connection import AUDIO_TOLERANCE_MS, KEEPALIVE_MS, Backoff, Session, open_session
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
        tries: attempts in all. Each one sends the whole file; only temporary failures are retried.
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
    for tries_left in reversed(range(tries)):
        try:
            return await _attempt(url, start, file, on_progress, on_notice)
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


async def _attempt(
    url: str,
    start: Start,
    file: SoundFile,
    on_progress: Callable[[int], None] | None,
    on_notice: Callable[[str], None],
) -> list[Final]:
    async with open_session(url, start, ping_timeout_s=None) as session:
        if text := describe_readings(session.ready.hotwords):
            on_notice(text)
        sender = asyncio.create_task(_send(session, file, on_progress))
        receiver = asyncio.create_task(_receive(session, on_notice))
        try:
            await asyncio.wait({sender, receiver}, return_when=asyncio.FIRST_COMPLETED)
            sent_ms = sender.result() if sender.done() else math.inf
            finals, recognised_ms = await receiver
            if recognised_ms + AUDIO_TOLERANCE_MS < sent_ms:
                raise ConnectionFailed("the daemon is shutting down; it stopped in the middle of the file")
        except BaseException:
            session.abort()  # a closing handshake would wait behind the audio in the buffers
            raise
        finally:
            sender.cancel()
            receiver.cancel()
            await asyncio.gather(sender, receiver, return_exceptions=True)
    return finals


async def _send(session: Session, file: SoundFile, on_progress: Callable[[int], None] | None) -> float:
    """Send the file and ``stop``; return the duration of what was sent, in milliseconds."""
    sent = 0
    keeping_alive = asyncio.create_task(_keep_alive(session))  # a pipe or a URL may pause
    try:
        async with aclosing(file.blocks_from_thread(BLOCK_MS)) as blocks:
            async for block in blocks:
                await session.send_audio(block)
                sent += len(block)
                if on_progress is not None:
                    on_progress(file.format.bytes_to_ms(sent))
        keeping_alive.cancel()
        await session.stop()
    except ConnectionFailed:
        return math.inf  # the receiver fails, too, and knows the reason
    finally:
        keeping_alive.cancel()
    return file.format.bytes_to_ms(sent)


async def _keep_alive(session: Session) -> None:
    with contextlib.suppress(ConnectionFailed):
        while True:
            await asyncio.sleep(KEEPALIVE_MS / MS_PER_SECOND)
            await session.send(KeepAlive())


async def _receive(session: Session, on_notice: Callable[[str], None]) -> tuple[list[Final], int]:
    """Return the finals and ``done.audio_ms``."""
    finals, recognised_ms = [], 0
    async for message in session.messages():
        if isinstance(message, Final):
            finals.append(message)
        elif isinstance(message, Warning) and message.code != _SHUTTING_DOWN:
            on_notice(message.message)
        elif isinstance(message, Done):
            recognised_ms = message.audio_ms
    return finals, recognised_ms
