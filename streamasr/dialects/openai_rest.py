"""Speak OpenAI's REST protocol for recordings: transcriptions, their streamed form, and the list of models.

Reference: https://platform.openai.com/docs/api-reference/audio/createTranscription. ``docs/dialects.md`` lists what
is supported.
"""

from __future__ import annotations

import json
import math
import re
import zlib
from collections.abc import Callable, Iterable, Mapping

from streamasr.dialects.base import Answer, Refusal, RefusedError, Request
from streamasr.dialects.deltas import Deltas
from streamasr.dialects.prompt import prompt_hotwords
from streamasr.dialects.upload import PageDialect, Upload, UploadDialect
from streamasr.dialects.values import check_language, check_languages, switch
from streamasr.protocol.messages import Done, Final, HotwordSpec, Partial, ServerMessage, Start, Warning
from streamasr.protocol.model_info import ModelInfo
from streamasr.subtitles import to_srt, to_vtt
from streamasr.text import join_words
from streamasr.units import MS_PER_SECOND

NAME = "openai"
FORMATS = ("json", "text", "verbose_json", "srt", "vtt")
GRANULARITIES = ("word", "segment")
ALIASES = ("whisper-", "gpt-")
"""Beginnings of OpenAI's own names. They stand for the model that is served, so that clients work unchanged."""
LANGUAGES = {
    "en": "english",
    "zh": "chinese",
    "de": "german",
    "fr": "french",
    "es": "spanish",
    "ja": "japanese",
}
"""The names that ``verbose_json`` gives languages; others keep their code."""
_ERROR_TYPES = {429: "requests", 503: "server_error", 500: "server_error", 507: "server_error"}
_ERROR_CODES = {401: "invalid_api_key", 429: "rate_limit_exceeded", 503: "server_overloaded"}
_MIN_CONFIDENCE = 1e-6


def refuse(refusal: Refusal) -> Answer:
    """Return an error in OpenAI's shape."""
    error = {
        "message": refusal.message,
        "type": _ERROR_TYPES.get(refusal.status, "invalid_request_error"),
        "param": refusal.param,
        "code": _ERROR_CODES.get(refusal.status, refusal.code),
    }
    return Answer(body=_json({"error": error}), status=refusal.status)


class Transcription(Upload):
    """One transcription.

    Args:
        request: the request with the fields of its form.

    Raises:
        RefusedError: a field has a value that is not supported.
    """

    def __init__(self, request: Request) -> None:
        check_model(request.value("model"), request.model)
        check_language(request.value("language"), request.model)
        check_languages(_list(request, "languages"), request.model)
        self._language = LANGUAGES.get(request.model.language, request.model.language)
        self._format = request.value("response_format", "json")
        if self._format not in FORMATS:
            text = f"response_format must be one of {', '.join(FORMATS)}, got {self._format!r}"
            raise RefusedError(text, param="response_format")
        self._granularities = _granularities(request)
        streamed = switch("stream", request.value("stream", "false"))
        if streamed:
            self.stream_type = "text/event-stream; charset=utf-8"
        self.start = Start(partials=streamed, hotwords=_hotwords(request))
        self._finals: list[Final] = []
        self._warnings: list[str] = []
        self._audio_ms = 0
        self._deltas = Deltas()

    def send(self, message: ServerMessage) -> Iterable[bytes]:
        """See :class:`~streamasr.dialects.upload.Upload`. A streamed answer sends words once they are committed."""
        match message:
            case Partial():
                yield from _delta(self._deltas.grow(message.committed))
            case Final():
                yield from _delta(self._deltas.finish(message.text))
                self._finals.append(message)
            case Warning():
                self._warnings.append(message.message)
            case Done():
                self._audio_ms = message.audio_ms
                yield _event({"type": "transcript.text.done", "text": self._text()})

    def fail(self, refusal: Refusal) -> Iterable[bytes]:
        """See :class:`~streamasr.dialects.upload.Upload`."""
        return (_event(json.loads(refuse(refusal).body)),)

    def answer(self) -> Answer:
        """See :class:`~streamasr.dialects.upload.Upload`."""
        texts: dict[str, Callable[[], str]] = {
            "text": lambda: self._text() + "\n",
            "srt": lambda: to_srt(self._finals),
            "vtt": lambda: to_vtt(self._finals),
        }
        if self._format in texts:
            return Answer(body=texts[self._format]().encode(), content_type="text/plain; charset=utf-8")
        values: dict[str, object] = {"text": self._text(), "usage": self._usage()}
        if self._format == "verbose_json":
            values |= self._verbose()
        if self._warnings:
            values["warnings"] = self._warnings
        return Answer(body=_json(values))

    def _verbose(self) -> dict[str, object]:
        values: dict[str, object] = {
            "task": "transcribe",
            "language": self._language,
            "duration": self._audio_ms / MS_PER_SECOND,
        }
        if "segment" in self._granularities:
            values["segments"] = [_segment(number, final) for number, final in enumerate(self._finals)]
        if "word" in self._granularities:
            values["words"] = [
                {"word": w.word, "start": w.start_ms / MS_PER_SECOND, "end": w.end_ms / MS_PER_SECOND}
                for final in self._finals
                for w in final.words
            ]
        return values

    def _text(self) -> str:
        return join_words([final.text for final in self._finals if final.text])

    def _usage(self) -> dict[str, object]:
        return {"type": "duration", "seconds": self._audio_ms / MS_PER_SECOND}


