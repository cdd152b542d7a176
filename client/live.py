"""Stream audio and receive captions continuously, reconnecting when the connection is lost.

After a lost connection the session is resumed, if the daemon still has it. Otherwise the audio since the last
finished utterance, which is buffered, is sent again in a new session, so that no audio and no text is lost while the
daemon restarts. A daemon that shuts down ends the utterance where it is, perhaps in a word: this final is held back,
and the next session recognises the utterance whole. Times and utterance numbers continue as in a single session.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass
from typing import Literal

from streamasr.protocol.messages import (
    Done,
    Final,
    KeepAlive,
    Partial,
    ServerMessage,
    SpeechStarted,
    Start,
    UtteranceEnding,
    Warning,
    WordTiming,
)
from streamasr.units import MS_PER_SECOND
from streamasr_client.audio import AudioSource
from streamasr_client.connection import (
    AUDIO_MESSAGE_BYTES,
    AUDIO_TOLERANCE_MS,
    KEEPALIVE_MS,
    Backoff,
    Session,
    open_session,
    try_to_resume,
)
from streamasr_client.errors import ConnectionFailed, DaemonError

REPLAY_MS = 30_000
"""Most audio buffered for a reconnect, longer than the longest utterance. The oldest audio is dropped first.

Only a final or ``done`` acknowledges audio: without one, a daemon that is behind may still find words in all of it.
"""
TRIES_AFTER_END = 3
"""Sessions that may fail after the source has ended, before the stream gives up."""

_RETRYABLE_CLIENT_ERRORS = frozenset({"idle_timeout", "slow_reader", "start_timeout"})
"""Client errors that are caused by stalls, such as a suspended laptop, so that a new session may succeed."""


@dataclass(frozen=True, slots=True)
class ConnectionStatus:
    """A change of the connection's state. ``waiting`` has the reason and the time until the next attempt."""

    state: Literal["connecting", "live", "waiting"]
    message: str = ""
    retry_ms: int = 0


@dataclass(frozen=True, slots=True)
class AudioLost:
    """Audio that was never recognised, because it no longer fitted into the replay buffer."""

    ms: int


LiveEvent = ServerMessage | ConnectionStatus | AudioLost


