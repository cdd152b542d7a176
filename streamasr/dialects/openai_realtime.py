"""Speak OpenAI's Realtime protocol for transcription: a websocket at ``/v1/realtime`` with JSON events.

Reference: https://platform.openai.com/docs/api-reference/realtime. ``docs/dialects-realtime.md`` lists what is
supported. Speech, answers and tools of a voice assistant are not.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import enum
import json
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from streamasr.dialects.base import (
    Answer,
    Frame,
    Incoming,
    LiveDialect,
    Refusal,
    RefusedError,
    Reply,
    Request,
    Translation,
)
from streamasr.dialects.deltas import Deltas
from streamasr.dialects.openai_rest import refuse
from streamasr.dialects.realtime_session import Session, read_update, session_values
from streamasr.errors import ProtocolError
from streamasr.protocol.connection import Audio
from streamasr.protocol.limits import DEFAULT_LIMITS
from streamasr.protocol.messages import (
    Configure,
    Done,
    Error,
    Final,
    Finalize,
    Finalized,
    KeepAlive,
    Partial,
    ServerMessage,
    SpeechStarted,
)
from streamasr.units import MS_PER_SECOND

NAME = "openai_realtime"
PATH = "/v1/realtime"
_EARLY_AUDIO_S = 2
"""Audio before the first ``session.update`` that is kept. More of it opens the session with the defaults."""
_BASE64_FACTOR = 2
"""Text of an audio event, at most: this many times the bytes of its audio."""
_QUIET = ("idle_timeout", "start_timeout", "shutting_down")
"""Errors that close the connection without an ``error`` event, for which agents would give their client up.

They keep connections that they do not use, and open another one when one is closed.
"""
_BETA = {"openai-beta": "realtime=v1", "sec-websocket-protocol": "openai-beta.realtime-v1"}
"""Headers to what asks in them for the beta's events; browsers can only offer subprotocols."""
_SERVER_CODES = {"overloaded": "server_overloaded", "unauthorized": "invalid_api_key"}


class State(enum.Enum):
    """The states of a connection."""

    CONFIGURING = "configuring"
    """No ``session.update`` has come. Audio waits for it."""
    STREAMING = "streaming"


TRANSITIONS: dict[State, dict[str, State]] = {
    State.CONFIGURING: {
        "session.update": State.STREAMING,
        "transcription_session.update": State.STREAMING,
        "input_audio_buffer.append": State.CONFIGURING,
        "input_audio_buffer.commit": State.STREAMING,
        "input_audio_buffer.clear": State.CONFIGURING,
    },
    State.STREAMING: {
        "session.update": State.STREAMING,
        "transcription_session.update": State.STREAMING,
        "input_audio_buffer.append": State.STREAMING,
        "input_audio_buffer.commit": State.STREAMING,
        "input_audio_buffer.clear": State.STREAMING,
    },
}
"""State → client event → next state. Other events are answered with an error, and the session goes on."""


@dataclass(slots=True)
class _Item:
    """A turn of the user: the audio from one commit to the next one."""

    id: str
    deltas: Deltas = field(default_factory=Deltas)
    audio_ms: float = 0.0
    speaking: bool = False
    """Whether ``speech_started`` was sent without ``speech_stopped``."""
    dropped: bool = False
    """Whether the client has cleared its audio."""


