"""Speak Deepgram's protocol for live audio: a websocket at ``/v1/listen``."""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import cast

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
from streamasr.dialects.deepgram import (
    ENCODINGS,
    NAME,
    PATH,
    Notice,
    Options,
    json_bytes,
    keyterms,
    mean_confidence,
    metadata,
    model_id,
    model_values,
    read_message,
    read_options,
    refuse,
    seconds,
    warning_headers,
    word_values,
)
from streamasr.errors import AudioError, DataError
from streamasr.frontend.pcm import Encoding, frame_bytes
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
    KeepAlive,
    Partial,
    Ready,
    ServerMessage,
    SpeechStarted,
    Start,
    Stop,
    Warning,
)
from streamasr.text import join_words
from streamasr.units import MS_PER_SECOND

_HEADER_BYTES = 65_536
"""Longest header of a WAV stream."""


class State(enum.Enum):
    """The states of a connection."""

    AWAITING_HEADER = "awaiting_header"
    """The audio has to state its own format."""
    STREAMING = "streaming"
    CLOSING = "closing"
    """The client has ended the audio; the last results follow."""


TRANSITIONS: dict[State, dict[str, State]] = {
    State.AWAITING_HEADER: {
        "audio": State.AWAITING_HEADER,
        "header": State.STREAMING,
        "KeepAlive": State.AWAITING_HEADER,
        "Finalize": State.AWAITING_HEADER,
        "CloseStream": State.CLOSING,
    },
    State.STREAMING: {
        "audio": State.STREAMING,
        "KeepAlive": State.STREAMING,
        "Finalize": State.STREAMING,
        "Configure": State.STREAMING,
        "CloseStream": State.CLOSING,
    },
    State.CLOSING: {},
}
"""State → input → next state; ``header`` is a complete WAV header. Other inputs are ignored, as Deepgram does."""


