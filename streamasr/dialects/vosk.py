"""Speak the protocol of vosk-server: a websocket that answers every message of audio with one result.

Reference: https://alphacephei.com/vosk/server. ``docs/dialects-live.md`` lists what is supported.
"""

from __future__ import annotations

import dataclasses
import enum
import io
import json
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from streamasr.dialects.base import (
    Answer,
    Frame,
    Incoming,
    LiveDialect,
    Refusal,
    Reply,
    Request,
    StatefulTranslation,
    Translation,
)
from streamasr.dialects.prompt import phrase_hotwords
from streamasr.errors import AudioError, DataError, ProtocolError
from streamasr.media.pcm import read_wave_header
from streamasr.protocol.connection import Audio
from streamasr.protocol.limits import DEFAULT_LIMITS
from streamasr.protocol.messages import (
    Configure,
    Done,
    Error,
    Final,
    Finalize,
    Finalized,
    HotwordSpec,
    Partial,
    ServerMessage,
    Start,
    Stop,
    WordTiming,
)
from streamasr.text import join_words
from streamasr.units import MS_PER_SECOND

NAME = "vosk"
PATH = "/vosk"
DEFAULT_RATE = 8_000
"""Hz of audio whose client states no ``sample_rate``, as in vosk-server."""
_ENCODINGS = ("pcm_s16le", "pcm_f32le", "mulaw", "alaw")
"""Of a WAV header. Audio without one is ``pcm_s16le``."""
_KEYS = ("config", "eof", "reset")
_UNKNOWN_WORD = "[unk]"
"""Stands for any other word in a phrase list."""


class State(enum.Enum):
    """The states of a connection."""

    CONFIGURING = "configuring"
    """No audio has come."""
    STREAMING = "streaming"
    FINISHED = "finished"
    """The client has sent ``eof``; the last result follows."""


TRANSITIONS: dict[State, dict[str, State]] = {
    State.CONFIGURING: {
        "config": State.CONFIGURING,
        "audio": State.STREAMING,
        "reset": State.STREAMING,
        "eof": State.FINISHED,
    },
    State.STREAMING: {
        "config": State.STREAMING,
        "audio": State.STREAMING,
        "reset": State.STREAMING,
        "eof": State.FINISHED,
    },
    State.FINISHED: {},
}
"""State → input → next state. Other inputs are ignored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What ``config`` messages have set."""

    sample_rate: int | None = None
    """Hz; ``None`` for that of the audio's WAV header, or else :data:`DEFAULT_RATE`."""
    words: bool = True
    partial_words: bool = False
    max_alternatives: int = 0
    """0 for results without a list of alternatives."""
    phrases: tuple[HotwordSpec, ...] = ()


class VoskTranslation(StatefulTranslation[State]):
    """One connection. The native session opens with the first audio."""

    opens_late = True

    def __init__(self) -> None:
        super().__init__(TRANSITIONS, State.CONFIGURING)
        self._config = Config()
        self._finals: deque[Final] = deque()
        """Utterances that no result has had yet."""
        self._partial: Partial | None = None
        self._resetting = 0
        """Messages ``reset`` that are not answered yet."""
        self._owed = 0
        """Messages of audio to answer after the ``reset`` before them."""

    def receive(self, frame: Frame) -> Iterable[Incoming]:
        """See :class:`~streamasr.dialects.base.Translation`."""
        request = _request(frame)
        if isinstance(frame, bytes) and request is None:
            return self._audio(frame)
        if request is None:
            raise ProtocolError(f"expected audio, or a JSON object with one of {', '.join(_KEYS)}")
        return self._request(request)

    def send(self, message: ServerMessage) -> Iterable[Frame]:
        """See :class:`~streamasr.dialects.base.Translation`."""
        match message:
            case Partial():
                self._partial = message
            case Final():
                self._finals.append(message)
                self._partial = None
            case Finalized():
                yield self._everything()
                self._resetting -= 1
                if not self._resetting:
                    yield from (self._next() for _ in range(self._owed))
                    self._owed = 0
            case Done():
                yield self._everything()
            case Error():
                yield _json({"error": message.message, "code": message.code})

    def _audio(self, data: bytes) -> Iterable[Incoming]:
        opening = self._state is State.CONFIGURING
        if not self._advance("audio"):
            return
        if opening:
            start, data = _without_header(data, self._start())
            yield start
        yield Audio(data)
        if self._resetting:
            self._owed += 1
        else:
            yield Reply(self._next())

    def _request(self, request: Mapping[str, object]) -> Iterable[Incoming]:
        before, name = self._state, next(key for key in _KEYS if key in request)
        if not self._advance(name):
            return
        if name == "config":
            yield from self._configure(request["config"])
            return
        if before is State.CONFIGURING:
            yield self._start()
        if name == "reset":
            self._resetting += 1
            yield Finalize()
        else:
            yield Stop()

    def _configure(self, values: object) -> Iterable[Incoming]:
        before = self._config
        self._config = read_config(values, before)
        if self._state is State.STREAMING and self._config.phrases != before.phrases:
            yield Configure(hotwords=self._config.phrases)

    def _start(self) -> Start:
        return Start(
            sample_rate=self._config.sample_rate or DEFAULT_RATE,
            alternatives=min(max(1, self._config.max_alternatives), int(DEFAULT_LIMITS.alternatives.high)),
            hotwords=self._config.phrases,
        )

    def _next(self) -> str:
        """Return the answer to one message of audio: the oldest result, or else the utterance so far."""
        if self._finals:
            return self._result([self._finals.popleft()])
        partial = self._partial
        if partial is None:
            return _json({"partial": ""})
        values: dict[str, object] = {
            "partial": join_words([p for p in (partial.committed, partial.tail) if p])
        }
        if self._config.partial_words:
            values["partial_result"] = _words(partial.words)
        return _json(values)

    def _everything(self) -> str:
        """Return one result with all utterances that no result has had."""
        finals = list(self._finals)
        self._finals.clear()
        self._partial = None
        return self._result(finals)

    def _result(self, finals: Sequence[Final]) -> str:
        text = join_words([final.text for final in finals if final.text])
        words = [word for final in finals for word in final.words]
        if not self._config.max_alternatives:
            return _json(
                {"result": _words(words), "text": text} if words and self._config.words else {"text": text}
            )
        best: dict[str, object] = {
            "confidence": min((f.confidence for f in finals), default=1.0),
            "text": text,
        }
        if words and self._config.words:
            best["result"] = [_timing(word) for word in words]
        others = finals[0].alternatives if len(finals) == 1 else ()
        rest = [{"confidence": other.confidence, "text": other.text} for other in others]
        return _json({"alternatives": [best, *rest][: self._config.max_alternatives]})