class RealtimeTranslation(Translation):
    """One connection.

    Args:
        request: the handshake.
    """

    opens_late = True

    def __init__(self, request: Request) -> None:
        self._request = request
        self._beta = any(mark in request.headers.get(name, "") for name, mark in _BETA.items())
        self._session = Session()
        self._state = State.CONFIGURING
        self._early = bytearray()
        self._events = 0
        self._items = 0
        self._item: _Item | None = None
        """The turn whose audio comes now, once there is something to report of it."""
        self._closing: deque[_Item] = deque()
        """Turns that the client has committed or cleared, whose last words are not known yet."""
        self._previous_id: str | None = None
        self._uncommitted_bytes = 0

    def opened(self) -> Iterable[Incoming]:
        """Greet the client with ``session.created``."""
        yield self._reply(self._session_event("created"))

    def receive(self, frame: Frame) -> Iterable[Incoming]:
        """See :class:`~streamasr.dialects.base.Translation`."""
        if isinstance(frame, bytes):
            yield self._error("send audio as base64 in input_audio_buffer.append, not in binary messages")
            return
        if len(frame) > DEFAULT_LIMITS.audio_bytes * _BASE64_FACTOR:
            limit = DEFAULT_LIMITS.audio_bytes * _BASE64_FACTOR
            raise ProtocolError(f"an event may have at most {limit} bytes", code="message_too_big")
        try:
            event = json.loads(frame)
        except (ValueError, RecursionError):
            event = None
        if not isinstance(event, dict) or not isinstance(event.get("type"), str):
            yield self._error("expected a JSON object with a type", code="invalid_json")
            return
        given = event.get("event_id")
        event_id = given if isinstance(given, str) else None
        following = TRANSITIONS[self._state].get(event["type"])
        if following is None:
            text = f"{event['type'][:100]!r} is not supported; this server only transcribes"
            yield self._error(text, param="type", event_id=event_id)
            return
        try:
            yield from self._act(event["type"], event, following)
        except RefusedError as error:
            about = error.refusal
            yield self._error(about.message, code=about.code, param=about.param, event_id=event_id)

    def send(self, message: ServerMessage) -> Iterable[Frame]:
        """See :class:`~streamasr.dialects.base.Translation`."""
        return [json.dumps(self._numbered(values)) for values in self._values(message)]

    def _act(self, kind: str, event: Mapping[str, object], following: State) -> Iterable[Incoming]:
        match kind:
            case "session.update" | "transcription_session.update":
                yield from self._update(event.get("session"))
            case "input_audio_buffer.append":
                yield from self._append(event.get("audio"))
            case "input_audio_buffer.commit":
                yield from self._commit()
            case "input_audio_buffer.clear":
                yield from self._clear()
        if self._state is State.CONFIGURING and following is State.STREAMING:
            yield from self._begin()

    def _update(self, values: object) -> Iterable[Incoming]:
        before = self._session
        session = read_update(values, before, self._request.model)
        if self._state is State.STREAMING:
            if session.format != before.format:
                raise RefusedError(
                    "the format of the audio cannot change during a session",
                    param="session.audio.input.format",
                )
            # Endpoints are those of the session's beginning.
            kept = before.silence_ms if session.server_vad else session.silence_ms
            session = dataclasses.replace(session, silence_ms=kept)
            if session.hotwords != before.hotwords:
                yield Configure(hotwords=session.hotwords)
        self._session = session
        yield from self._begin()
        yield self._reply(self._session_event("updated"))

    def _begin(self) -> Iterable[Incoming]:
        """Open the native session and send the audio that came early."""
        if self._state is State.STREAMING:
            return
        self._state = State.STREAMING
        yield self._session.start()
        early = bytes(self._early)
        self._early.clear()
        yield from _pieces(early)

    def _append(self, audio: object) -> Iterable[Incoming]:
        if not isinstance(audio, str):
            raise RefusedError("audio must be a text in base64", param="audio")
        try:
            data = base64.b64decode(audio, validate=True)
        except (binascii.Error, ValueError):
            raise RefusedError("audio is not valid base64", param="audio") from None
        self._uncommitted_bytes += len(data)
        if self._state is State.CONFIGURING:
            self._early += data
            if len(self._early) > _EARLY_AUDIO_S * self._session.bytes_per_second:
                yield from self._begin()
            else:
                yield KeepAlive()
        else:
            yield from _pieces(data)

    def _commit(self) -> Iterable[Incoming]:
        if not self._uncommitted_bytes:
            raise RefusedError(
                "the input audio buffer is empty", code="input_audio_buffer_commit_empty", param="audio"
            )
        yield from self._begin()
        item = self._take_item()
        item.audio_ms = self._uncommitted_bytes * MS_PER_SECOND / self._session.bytes_per_second
        self._uncommitted_bytes = 0
        self._closing.append(item)
        for values in self._committed(item):
            yield self._reply(values)
        yield Finalize(id=item.id)

    def _clear(self) -> Iterable[Incoming]:
        self._early.clear()
        self._uncommitted_bytes = 0
        if self._state is State.STREAMING:
            item = self._take_item()
            item.dropped = True
            self._closing.append(item)
            yield Finalize(id=item.id)
        yield self._reply({"type": "input_audio_buffer.cleared"})

    def _values(self, message: ServerMessage) -> Iterable[dict[str, object]]:
        match message:
            case SpeechStarted():
                yield from self._speech_at(message.at_ms)
            case Partial():
                yield from self._speech_at(message.start_ms)
                yield from self._delta(self._current(), self._current().deltas.grow(message.committed))
            case Final():
                yield from self._final(message)
            case Finalized() if self._closing:
                yield from self._completed(self._closing.popleft())
            case Done():
                yield from self._ended()
            case Error():
                # After a fault of the client, all finals have come.
                yield from self._ended() if message.fault == "client" else self._failed(message)
                if message.code not in _QUIET:
                    yield _error_values(message.message, **_kind_and_code(message))

    def _final(self, final: Final) -> Iterable[dict[str, object]]:
        if not final.text and self._item is None and not self._closing:
            return
        if final.text:
            yield from self._speech_at(final.start_ms)
        item = self._current()
        yield from self._delta(item, item.deltas.finish(final.text))
        yield from self._stopped(item, final.end_ms)
        if self._session.server_vad and not self._closing:
            self._item = None
            item.audio_ms = final.end_ms - final.start_ms
            yield from self._committed(item)
            yield from self._completed(item)

    def _speech_at(self, at_ms: int) -> Iterable[dict[str, object]]:
        item = self._current()
        if self._session.server_vad and not item.speaking and not item.dropped:
            item.speaking = True
            yield {
                "type": "input_audio_buffer.speech_started",
                "audio_start_ms": at_ms,
                "item_id": item.id,
            }

    def _stopped(self, item: _Item, at_ms: int) -> Iterable[dict[str, object]]:
        if item.speaking:
            item.speaking = False
            yield {"type": "input_audio_buffer.speech_stopped", "audio_end_ms": at_ms, "item_id": item.id}

    def _delta(self, item: _Item, text: str) -> Iterable[dict[str, object]]:
        if text and not item.dropped:
            yield {
                "type": "conversation.item.input_audio_transcription.delta",
                "item_id": item.id,
                "content_index": 0,
                "delta": text,
            }

    def _committed(self, item: _Item) -> Iterable[dict[str, object]]:
        previous, self._previous_id = self._previous_id, item.id
        content = [{"type": "input_audio", "transcript": None}]
        value = {
            "id": item.id,
            "object": "realtime.item",
            "type": "message",
            "status": "completed",
            "role": "user",
            "content": content,
        }
        names = (
            ["conversation.item.created"]
            if self._beta
            else ["conversation.item.added", "conversation.item.done"]
        )
        yield {"type": "input_audio_buffer.committed", "previous_item_id": previous, "item_id": item.id}
        for name in names:
            yield {"type": name, "previous_item_id": previous, "item": value}

    def _completed(self, item: _Item) -> Iterable[dict[str, object]]:
        if not item.dropped:
            yield {
                "type": "conversation.item.input_audio_transcription.completed",
                "item_id": item.id,
                "content_index": 0,
                "transcript": item.deltas.text,
                "usage": {"type": "duration", "seconds": item.audio_ms / MS_PER_SECOND},
            }

    def _ended(self) -> Iterable[dict[str, object]]:
        """Complete the turns at the end of the session."""
        while self._closing:
            yield from self._completed(self._closing.popleft())
        if self._item is not None and self._item.deltas.text:
            item = self._take_item()
            yield from self._committed(item)
            yield from self._completed(item)

    def _failed(self, error: Error) -> Iterable[dict[str, object]]:
        """Report the committed turns whose transcripts are not complete."""
        names = _kind_and_code(error)
        about = {"type": names["kind"], "code": names["code"], "message": error.message, "param": None}
        while self._closing:
            item = self._closing.popleft()
            if not item.dropped:
                yield {
                    "type": "conversation.item.input_audio_transcription.failed",
                    "item_id": item.id,
                    "content_index": 0,
                    "error": about,
                }

    def _current(self) -> _Item:
        """Return the turn that the next words belong to."""
        if self._closing:
            return self._closing[0]
        if self._item is None:
            self._items += 1
            self._item = _Item(f"item_{self._request.id[:8]}_{self._items}")
        return self._item

    def _take_item(self) -> _Item:
        """Return the turn whose audio comes now, and begin another one with the audio that follows."""
        if self._item is None:
            self._items += 1
            return _Item(f"item_{self._request.id[:8]}_{self._items}")
        item, self._item = self._item, None
        return item

    def _session_event(self, what: str) -> dict[str, object]:
        kind = "transcription_session" if self._beta else "session"
        values = session_values(
            self._session, f"sess_{self._request.id}", self._request.model, beta=self._beta
        )
        return {"type": f"{kind}.{what}", "session": values}

    def _error(
        self, text: str, *, code: str = "invalid_value", param: str | None = None, event_id: str | None = None
    ) -> Reply:
        return self._reply(_error_values(text, code=code, param=param, event_id=event_id))

    def _reply(self, values: Mapping[str, object]) -> Reply:
        return Reply(json.dumps(self._numbered(values)))

    def _numbered(self, values: Mapping[str, object]) -> dict[str, object]:
        self._events += 1
        return {"event_id": f"event_{self._request.id[:8]}_{self._events}", **values}