class LiveTranslation(StatefulTranslation[State]):
    """One live connection.

    Args:
        request: the handshake.
        options: its query.
    """

    opens_late = True

    def __init__(self, request: Request, options: Options) -> None:
        super().__init__(TRANSITIONS, State.STREAMING if options.encoded else State.AWAITING_HEADER)
        self.headers = {"dg-request-id": request.id, **warning_headers(options.warnings)}
        self._request = request
        self._options = options
        self._start = options.start
        self._head = b""
        self._sha256 = hashlib.sha256()
        self._audio_bytes = 0
        self._latency_ms = 0
        self._warnings = list(options.warnings)
        self._warnings_sent = 0
        self._results_end_ms = 0
        """Where the final results end that were sent."""
        self._finalizing = 0
        """Requests to finalize that are not answered yet."""
        self._held: Final | None = None
        """A final that may be the last one of a request to finalize."""
        self._last_word_end_ms: int | None = None
        """Where the last final ended, until its ``UtteranceEnd`` was sent or speech went on."""

    def opened(self) -> Iterable[Incoming]:
        """Open the session at once if the query states the audio's format."""
        return (self._start,) if self._state is State.STREAMING else ()

    def receive(self, frame: Frame) -> Iterable[Incoming]:
        """See :class:`~streamasr.dialects.base.Translation`."""
        if isinstance(frame, bytes):
            # Older clients end the audio with an empty message.
            return self._audio(frame) if frame else self._request_of({"type": "CloseStream"})
        message = read_message(frame, _REQUESTS)
        if message is None:
            return (_schema_error(frame),)
        return self._request_of(message)

    def send(self, message: ServerMessage) -> Iterable[Frame]:
        """See :class:`~streamasr.dialects.base.Translation`."""
        return [json_bytes(value).decode() for value in self._values(message)]

    def _audio(self, data: bytes) -> Iterable[Incoming]:
        if not self._advance("audio"):
            return
        if self._state is State.AWAITING_HEADER:
            self._head += data
            header = _wave_start(self._head, self._start)
            if header is None:
                return
            self._advance("header")
            self._start, data = header
            yield self._start
        if data:
            self._sha256.update(data)
            self._audio_bytes += len(data)
            yield Audio(data)
        if self._utterance_is_over():
            yield _reply(self._utterance_end())

    def _request_of(self, message: dict[str, object]) -> Iterable[Incoming]:
        name, before = str(message["type"]), self._state
        if not self._advance(name):
            return
        match name:
            case "KeepAlive":
                yield KeepAlive()
            case "Finalize" if before is State.AWAITING_HEADER:
                yield _reply(self._empty_result())
            case "Finalize":
                self._finalizing += 1
                yield Finalize()
            case "Configure":
                yield from self._configure(message)
            case "CloseStream":
                if before is State.AWAITING_HEADER:
                    yield self._start
                yield Stop()

    def _configure(self, message: dict[str, object]) -> Iterable[Incoming]:
        terms, limits = message.get("keyterms"), DEFAULT_LIMITS
        if message.get("features") or not isinstance(terms, list):
            yield self._configure_failure("CONFIGURE_INTERNAL_ERROR", "only keyterms can be changed: a list")
            return
        hotwords = keyterms(terms)
        if hotwords is None:
            text = f"expected up to {limits.hotwords} texts of 1 to {limits.hotword_chars} characters"
            yield self._configure_failure("CONFIGURE_KEYTERM_LIMIT_EXCEEDED", text)
            return
        yield Configure(hotwords=hotwords)
        yield _reply({"type": "ConfigureSuccess", "request_id": self._request.id, "keyterms": terms})

    def _configure_failure(self, code: str, text: str) -> Reply:
        values = {
            "type": "ConfigureFailure",
            "request_id": self._request.id,
            "code": code,
            "description": text,
        }
        return _reply(values)

    def _values(self, message: ServerMessage) -> Iterable[dict[str, object]]:
        if self._held is not None and isinstance(message, (Partial, Final, SpeechStarted, Done, Error)):
            held, self._held = self._held, None
            yield self._final(held)
        match message:
            case Ready():
                self._latency_ms = message.latency_ms
            case SpeechStarted():
                yield from self._speech_at(message.at_ms)
                if self._options.vad_events:
                    yield {"type": "SpeechStarted", "channel": [0, 1], "timestamp": seconds(message.at_ms)}
            case Partial():
                yield from self._speech_at(message.start_ms)
                if self._options.interim_results:
                    yield self._interim(message)
            case Final() if self._finalizing:
                yield from self._speech_at(message.start_ms)
                self._held = message
            case Final():
                yield from self._speech_at(message.start_ms)
                yield self._final(message)
            case Finalized():
                self._finalizing -= 1
                last, self._held = self._held, None
                yield self._empty_result() if last is None else self._final(last, from_finalize=True)
            case Warning():
                self._warnings.append(Notice(type=message.code, message=message.message))
            case Error():
                yield {
                    "type": "Error",
                    "variant": message.code,
                    "description": message.message,
                    "message": message.message,
                }
            case Done():
                about = metadata(
                    self._request,
                    sha256=self._sha256.hexdigest(),
                    audio_ms=message.audio_ms,
                    warnings=self._warnings,
                )
                yield {"type": "Metadata", **about}

    def _interim(self, partial: Partial) -> dict[str, object]:
        text = join_words([part for part in (partial.committed, partial.tail) if part])
        alternative = {
            "transcript": text,
            "confidence": mean_confidence(partial.words),
            "words": word_values(partial.words, formatted=self._options.formatted),
        }
        return self._results([alternative], partial.end_ms, is_final=False)

    def _final(self, final: Final, *, from_finalize: bool = False) -> dict[str, object]:
        best = {
            "transcript": final.text,
            "confidence": final.confidence,
            "words": word_values(final.words, formatted=self._options.formatted),
        }
        others = [
            {"transcript": other.text, "confidence": other.confidence, "words": []}
            for other in final.alternatives
        ]
        values = self._results([best, *others], final.end_ms, is_final=True, from_finalize=from_finalize)
        self._results_end_ms = final.end_ms
        if final.text:
            self._last_word_end_ms = final.end_ms
        return values

    def _empty_result(self) -> dict[str, object]:
        empty = {"transcript": "", "confidence": 0.0, "words": []}
        end_ms = max(self._results_end_ms, self._received_ms())
        return self._results([empty], end_ms, is_final=True, from_finalize=True)

    def _results(
        self,
        alternatives: Sequence[dict[str, object]],
        end_ms: int,
        *,
        is_final: bool,
        from_finalize: bool = False,
    ) -> dict[str, object]:
        about: dict[str, object] = {
            "request_id": self._request.id,
            "model_info": model_values(self._request.model),
            "model_uuid": model_id(self._request.model),
        }
        if new := self._warnings[self._warnings_sent :]:
            # Clients fail on messages of types that they do not know, so warnings go with the next results.
            about["warnings"] = [warning.values() for warning in new]
            self._warnings_sent = len(self._warnings)
        return {
            "type": "Results",
            "channel_index": [0, 1],
            "start": seconds(self._results_end_ms),
            "duration": seconds(max(0, end_ms - self._results_end_ms)),
            "is_final": is_final,
            "speech_final": is_final,
            "channel": {"alternatives": alternatives},
            "metadata": about,
            "from_finalize": from_finalize,
        }

    def _speech_at(self, at_ms: int) -> Iterable[dict[str, object]]:
        """End the last utterance before speech at ``at_ms``, if the gap is long enough."""
        last, wanted = self._last_word_end_ms, self._options.utterance_end_ms
        if last is not None and wanted is not None and at_ms - last >= wanted:
            yield self._utterance_end()
        self._last_word_end_ms = None

    def _utterance_is_over(self) -> bool:
        """Whether so much audio has come after the last word that new words in the gap would have come, too."""
        last, wanted = self._last_word_end_ms, self._options.utterance_end_ms
        if last is None or wanted is None:
            return False
        return self._received_ms() >= last + wanted + self._latency_ms

    def _utterance_end(self) -> dict[str, object]:
        last_ms, self._last_word_end_ms = self._last_word_end_ms or 0, None
        return {"type": "UtteranceEnd", "channel": [0, 1], "last_word_end": seconds(last_ms)}

    def _received_ms(self) -> int:
        size = frame_bytes(cast(Encoding, self._start.encoding), self._start.channels)
        return self._audio_bytes // size * MS_PER_SECOND // self._start.sample_rate


