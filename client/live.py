"""Unbroken captions over a connection that may break.

Audio since the last finished utterance is kept and sent again after a reconnect, so that neither sound nor
text is lost while the daemon restarts; times and utterance numbers run on as if there had been one session.
Knows sessions and sources; draws nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass
from typing import Literal

from streamasr.protocol.messages import Done, Final, Partial, ServerMessage, SpeechStarted, Start, WordTiming
from streamasr.units import MS_PER_SECOND
from streamasr_client.audio import AudioSource
from streamasr_client.connection import (
    AUDIO_MESSAGE_BYTES,
    AUDIO_TOLERANCE_MS,
    Backoff,
    Session,
    open_session,
)
from streamasr_client.errors import ConnectionFailed, DaemonError

REPLAY_MS = 30_000
"""Most audio kept for a reconnect: longer than the longest utterance. The oldest is dropped first."""
IDLE_REPLAY_MS = 5_000
"""Audio kept while nobody speaks: enough for the daemon to have answered if somebody had."""
TRIES_AFTER_END = 3
"""Once the source has ended, a lost session is opened again at most so often."""

_RETRYABLE_CLIENT_ERRORS = frozenset({"idle_timeout", "slow_reader", "start_timeout"})
"""Errors of the client that come from stalls (a suspended laptop), not from what it sent."""


@dataclass(frozen=True, slots=True)
class ConnectionStatus:
    """The connection changed: trying, live, or waiting ``retry_ms`` for the reason in ``message``."""

    state: Literal["connecting", "live", "waiting"]
    message: str = ""
    retry_ms: int = 0


@dataclass(frozen=True, slots=True)
class AudioLost:
    """So much audio was never recognised: it was older than the replay buffer when the daemon came back."""

    ms: int


LiveEvent = ServerMessage | ConnectionStatus | AudioLost


class ReplayBuffer:
    """The newest ``max_bytes`` bytes of a stream, addressed by their offset from its beginning."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._data = bytearray()
        self.start = 0

    @property
    def end(self) -> int:
        """Offset after the newest byte."""
        return self.start + len(self._data)

    def append(self, data: bytes) -> None:
        """Add at the end; the oldest bytes make room."""
        self._data += data
        self.release(self.end - self.max_bytes)

    def read(self, offset: int, size: int) -> bytes:
        """Up to ``size`` bytes from ``offset``, which must not lie before ``start``."""
        begin = offset - self.start
        assert begin >= 0, "read of bytes already dropped"
        return bytes(self._data[begin : begin + size])

    def release(self, offset: int) -> None:
        """Forget what lies before ``offset``."""
        count = min(max(0, offset - self.start), len(self._data))
        del self._data[:count]
        self.start += count