def _delta(added: str) -> Iterable[bytes]:
    return (_event({"type": "transcript.text.delta", "delta": added}),) if added else ()


class TranscriptionsDialect(UploadDialect):
    """``POST /v1/audio/transcriptions``."""

    name = NAME
    paths = ("/v1/audio/transcriptions", "/v1/audio/translations")
    file_fields = ("file",)

    def open(self, request: Request) -> Upload:
        """See :class:`~streamasr.dialects.upload.UploadDialect`. A translation is refused."""
        if request.path.endswith("/translations"):
            text = "this server writes what was said and does not translate; use /v1/audio/transcriptions"
            raise RefusedError(text, status=404, code="not_found")
        return Transcription(request)

    def refuse(self, refusal: Refusal) -> Answer:
        """See :class:`~streamasr.dialects.base.Dialect`."""
        return refuse(refusal)


class TranscribeDialect(UploadDialect):
    """``POST /transcribe``, the shortest form: a file in the field ``audio``, ``{"text": …}`` as the answer."""

    name = "transcribe"
    paths = ("/transcribe",)
    file_fields = ("audio", "file")

    def open(self, request: Request) -> Upload:
        """See :class:`~streamasr.dialects.upload.UploadDialect`."""
        check_language(request.value("language"), request.model)
        return PlainTranscription()

    def refuse(self, refusal: Refusal) -> Answer:
        """See :class:`~streamasr.dialects.base.Dialect`."""
        return Answer(body=_json({"error": refusal.message}), status=refusal.status)


class PlainTranscription(Upload):
    """One recording of which only the text is wanted."""

    def __init__(self) -> None:
        self.start = Start(partials=False, words=False)
        self._texts: list[str] = []

    def send(self, message: ServerMessage) -> Iterable[bytes]:
        """See :class:`~streamasr.dialects.upload.Upload`."""
        if isinstance(message, Final) and message.text:
            self._texts.append(message.text)
        return ()

    def answer(self) -> Answer:
        """See :class:`~streamasr.dialects.upload.Upload`."""
        return Answer(body=_json({"text": join_words(self._texts)}))


class ModelsDialect(PageDialect):
    """``GET /v1/models`` and ``GET /v1/models/NAME``."""

    name = NAME
    prefix = "/v1/models"

    def page(self, request: Request) -> Answer:
        """See :class:`~streamasr.dialects.upload.PageDialect`."""
        model = {"id": request.model.name, "object": "model", "created": 0, "owned_by": "streamasr"}
        wanted = request.path.removeprefix(self.prefix).strip("/")
        if not wanted:
            return Answer(body=_json({"object": "list", "data": [model]}))
        check_model(wanted, request.model)
        return Answer(body=_json(model))

    def refuse(self, refusal: Refusal) -> Answer:
        """See :class:`~streamasr.dialects.base.Dialect`."""
        return refuse(refusal)


def check_model(name: str, model: ModelInfo) -> None:
    """Check that a client asks for the model that is served, or for one of OpenAI's own.

    Raises:
        RefusedError: for another model.
    """
    if name.endswith("-diarize"):
        text = f"the model {name!r} tells speakers apart, which this server does not; use {model.name!r}"
        raise RefusedError(text, status=404, code="model_not_found", param="model")
    if name in ("", model.name) or name.startswith(ALIASES):
        return
    text = f"the model {name!r} does not exist; this server has {model.name!r}, also as 'whisper-1'"
    raise RefusedError(text, status=404, code="model_not_found", param="model")


def _hotwords(request: Request) -> tuple[HotwordSpec, ...]:
    """The words of ``keywords`` as they are, and the rare ones of ``prompt``."""
    return prompt_hotwords(_list(request, "keywords"), request.value("prompt"))


def _list(request: Request, name: str) -> tuple[str, ...]:
    """The values of a field that is a list. Clients write ``name``, ``name[]`` or ``name[0]``."""
    names = re.compile(re.escape(name) + r"(\[[0-9]*\])?")
    return tuple(value for key, given in request.values.items() if names.fullmatch(key) for value in given)


def _granularities(request: Request) -> tuple[str, ...]:
    name = "timestamp_granularities"
    given = _list(request, name)
    for value in given:
        if value not in GRANULARITIES:
            text = f"{name} must be one of {', '.join(GRANULARITIES)}, got {value!r}"
            raise RefusedError(text, param=name)
    return given or ("segment",)


def _segment(number: int, final: Final) -> dict[str, object]:
    text = final.text.encode()
    return {
        "id": number,
        "seek": 0,
        "start": final.start_ms / MS_PER_SECOND,
        "end": final.end_ms / MS_PER_SECOND,
        "text": final.text,
        "tokens": [],
        "temperature": 0.0,
        "avg_logprob": math.log(max(final.confidence, _MIN_CONFIDENCE)),
        "compression_ratio": len(text) / len(zlib.compress(text)),
        "no_speech_prob": 0.0,
    }


def _event(value: Mapping[str, object]) -> bytes:
    return b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode() + b"\n"