_REQUESTS = ("CloseStream", "Configure", "Finalize", "KeepAlive")


class DeepgramLiveDialect(LiveDialect):
    """``/v1/listen`` over a websocket."""

    name = NAME
    paths = (PATH,)
    subprotocols = ("token", "bearer")

    def open(self, request: Request) -> Translation:
        """See :class:`~streamasr.dialects.base.LiveDialect`."""
        return LiveTranslation(request, read_options(request))

    def refuse(self, refusal: Refusal) -> Answer:
        """See :class:`~streamasr.dialects.base.Dialect`."""
        return refuse(refusal)


def _wave_start(head: bytes, start: Start) -> tuple[Start, bytes] | None:
    """Return the session and the first samples of a WAV stream; ``None`` if its header is not complete.

    Raises:
        AudioError: it is no WAV stream, or not one of an encoding that sessions accept.
    """
    if not b"RIFF".startswith(head[:4]) or (len(head) >= 12 and head[8:12] != b"WAVE"):
        known = ", ".join(ENCODINGS)
        raise AudioError(
            "without encoding the audio must be a WAV stream; add encoding and sample_rate to the address, "
            f"encoding one of {known}"
        )
    if b"data" not in head[12:-4] and len(head) < _HEADER_BYTES:
        return None
    stream = io.BytesIO(head)
    try:
        raw, _ = read_wave_header(stream, "audio")
    except DataError as error:
        if len(head) < _HEADER_BYTES and "ended before" in error.message:
            return None
        raise AudioError(error.message) from None
    if raw.encoding not in ENCODINGS.values():
        raise AudioError(f"a WAV stream of {raw.encoding}; send one of {', '.join(ENCODINGS.values())}")
    found = dataclasses.replace(
        start, sample_rate=raw.sample_rate, encoding=raw.encoding, channels=raw.channels
    )
    return found, stream.read()


def _schema_error(frame: str) -> Reply:
    text = f"expected a message with a type of {', '.join(_REQUESTS)}"
    return _reply({"type": "Error", "variant": "SchemaError", "description": text, "message": frame[:300]})


def _reply(values: Mapping[str, object]) -> Reply:
    return Reply(json_bytes(values).decode())