class LiveStream:
    """Captions of one source.

    Args:
        url: the daemon's stream.
        start: the ``start`` message; its audio fields are replaced by the source's format.
        source: where the audio comes from.
        backoff: waiting times between tries.
        replay_ms: most audio kept for a reconnect, in milliseconds.
        on_audio: called with every block as it comes (for a level meter).
    """

    def __init__(
        self,
        url: str,
        start: Start,
        source: AudioSource,
        *,
        backoff: Backoff | None = None,
        replay_ms: int = REPLAY_MS,
        on_audio: Callable[[bytes], None] | None = None,
    ) -> None:
        self._url = url
        self._source = source
        self._format = source.format
        self._start = dataclasses.replace(
            start,
            sample_rate=self._format.sample_rate,
            channels=self._format.channels,
            encoding=self._format.encoding,
        )
        self._backoff = backoff or Backoff()
        self._on_audio = on_audio
        self._buffer = ReplayBuffer(self._format.ms_to_bytes(replay_ms))
        self._audio_added = asyncio.Event()
        self._source_ended = asyncio.Event()
        self._session: Session | None = None
        self._position = 0
        self._sent = 0
        self._lost = 0
        self._origin_ms = 0
        self._first_utterance = 0
        self._next_utterance = 0
        self._speaking = False
        self._fell_behind = False
        self._recognised_ms = 0

    async def events(self) -> AsyncGenerator[LiveEvent, None]:
        """Everything that happens, until the source has ended and the daemon has said ``done``.

        Close the generator (``contextlib.aclosing``) to give up early.

        Raises:
            DaemonError: the daemon refuses this client; trying again would not help.
            ConnectionFailed: the daemon stayed away after the source had ended.
            MicrophoneError: from the source, after the finals of what it had given.
        """
        reader = asyncio.create_task(self._read_source())
        tries_after_end = 0
        try:
            while True:
                yield ConnectionStatus("connecting")
                retry_after_ms = None
                try:
                    async with open_session(self._url, self._start) as session:
                        for event in self._start_session():
                            yield event
                        async for message in self._run_session(session):
                            yield message
                    if (
                        self._source_ended.is_set()
                        and self._recognised_ms + AUDIO_TOLERANCE_MS
                        >= self._format.bytes_to_ms(self._buffer.end)
                    ):
                        await reader
                        return
                    failure = ConnectionFailed("the daemon is shutting down")
                except DaemonError as error:
                    if not error.may_retry and error.code not in _RETRYABLE_CLIENT_ERRORS:
                        raise
                    failure, retry_after_ms = ConnectionFailed(error.message), error.retry_after_ms
                except ConnectionFailed as error:
                    failure = error
                if self._source_ended.is_set():
                    if not tries_after_end:
                        self._backoff.reset()
                    tries_after_end += 1
                    if tries_after_end >= TRIES_AFTER_END:
                        raise failure
                wait_ms = self._backoff.next_ms(retry_after_ms)
                yield ConnectionStatus("waiting", failure.message, wait_ms)
                await self._wait_to_reconnect(wait_ms)
        finally:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)

    async def _read_source(self) -> None:
        try:
            async for block in self._source:
                if self._on_audio is not None:
                    self._on_audio(block)
                self._buffer.append(block)
                if self._session is not None and self._position < self._buffer.start:
                    self._fell_behind = True
                    self._session.abort()
                if self._buffer.start > self._sent:
                    self._lost += self._buffer.start - self._sent
                    self._sent = self._buffer.start
                self._audio_added.set()
        finally:
            self._source_ended.set()
            self._audio_added.set()

    async def _wait_to_reconnect(self, wait_ms: int) -> None:
        """Wait, but no longer than the source lasts: who stops it is waiting to leave."""
        if self._source_ended.is_set():
            await asyncio.sleep(wait_ms / MS_PER_SECOND)
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_ms / MS_PER_SECOND):
                await self._source_ended.wait()

    def _start_session(self) -> list[LiveEvent]:
        """A session has opened: place its audio and its numbers after what came before."""
        events: list[LiveEvent] = [ConnectionStatus("live")]
        if self._lost:
            events.append(AudioLost(self._format.bytes_to_ms(self._lost)))
            self._lost = 0
        self._origin_ms = self._format.bytes_to_ms(self._buffer.start)
        self._first_utterance = self._next_utterance
        self._speaking = False
        self._fell_behind = False
        return events

    async def _run_session(self, session: Session) -> AsyncIterator[ServerMessage]:
        """Send and receive at once until ``done``. Why the daemon ended the session is for the receiver to
        tell."""
        self._session = session
        self._position = self._buffer.start
        sender = asyncio.create_task(self._send_audio(session))
        try:
            yield session.ready
            async for message in session.messages():
                self._backoff.reset()
                rebased = self._rebase(message)
                self._track(rebased)
                yield rebased
        except ConnectionFailed:
            if self._fell_behind:
                behind_ms = self._format.bytes_to_ms(self._buffer.max_bytes)
                raise ConnectionFailed(f"the daemon fell more than {behind_ms} ms behind") from None
            raise
        finally:
            self._session = None
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)

    async def _send_audio(self, session: Session) -> None:
        """Send what the buffer holds, then what comes, then ``stop``. A socket that fails here fails
        for the receiver too, who reports it."""
        idle = self._format.ms_to_bytes(IDLE_REPLAY_MS)
        while True:
            chunk = self._buffer.read(self._position, AUDIO_MESSAGE_BYTES)
            if chunk:
                self._position += len(chunk)
                try:
                    await session.send_audio(chunk)
                except ConnectionFailed:
                    return
                self._sent = max(self._sent, self._position)
                if not self._speaking:
                    self._buffer.release(self._position - idle)
            elif self._source_ended.is_set():
                with contextlib.suppress(ConnectionFailed):
                    await session.stop()
                return
            else:
                self._audio_added.clear()
                await self._audio_added.wait()

    def _rebase(self, message: ServerMessage) -> ServerMessage:
        """The message with its times and number moved to where they are in the whole stream."""
        shift = self._origin_ms
        if isinstance(message, SpeechStarted):
            return dataclasses.replace(message, at_ms=message.at_ms + shift)
        if isinstance(message, Done):
            return dataclasses.replace(message, audio_ms=message.audio_ms + shift)
        if isinstance(message, (Partial, Final)):
            return dataclasses.replace(
                message,
                utterance=message.utterance + self._first_utterance,
                start_ms=message.start_ms + shift,
                end_ms=message.end_ms + shift,
                words=tuple(_shift(word, shift) for word in message.words),
            )
        return message

    def _track(self, message: ServerMessage) -> None:
        if isinstance(message, (SpeechStarted, Partial)):
            self._speaking = True
        elif isinstance(message, Final):
            self._speaking = False
            self._next_utterance = message.utterance + 1
            self._buffer.release(min(self._format.ms_to_bytes(message.end_ms), self._sent))
        elif isinstance(message, Done):
            self._recognised_ms = message.audio_ms
            self._buffer.release(min(self._format.ms_to_bytes(message.audio_ms), self._sent))


def _shift(word: WordTiming, ms: int) -> WordTiming:
    return dataclasses.replace(word, start_ms=word.start_ms + ms, end_ms=word.end_ms + ms)
