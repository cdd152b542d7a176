"""Read Deepgram's query parameters and write its results, for live audio and recordings alike.

Reference: https://developers.deepgram.com/reference/speech-to-text/listen-streaming. ``docs/dialects.md`` lists what
is supported.
"""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from streamasr.dialects.base import Answer, Refusal, RefusedError, Request
from streamasr.dialects.values import check_language, switch
from streamasr.errors import ProtocolError
from streamasr.protocol.limits import DEFAULT_LIMITS, Range
from streamasr.protocol.messages import EndpointingSpec, HotwordSpec, Start, WordTiming
from streamasr.protocol.model_info import ModelInfo
from streamasr.protocol.serialisation import check_client_message
from streamasr.units import MS_PER_SECOND

NAME = "deepgram"
PATH = "/v1/listen"

ENCODINGS = {"linear16": "pcm_s16le", "linear32": "pcm_f32le", "mulaw": "mulaw", "alaw": "alaw"}
"""Deepgram's names of encodings to the native ones."""
_TELEPHONE_RATE = 8_000
"""Hz of G.711 without a ``sample_rate``."""

_WITHOUT_EFFECT = frozenset({"model", "version", "tag", "extra", "mip_opt_out", "no_delay", "token", "tier"})
"""Parameters that change nothing in a transcript."""
_USED = frozenset(
    {
        "channels", "encoding", "endpointing", "keyterm", "keywords", "language", "numerals", "punctuate",
        "sample_rate", "smart_format",
    }
)  # fmt: skip
_USED_BY = {
    "live": _USED | {"alternatives", "interim_results", "utterance_end_ms", "vad_events"},
    "recording": _USED | {"paragraphs", "utterances"},
    "turns": _USED | {"eager_eot_threshold", "eot_timeout_ms"},
}
"""The protocols for live audio, for recordings and for conversations, to the parameters that they have here."""
_ONE = frozenset({"alternatives"})
"""Parameters for which 1 is the value without an effect."""
_EAGER_THRESHOLD = Range(0.3, 0.9)
_TURN_TIMEOUT_MS = Range(500, 10_000)
_OFF = ("false", "0", "")
_HEADER_CHARS = 1_000
_ERROR_CODES = {
    400: "INVALID_QUERY_PARAMETER",
    401: "INVALID_AUTH",
    403: "FORBIDDEN",
    404: "NOT_FOUND",
    408: "SLOW_UPLOAD",
    413: "PAYLOAD_TOO_LARGE",
    429: "TOO_MANY_REQUESTS",
    503: "SERVICE_UNAVAILABLE",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """What Deepgram calls a warning."""

    message: str
    """A sentence for people."""
    parameter: str = ""
    """The parameter that it is about, if it is about one."""
    type: str = "unsupported_parameter"

    def values(self) -> dict[str, str]:
        """Return it as Deepgram writes it."""
        return {"parameter": self.parameter, "type": self.type, "message": self.message}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The query of a request."""

    start: Start
    """The native session that it asks for."""
    encoded: bool
    """Whether the query states the audio's format. Otherwise the audio states it."""
    interim_results: bool
    vad_events: bool
    utterance_end_ms: int | None
    utterances: bool
    paragraphs: bool
    formatted: bool
    """Whether capitals and digits are wanted."""
    warnings: tuple[Notice, ...] = field(default=())
    """Parameters that have no effect here, or another one."""


def read_options(request: Request, protocol: Literal["live", "recording", "turns"] = "live") -> Options:
    """Read a request's query. In conversations (``turns``), partials are always sent.

    Raises:
        RefusedError: a value is not usable; it names the parameter.
    """
    check_language(request.value("language"), request.model)
    if request.value("callback"):
        raise RefusedError("callback: results are sent to the client that sends the audio", param="callback")
    turns = protocol == "turns"
    warnings = [
        Notice(parameter=name, message=f"{name} is not supported and has no effect")
        for name, values in request.values.items()
        if name not in _USED_BY[protocol] | _WITHOUT_EFFECT
        and any(value.lower() not in (*_OFF, "1" if name in _ONE else "") for value in values)
    ]
    formats = [name for name in ("punctuate", "smart_format", "numerals") if _is_on(request, name)]
    formatted = bool(formats) and request.model.language == "en"
    if formats and not formatted:
        text = f"{', '.join(formats)}: the model {request.model.name!r} has no written form"
        warnings.append(Notice(parameter=formats[0], type="unsupported_language", message=text))
    interim = turns or _is_on(request, "interim_results")
    encoding, sample_rate = _format(request)
    endpointing = _endpointing(request, warnings)
    if turns and endpointing.silence_ms is None:
        endpointing = _turn_endpointing(request)
    start = Start(
        sample_rate=sample_rate,
        encoding=encoding or "pcm_s16le",
        channels=_number(request, "channels", DEFAULT_LIMITS.channels, 1),
        partials=interim,
        alternatives=_number(request, "alternatives", DEFAULT_LIMITS.alternatives, 1),
        hotwords=_hotwords(request, warnings),
        endpointing=endpointing,
        ending_threshold=_eager_threshold(request) if turns else None,
        format="written" if formatted else "plain",
    )
    try:
        check_client_message(start)
    except ProtocolError as error:
        raise RefusedError(error.message.removeprefix("start.")) from None
    utterance_end = request.value("utterance_end_ms")
    return Options(
        start=start,
        encoded=encoding is not None,
        interim_results=interim,
        vad_events=_is_on(request, "vad_events"),
        utterance_end_ms=None
        if utterance_end.lower() in _OFF
        else _number(request, "utterance_end_ms", Range(1, 60_000), 1_000),
        utterances=_is_on(request, "utterances"),
        paragraphs=_is_on(request, "paragraphs") or _is_on(request, "smart_format"),
        formatted=formatted,
        warnings=tuple(warnings),
    )


def refuse(refusal: Refusal) -> Answer:
    """Return an error in Deepgram's shape."""
    code = _ERROR_CODES.get(refusal.status, "INTERNAL_SERVER_ERROR")
    if refusal.code in ("bad_data", "bad_audio"):
        code = "UNPROCESSABLE_AUDIO"
    body = {"err_code": code, "err_msg": refusal.message}
    return Answer(
        body=json_bytes(body), status=refusal.status, headers={"dg-error": header_text(refusal.message)}
    )


def read_message(frame: str, types: Sequence[str]) -> dict[str, Any] | None:
    """Parse a text message; ``None`` if it is not an object whose ``type`` is one of ``types``.

    Raises:
        ProtocolError: it is too long.
    """
    if len(frame.encode("utf-8", "surrogatepass")) > DEFAULT_LIMITS.message_bytes:
        text = f"a text message may have at most {DEFAULT_LIMITS.message_bytes} bytes"
        raise ProtocolError(text, code="message_too_big")
    try:
        message = json.loads(frame)
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) and message.get("type") in types else None