class VoskDialect(LiveDialect):
    """``/vosk``, and ``/`` of the port ``vosk_port``."""

    name = NAME
    paths = (PATH,)

    def open(self, request: Request) -> Translation:  # noqa: ARG002
        """See :class:`~streamasr.dialects.base.LiveDialect`."""
        return VoskTranslation()

    def refuse(self, refusal: Refusal) -> Answer:
        """See :class:`~streamasr.dialects.base.Dialect`."""
        values = {"error": refusal.message, "code": refusal.code}
        return Answer(body=_json(values).encode() + b"\n", status=refusal.status)


def read_config(values: object, before: Config) -> Config:
    """Return the settings after a ``config`` message. Keys that are not known are ignored, as vosk-server does.

    Raises:
        ProtocolError: a value has the wrong type, or is out of range.
    """
    if not isinstance(values, dict):
        raise ProtocolError("config must be an object")
    changes: dict[str, object] = {}
    if "sample_rate" in values:
        changes["sample_rate"] = _number(values, "sample_rate")
    if "max_alternatives" in values:
        changes["max_alternatives"] = max(0, _number(values, "max_alternatives"))
    for name in ("words", "partial_words"):
        if name in values:
            changes[name] = bool(values[name])
    if "words" in values and "partial_words" not in values:
        changes["partial_words"] = bool(values["words"])
    if "phrase_list" in values:
        phrases = values["phrase_list"]
        if not isinstance(phrases, list) or not all(isinstance(phrase, str) for phrase in phrases):
            raise ProtocolError("config.phrase_list must be a list of texts")
        changes["phrases"] = phrase_hotwords(phrase for phrase in phrases if phrase.strip() != _UNKNOWN_WORD)
    return dataclasses.replace(before, **changes)  # type: ignore[arg-type]


def _without_header(data: bytes, start: Start) -> tuple[Start, bytes]:
    """Return the session and the samples of a first message, without the WAV header that some clients send with it.

    Raises:
        AudioError: the header states an encoding that sessions do not accept.
    """
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        return start, data
    stream = io.BytesIO(data)
    try:
        raw, _ = read_wave_header(stream, "audio")
    except DataError as error:
        raise AudioError(error.message) from None
    if raw.encoding not in _ENCODINGS:
        raise AudioError(f"a WAV stream of {raw.encoding}; send one of {', '.join(_ENCODINGS)}")
    found = dataclasses.replace(
        start, sample_rate=raw.sample_rate, encoding=raw.encoding, channels=raw.channels
    )
    return found, stream.read()


def _number(values: Mapping[str, object], name: str) -> int:
    value = values[name]
    try:
        if isinstance(value, (int, float, str)):
            return int(float(value))
    except (ValueError, OverflowError):
        pass
    raise ProtocolError(f"config.{name} must be a number, got {value!r}"[:200])


def _request(frame: Frame) -> Mapping[str, object] | None:
    """Return the JSON object of a frame; ``None`` if it is none. Some clients send it in a binary message."""
    if len(frame) > DEFAULT_LIMITS.message_bytes or (isinstance(frame, bytes) and frame[:1] != b"{"):
        return None
    try:
        value = json.loads(frame)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and any(key in value for key in _KEYS) else None


def _words(words: Iterable[WordTiming]) -> list[dict[str, object]]:
    return [{"conf": word.confidence, **_timing(word)} for word in words]


def _timing(word: WordTiming) -> dict[str, object]:
    return {"end": word.end_ms / MS_PER_SECOND, "start": word.start_ms / MS_PER_SECOND, "word": word.word}


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