class ReplayBuffer:
    """Holds the newest ``max_bytes`` bytes of a stream, addressed by their offset from its start."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._data = bytearray()
        self.start = 0

    @property
    def end(self) -> int:
        """Offset after the newest byte."""
        return self.start + len(self._data)

    def append(self, data: bytes) -> None:
        """Append ``data``. The oldest bytes are dropped if the buffer is full."""
        self._data += data
        self.release(self.end - self.max_bytes)

    def read(self, offset: int, size: int) -> bytes:
        """Return up to ``size`` bytes from ``offset``, which must not be before ``start``."""
        begin = offset - self.start
        assert begin >= 0, "read of bytes already dropped"
        return bytes(self._data[begin : begin + size])

    def release(self, offset: int) -> None:
        """Drop the bytes before ``offset``."""
        count = min(max(0, offset - self.start), len(self._data))
        del self._data[:count]
        self.start += count


class LiveStream:
    """Streams one source to the daemon and yields its captions.

    Args:
        url: the daemon's stream.
        start: the ``start`` message. The source's format replaces its audio fields.
        source: the audio.
        backoff: the waiting times between attempts.
        replay_ms: most audio buffered for a reconnect, in milliseconds.
        keepalive_ms: how often a session without new audio is kept open.
        on_audio: called with every block from the source, for example for a level meter.
    """

    def __init__(
        self,
        url: str,
        start: Start,
        source: AudioSource,
        *,
        backoff: Backoff | None = None,
        replay_ms: int = REPLAY_MS,
        keepalive_ms: int = KEEPALIVE_MS,
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
        self._keepalive_s = keepalive_ms / MS_PER_SECOND
        self._on_audio = on_audio
        self._buffer = ReplayBuffer(self._format.ms_to_bytes(replay_ms))
        self._audio_added = asyncio.Event()
        self._source_ended = asyncio.Event()
        self._session: Session | None = None
        self._broken: Session | None = None
        """The session whose connection was lost, until it is resumed or given up."""
        self._origin = 0
        """Offset of the session's first byte."""
        self._position = 0
        self._sent = 0
        self._lost = 0
        self._origin_ms = 0
        self._first_utterance = 0
        self._next_utterance = 0
        self._fell_behind = False
        self._recognised_ms = 0
        self._draining = False
        """Whether the session's daemon is shutting down."""
        self._held: Final | None = None
        """The newest final of a daemon that is shutting down."""

    async def events(self) -> AsyncGenerator[LiveEvent, None]:
        """Yield messages and changes of the connection until the source has ended and ``done`` was received.

        Close the generator (``contextlib.aclosing``) to stop early.

        Raises:
            DaemonError: the daemon refused the session, and another attempt would fail, too.
            ConnectionFailed: the source has ended, and the daemon could not be reached again.
            MicrophoneError: the source failed. It is raised after the last finals.
        """
        try:
            async with contextlib.aclosing(self._events()) as events:
                async for event in events:
                    yield event
        except (DaemonError, ConnectionFailed):
            for final in self._release_held():
                yield final
            raise

    async def _events(self) -> AsyncGenerator[LiveEvent, None]:
        reader = asyncio.create_task(self._read_source())
        tries_after_end = 0
        try:
            while True:
                yield ConnectionStatus("connecting")
                retry_after_ms = None
                try:
                    async with contextlib.AsyncExitStack() as stack:
                        session = await self._connect(stack)
                        for event in self._begin(session):
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
        """Wait before the next attempt, but not beyond the end of the source: the user wants to exit then."""
        if self._source_ended.is_set():
            await asyncio.sleep(wait_ms / MS_PER_SECOND)
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_ms / MS_PER_SECOND):
                await self._source_ended.wait()

    async def _connect(self, stack: contextlib.AsyncExitStack) -> Session:
        """Resume the session whose connection was lost, if possible, or open a new one."""
        session = await try_to_resume(stack, self._url, self._broken)
        if session is not None:
            if self._resumed_position(session) >= self._buffer.start:
                return session
            await stack.aclose()  # The audio that the daemon lacks is no longer in the buffer.
        self._broken = None
        return await stack.enter_async_context(open_session(self._url, self._start))

    def _resumed_position(self, session: Session) -> int:
        """Return the offset of the next byte to send, or -1 in a new session."""
        if session.resumed is None:
            return -1
        return self._origin + session.resumed.audio_samples * self._format.frame_bytes

    def _begin(self, session: Session) -> list[LiveEvent]:
        """Set the state for a session, whose times and numbers continue those of the last one."""
        self._broken = None
        self._fell_behind = False
        events: list[LiveEvent] = [ConnectionStatus("live")]
        if session.resumed is not None:
            self._position = self._resumed_position(session)
            return events
        if self._held is not None and self._buffer.start > self._format.ms_to_bytes(self._held.start_ms):
            events += self._release_held()  # Its audio is no longer complete.
        self._held = None
        self._draining = False
        self._position = self._origin = self._buffer.start
        if self._lost:
            events.append(AudioLost(self._format.bytes_to_ms(self._lost)))
            self._lost = 0
        self._origin_ms = self._format.bytes_to_ms(self._origin)
        self._first_utterance = self._next_utterance
        return events

    async def _run_session(self, session: Session) -> AsyncIterator[ServerMessage]:
        """Send audio and yield messages until ``done``. The receiving side reports why a session failed."""
        self._session = session
        sender = asyncio.create_task(self._send_audio(session))
        try:
            if session.resumed is None:
                yield session.ready
            async for message in session.messages():
                self._backoff.reset()
                for due in self._hold_back(self._rebase(message)):
                    yield due
        except ConnectionFailed:
            if self._fell_behind:
                behind_ms = self._format.bytes_to_ms(self._buffer.max_bytes)
                raise ConnectionFailed(f"the daemon fell more than {behind_ms} ms behind") from None
            if session.ready.resume is not None:
                self._broken = session
            raise
        finally:
            self._session = None
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)

    async def _send_audio(self, session: Session) -> None:
        """Send the buffered audio, then new audio, then ``stop``. The receiver reports a lost connection."""
        while True:
            block = self._buffer.read(self._position, AUDIO_MESSAGE_BYTES)
            if block:
                self._position += len(block)
                try:
                    await session.send_audio(block)
                except ConnectionFailed:
                    return
                self._sent = max(self._sent, self._position)
            elif self._source_ended.is_set():
                if session.resumed is None or session.resumed.requests == 0:
                    with contextlib.suppress(ConnectionFailed):
                        await session.stop()
                return
            else:
                self._audio_added.clear()
                await self._wait_for_audio(session)

    async def _wait_for_audio(self, session: Session) -> None:
        """Wait for audio or the end of the source, and keep the session open meanwhile."""
        while not self._audio_added.is_set():
            try:
                async with asyncio.timeout(self._keepalive_s):
                    await self._audio_added.wait()
            except TimeoutError:
                with contextlib.suppress(ConnectionFailed):
                    await session.send(KeepAlive())

    def _rebase(self, message: ServerMessage) -> ServerMessage:
        """Return ``message`` with its times and utterance number relative to the whole stream."""
        shift = self._origin_ms
        if isinstance(message, SpeechStarted):
            return dataclasses.replace(message, at_ms=message.at_ms + shift)
        if isinstance(message, Done):
            return dataclasses.replace(message, audio_ms=message.audio_ms + shift)
        if isinstance(message, (Partial, UtteranceEnding, Final)):
            return dataclasses.replace(
                message,
                utterance=message.utterance + self._first_utterance,
                start_ms=message.start_ms + shift,
                end_ms=message.end_ms + shift,
                words=tuple(_shift(word, shift) for word in message.words),
            )
        return message

    def _hold_back(self, message: ServerMessage) -> list[ServerMessage]:
        """Track ``message`` and return what is to be yielded now: all but the final that a shutdown cut short."""
        if isinstance(message, Warning) and message.code == "shutting_down":
            self._draining = True
        if self._draining and isinstance(message, Final):
            former = self._release_held()
            self._held = message
            return [*former]
        if isinstance(message, Done) and self._held is not None and not self._is_all(message):
            return [message]  # Not tracked: the held utterance's audio stays in the buffer.
        former = self._release_held() if isinstance(message, Done) else []
        self._track(message)
        return [*former, message]

    def _release_held(self) -> list[Final]:
        """Return the final that was held back, if any, as the text of its audio."""
        held, self._held = self._held, None
        if held is None:
            return []
        self._track(held)
        return [held]

    def _is_all(self, done: Done) -> bool:
        """Whether the whole source was recognised."""
        recognised_ms = done.audio_ms + AUDIO_TOLERANCE_MS
        return self._source_ended.is_set() and recognised_ms >= self._format.bytes_to_ms(self._buffer.end)

    def _track(self, message: ServerMessage) -> None:
        if isinstance(message, Final):
            self._next_utterance = message.utterance + 1
            self._buffer.release(min(self._format.ms_to_bytes(message.end_ms), self._sent))
        elif isinstance(message, Done):
            self._recognised_ms = message.audio_ms
            self._buffer.release(min(self._format.ms_to_bytes(message.audio_ms), self._sent))


def _shift(word: WordTiming, ms: int) -> WordTiming:
    return dataclasses.replace(word, start_ms=word.start_ms + ms, end_ms=word.end_ms + ms)