class RealtimeDialect(LiveDialect):
    """``/v1/realtime`` for transcription."""

    name = NAME
    paths = (PATH,)
    subprotocols = ("realtime",)

    def open(self, request: Request) -> Translation:
        """See :class:`~streamasr.dialects.base.LiveDialect`."""
        intent = request.value("intent", "transcription")
        if intent != "transcription":
            raise RefusedError(f"intent must be transcription, got {intent!r}", param="intent")
        return RealtimeTranslation(request)

    def refuse(self, refusal: Refusal) -> Answer:
        """See :class:`~streamasr.dialects.base.Dialect`."""
        return refuse(refusal)


def _pieces(audio: bytes) -> Iterable[Audio]:
    """Split audio, which OpenAI accepts in larger messages than the native protocol."""
    size = DEFAULT_LIMITS.audio_bytes
    return (Audio(audio[at : at + size]) for at in range(0, len(audio), size))


def _kind_and_code(error: Error) -> dict[str, str]:
    """Return what OpenAI calls an error of the session."""
    kind = "server_error" if error.fault == "server" else "invalid_request_error"
    return {"kind": kind, "code": _SERVER_CODES.get(error.code, error.code)}


def _error_values(
    text: str,
    *,
    kind: str = "invalid_request_error",
    code: str,
    param: str | None = None,
    event_id: str | None = None,
) -> dict[str, object]:
    about = {"type": kind, "code": code, "message": text, "param": param, "event_id": event_id}
    return {"type": "error", "error": about}
