"""Speak Wyoming, the protocol of Home Assistant's voice services, over a TCP connection.

A connection serves one transcription, as those of other Wyoming servers do.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterable, Mapping

from streamasr.dialects.base import (
    Answer,
    Frame,
    Incoming,
    Refusal,
    RefusedError,
    Reply,
    Request,
    TcpDialect,
    Translation,
)
from streamasr.dialects.deltas import Deltas
from streamasr.dialects.prompt import phrase_hotwords
from streamasr.dialects.values import check_language
from streamasr.dialects.wyoming_events import Event, EventReader, write_event
from streamasr.errors import ProtocolError
from streamasr.protocol.connection import Audio
from streamasr.protocol.messages import Done, Error, Final, HotwordSpec, Partial, ServerMessage, Start, Stop
from streamasr.protocol.model_info import ModelInfo

NAME = "wyoming"
_WIDTH = 2
"""Bytes of a sample: 16-bit PCM."""
_FORMAT = ("rate", "width", "channels")


class State(enum.Enum):
    """The states of a connection."""

    WAITING = "waiting"
    """No audio has come."""
    STREAMING = "streaming"
    FINISHED = "finished"
    """The client has ended the audio; the transcript follows."""


TRANSITIONS: dict[State, dict[str, State]] = {
    State.WAITING: {
        "describe": State.WAITING,
        "ping": State.WAITING,
        "transcribe": State.WAITING,
        "audio-start": State.STREAMING,
        "audio-chunk": State.STREAMING,
        "audio-stop": State.FINISHED,
    },
    State.STREAMING: {
        "describe": State.STREAMING,
        "ping": State.STREAMING,
        "audio-start": State.STREAMING,
        "audio-chunk": State.STREAMING,
        "audio-stop": State.FINISHED,
    },
    State.FINISHED: {
        "describe": State.FINISHED,
        "ping": State.FINISHED,
    },
}
"""State → type of a client's event → next state. Other events are ignored, as Wyoming asks servers to do."""


class WyomingTranslation(Translation):
    """One connection. Its frames are the bytes of the stream, cut anywhere.

    Args:
        model: the model that is served.
    """

    def __init__(self, model: ModelInfo) -> None:
        self._model = model
        self._state = State.WAITING
        self._reader = EventReader()
        self._start = Start(words=False)
        self._deltas = Deltas()
        self._started = False
        """Whether ``transcript-start`` was sent."""

    def receive(self, frame: Frame) -> Iterable[Incoming]:
        """See :class:`~streamasr.dialects.base.Translation`."""
        assert isinstance(frame, bytes), "a TCP connection has no text messages"
        for event in self._reader.feed(frame):
            yield from self._take(event)

    def send(self, message: ServerMessage) -> Iterable[Frame]:
        """See :class:`~streamasr.dialects.base.Translation`."""
        match message:
            case Partial():
                yield from self._chunk(self._deltas.grow(message.committed))
            case Final():
                yield from self._chunk(self._deltas.finish(message.text))
            case Done():
                yield from self._begin()
                yield write_event("transcript", {"text": self._deltas.text, "language": self._model.language})
                yield write_event("transcript-stop")
            case Error():
                yield write_event("error", {"text": message.message, "code": message.code})

    def _take(self, event: Event) -> Iterable[Incoming]:
        before, following = self._state, TRANSITIONS[self._state].get(event.type)
        if following is None:
            return
        self._state = following
        match event.type:
            case "describe":
                yield Reply(write_event("info", describe(self._model)))
            case "ping":
                yield Reply(write_event("pong", {"text": event.data.get("text")}))
            case "transcribe":
                self._start = dataclasses.replace(self._start, hotwords=self._hotwords(event.data))
            case "audio-start" | "audio-chunk":
                found = _with_format(self._start, event.data)
                if before is State.WAITING:
                    self._start = found
                    yield found
                elif found != self._start:
                    raise ProtocolError(f"{event.type}: the audio's format changed; open a connection for it")
                if event.payload:
                    yield Audio(event.payload)
            case "audio-stop":
                if before is State.WAITING:
                    yield self._start
                yield Stop()

    def _hotwords(self, data: Mapping[str, object]) -> tuple[HotwordSpec, ...]:
        language, name = data.get("language"), data.get("name")
        try:
            check_language(language if isinstance(language, str) else "", self._model)
        except RefusedError as error:
            raise ProtocolError(f"transcribe: {error.refusal.message}") from None
        if name and name != self._model.name:
            raise ProtocolError(
                f"transcribe: there is no model {str(name)[:100]!r}, only {self._model.name!r}"
            )
        terms = [*_texts(data, "transcript_names"), *_texts(data, "transcript_terms")]
        return phrase_hotwords(terms)

    def _begin(self) -> Iterable[bytes]:
        if not self._started:
            self._started = True
            yield write_event("transcript-start", {"language": self._model.language})

    def _chunk(self, text: str) -> Iterable[bytes]:
        if text:
            yield from self._begin()
            yield write_event("transcript-chunk", {"text": text})


class WyomingDialect(TcpDialect):
    """The port ``wyoming_port``."""

    name = NAME

    def open(self, request: Request) -> Translation:
        """See :class:`~streamasr.dialects.base.TcpDialect`."""
        return WyomingTranslation(request.model)

    def refuse(self, refusal: Refusal) -> Answer:
        """See :class:`~streamasr.dialects.base.Dialect`."""
        return Answer(
            body=write_event("error", {"text": refusal.message, "code": refusal.code}), status=refusal.status
        )


def describe(model: ModelInfo) -> dict[str, object]:
    """Return what ``info`` has: one program for speech recognition with one model."""
    about: dict[str, object] = {
        "attribution": {"name": "streamasr", "url": ""},
        "installed": True,
        "version": None,
    }
    served = {
        **about,
        "name": model.name,
        "description": f"streamasr, model {model.name}",
        "languages": [model.language],
    }
    program = {
        **about,
        "name": "streamasr",
        "description": "streaming speech recognition",
        "models": [served],
        "supports_transcript_streaming": True,
        # Endpoints end utterances, not the recording: the client says when a command is over.
        "requires_external_vad": True,
        "prefers_auto_gain_enabled": False,
        "prefers_noise_reduction_enabled": False,
    }
    others = ("tts", "handle", "intent", "wake", "mic", "snd")
    return {"asr": [program], **{name: [] for name in others}}


def _with_format(start: Start, data: Mapping[str, object]) -> Start:
    """Return ``start`` for audio of the format that an event states.

    Raises:
        ProtocolError: the format is missing or not supported.
    """
    rate, width, channels = (data.get(name) for name in _FORMAT)
    if any(not isinstance(value, int) or isinstance(value, bool) for value in (rate, width, channels)):
        raise ProtocolError(f"audio must state its {', '.join(_FORMAT)}, as whole numbers")
    if width != _WIDTH:
        raise ProtocolError(f"audio must have a width of {_WIDTH} bytes (16-bit PCM), got {width}")
    return dataclasses.replace(start, sample_rate=rate, channels=channels)  # type: ignore[arg-type]


def _texts(data: Mapping[str, object], name: str) -> list[str]:
    values = data.get(name) or []
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ProtocolError(f"transcribe: {name} must be a list of texts")
    return values