def keyterms(value: object) -> tuple[HotwordSpec, ...] | None:
    """Return the hotwords of a list of keyterms; ``None`` if it is not a list that a session can use."""
    limits = DEFAULT_LIMITS
    if not isinstance(value, list) or len(value) > limits.hotwords:
        return None
    terms = [term for term in value if isinstance(term, str) and term.strip() and _is_text(term)]
    if len(terms) < len(value) or any(len(term) > limits.hotword_chars for term in terms):
        return None
    return tuple(HotwordSpec(text=term) for term in terms)


def word_values(words: Iterable[WordTiming], *, formatted: bool) -> list[dict[str, object]]:
    """Return words as Deepgram writes them, with ``punctuated_word`` if they are formatted."""
    return [
        {
            "word": word.word.lower().rstrip(".,?") if formatted else word.word,
            "start": seconds(word.start_ms),
            "end": seconds(word.end_ms),
            "confidence": word.confidence,
            **({"punctuated_word": word.word} if formatted else {}),
        }
        for word in words
    ]


def mean_confidence(words: Sequence[WordTiming]) -> float:
    """Return the mean confidence of the words; 0 if there are none."""
    return sum(word.confidence for word in words) / len(words) if words else 0.0


def model_id(model: ModelInfo) -> str:
    """Return an identifier that is always the same for a model's name."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, model.name))


def model_values(model: ModelInfo) -> dict[str, str]:
    """Return the description of the model."""
    return {"name": model.name, "version": "1", "arch": "streamasr"}


def metadata(
    request: Request, *, sha256: str, audio_ms: int, warnings: Sequence[Notice]
) -> dict[str, object]:
    """Return what both protocols report about a request at its end."""
    identifier = model_id(request.model)
    return {
        "transaction_key": "deprecated",
        "request_id": request.id,
        "sha256": sha256,
        "created": request.received_at,
        "duration": seconds(audio_ms),
        "channels": 1,
        "models": [identifier],
        "model_info": {identifier: model_values(request.model)},
        **({"warnings": [warning.values() for warning in warnings]} if warnings else {}),
    }


def seconds(ms: int) -> float:
    """Return milliseconds as Deepgram writes times."""
    return ms / MS_PER_SECOND


def json_bytes(value: Mapping[str, object]) -> bytes:
    """Return ``value`` as JSON."""
    return json.dumps(value, ensure_ascii=False).encode()


def _is_on(request: Request, name: str) -> bool:
    return switch(name, request.value(name, "false"))


def _number(request: Request, name: str, allowed: Range, default: int) -> int:
    text = request.value(name)
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) in allowed):
        raise RefusedError(f"{name} must be {allowed}, got {text!r}", param=name)
    return int(text)


def _format(request: Request) -> tuple[str | None, int]:
    """Return the encoding, ``None`` if the audio states it, and the sample rate."""
    name = request.value("encoding")
    if name and name not in ENCODINGS:
        known = ", ".join(ENCODINGS)
        raise RefusedError(f"encoding must be one of {known}, got {name!r}", param="encoding")
    if not name:
        return None, 16_000
    if not request.value("sample_rate") and name.startswith("linear"):
        raise RefusedError(f"encoding={name} needs the sample_rate", param="sample_rate")
    return ENCODINGS[name], _number(request, "sample_rate", DEFAULT_LIMITS.sample_rate, _TELEPHONE_RATE)


def _endpointing(request: Request, warnings: list[Notice]) -> EndpointingSpec:
    text, allowed = request.value("endpointing"), DEFAULT_LIMITS.silence_ms
    if text.lower() in ("", "true"):
        return EndpointingSpec()
    if text.lower() == "false":
        return EndpointingSpec(silence_ms=int(allowed.high))
    asked = _number(request, "endpointing", Range(0, 1_000_000), 0)
    used = int(min(max(asked, allowed.low), allowed.high))
    if used != asked:
        text = f"endpointing is {used} ms, the nearest possible value to {asked}"
        warnings.append(Notice(parameter="endpointing", type="adjusted_parameter", message=text))
    return EndpointingSpec(silence_ms=used)


def _turn_endpointing(request: Request) -> EndpointingSpec:
    name = "eot_timeout_ms"
    return EndpointingSpec(
        max_silence_ms=_number(request, name, _TURN_TIMEOUT_MS, 0) if request.value(name) else None
    )


def _eager_threshold(request: Request) -> float | None:
    text = request.value("eager_eot_threshold")
    if not text:
        return None
    try:
        threshold = float(text)
    except ValueError:
        threshold = math.nan
    if threshold not in _EAGER_THRESHOLD:
        message = f"eager_eot_threshold must be {_EAGER_THRESHOLD}, got {text!r}"
        raise RefusedError(message, param="eager_eot_threshold")
    return threshold


def _hotwords(request: Request, warnings: list[Notice]) -> tuple[HotwordSpec, ...]:
    hotwords = [HotwordSpec(text=term) for term in request.values.get("keyterm", ()) if term.strip()]
    for keyword in request.values.get("keywords", ()):
        text, _, intensifier = keyword.rpartition(":") if ":" in keyword else (keyword, "", "")
        if not text.strip():
            continue
        try:
            boost = float(intensifier) if intensifier else None
        except ValueError:
            raise RefusedError(
                f"keywords: the intensifier must be a number, got {intensifier!r}", param="keywords"
            ) from None
        if boost is not None and boost > 0:
            message = f"keywords: {text!r} gets the model's own boost, not {intensifier}"
            warnings.append(Notice(parameter="keywords", type="adjusted_parameter", message=message))
            boost = None
        hotwords.append(HotwordSpec(text=text, boost=boost))
    return tuple(hotwords)


def _is_text(text: str) -> bool:
    return not any("\ud800" <= char <= "\udfff" for char in text)


def warning_headers(warnings: Sequence[Notice]) -> dict[str, str]:
    """Return the header of a handshake's response that has ``warnings``; none if there are none."""
    text = "; ".join(warning.message for warning in warnings)
    return {"dg-warning": header_text(text)} if text else {}


def header_text(text: str) -> str:
    """Return ``text`` as it may stand in a header: clients refuse very long ones."""
    return "".join(char if char.isascii() and char.isprintable() else "?" for char in text[:_HEADER_CHARS])
