"""Read and write the session objects of OpenAI's Realtime protocol, in their present and their beta shape."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from streamasr.dialects.base import RefusedError
from streamasr.dialects.openai_rest import check_model
from streamasr.dialects.prompt import prompt_hotwords
from streamasr.dialects.values import check_languages
from streamasr.frontend.pcm import Encoding, frame_bytes
from streamasr.protocol.limits import DEFAULT_LIMITS
from streamasr.protocol.messages import EndpointingSpec, HotwordSpec, Start
from streamasr.protocol.model_info import ModelInfo

DEFAULT_SILENCE_MS = 500
"""OpenAI's silence that ends a turn."""
_RATE = 24_000
_TELEPHONE_RATE = 8_000
_ENCODINGS = {"audio/pcm": "pcm_s16le", "audio/pcmu": "mulaw", "audio/pcma": "alaw"}
_BETA_FORMATS = {"pcm16": "audio/pcm", "g711_ulaw": "audio/pcmu", "g711_alaw": "audio/pcma"}
_ECHOED = ("model", "language", "languages", "prompt", "keywords")
_DETECTORS = ("server_vad", "semantic_vad")
_WITHOUT_TURNS = ("gpt-realtime-whisper", "gpt-live-transcribe")
"""Beginnings of the names of models for which OpenAI ends no turns: their clients commit every turn themselves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """The format of the audio; ``kind`` is OpenAI's name, ``rate`` is in Hz."""

    kind: str = "audio/pcm"
    rate: int = _RATE


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """What ``session.update`` can set."""

    format: Format = dataclasses.field(default_factory=Format)
    transcription: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """What the client sent of it and gets back."""
    hotwords: tuple[HotwordSpec, ...] = ()
    server_vad: bool = True
    """Whether endpoints end turns. Otherwise the client commits them."""
    detector: str = "server_vad"
    turns_chosen: bool = False
    """Whether the client has chosen who ends turns. Otherwise the model that it names decides."""
    silence_ms: int | None = DEFAULT_SILENCE_MS
    """Silence that ends a turn; ``None`` for the model's own."""

    @property
    def bytes_per_second(self) -> int:
        """Bytes of one second of audio."""
        return frame_bytes(cast(Encoding, _ENCODINGS[self.format.kind]), 1) * self.format.rate

    def start(self) -> Start:
        """Return the native session."""
        return Start(
            sample_rate=self.format.rate,
            encoding=_ENCODINGS[self.format.kind],
            words=False,
            hotwords=self.hotwords,
            endpointing=EndpointingSpec(silence_ms=self.silence_ms if self.server_vad else None),
        )


def read_update(values: object, before: Session, model: ModelInfo) -> Session:
    """Return the session after an update; what it does not name stays.

    Args:
        values: the update's ``session``.
        before: the session so far.
        model: the model that is served.

    Raises:
        RefusedError: a value has the wrong type or is not supported; it names the parameter.
    """
    session = _object(values, "session")
    if session.get("type", "transcription") != "transcription":
        text = f"session.type must be transcription, got {session['type']!r}; this server only transcribes"
        raise RefusedError(text[:300], param="session.type")
    given, prefix = _input(session)
    changes: dict[str, Any] = {}
    if given.get("format") is not None:
        changes["format"] = _format(given["format"], f"{prefix}format")
    if given.get("transcription") is not None:
        transcription = _transcription(given["transcription"], before, f"{prefix}transcription")
        changes["transcription"] = transcription
        changes["hotwords"] = _hotwords(transcription, f"{prefix}transcription", model)
        name = _text(transcription, "model", f"{prefix}transcription")
        if name and not before.turns_chosen:
            changes |= _turn_detection(None if name.startswith(_WITHOUT_TURNS) else {}, "")
    if "turn_detection" in given:
        changes |= _turn_detection(given["turn_detection"], f"{prefix}turn_detection")
        changes["turns_chosen"] = True
    return dataclasses.replace(before, **changes)


def session_values(session: Session, session_id: str, model: ModelInfo, *, beta: bool) -> dict[str, object]:
    """Return the session object of ``session.created`` and ``session.updated``."""
    transcription = {"model": model.name, "language": model.language, **session.transcription}
    detection = {
        "type": session.detector,
        "threshold": 0.5,
        "prefix_padding_ms": 300,
        "silence_duration_ms": session.silence_ms,
    }
    turn_detection = detection if session.server_vad else None
    if beta:
        names = {kind: name for name, kind in _BETA_FORMATS.items()}
        return {
            "id": session_id,
            "object": "realtime.transcription_session",
            "input_audio_format": names[session.format.kind],
            "input_audio_transcription": transcription,
            "turn_detection": turn_detection,
            "input_audio_noise_reduction": None,
        }
    audio = {
        "format": {"type": session.format.kind}
        | ({"rate": session.format.rate} if session.format.kind == "audio/pcm" else {}),
        "transcription": transcription,
        "noise_reduction": None,
        "turn_detection": turn_detection,
    }
    return {
        "id": session_id,
        "object": "realtime.transcription_session",
        "type": "transcription",
        "audio": {"input": audio},
        "include": [],
    }


def _input(session: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """Return the settings of the audio by their present names, and what comes before the names in the update."""
    beta = {
        "format": "input_audio_format",
        "transcription": "input_audio_transcription",
        "turn_detection": "turn_detection",
    }
    if any(name in session for name in beta.values()):
        return {name: session[old] for name, old in beta.items() if old in session}, "session."
    audio = session.get("audio")
    given = None if audio is None else _object(audio, "session.audio").get("input")
    return ({} if given is None else _object(given, "session.audio.input")), "session.audio.input."


def _transcription(value: object, before: Session, param: str) -> dict[str, Any]:
    """Return the settings of the transcription; those that ``value`` does not name stay."""
    given = _object(value, param)
    kept = dict(before.transcription)
    if "language" in given or "languages" in given:
        kept.pop("language", None)
        kept.pop("languages", None)
    merged = {**kept, **given}
    return {name: merged[name] for name in _ECHOED if name in merged}


def _format(value: object, param: str) -> Format:
    kind: object = value
    rate: object = None
    if isinstance(value, dict):
        kind, rate = value.get("type", "audio/pcm"), value.get("rate")
    elif isinstance(value, str):
        kind = _BETA_FORMATS.get(value, value)
    if not isinstance(kind, str) or kind not in _ENCODINGS:
        raise RefusedError(f"{param} must be one of {', '.join(_ENCODINGS)}", param=param)
    if kind != "audio/pcm":
        return Format(kind=kind, rate=_TELEPHONE_RATE)
    if rate is None:
        return Format()
    limit = DEFAULT_LIMITS.sample_rate
    if not isinstance(rate, int) or isinstance(rate, bool) or rate not in limit:
        raise RefusedError(f"{param}.rate must be {limit}", param=f"{param}.rate")
    return Format(rate=rate)


def _hotwords(values: Mapping[str, Any], param: str, model: ModelInfo) -> tuple[HotwordSpec, ...]:
    """Check what a client wants of the transcription, and return its hotwords."""
    check_model(_text(values, "model", param), model)
    check_languages(_texts(values, "languages", param) or [_text(values, "language", param)], model)
    return prompt_hotwords(_texts(values, "keywords", param), _text(values, "prompt", param))


def _turn_detection(value: object, param: str) -> dict[str, Any]:
    values = {"type": None} if value is None else _object(value, param)
    kind = values.get("type", "server_vad")
    if kind in (None, "none"):
        return {"server_vad": False, "silence_ms": None}
    if kind not in _DETECTORS:
        raise RefusedError(
            f"{param}.type must be one of {', '.join(_DETECTORS)}, or null", param=f"{param}.type"
        )
    silence = values.get("silence_duration_ms")
    if silence is None:
        silence = DEFAULT_SILENCE_MS
    if not isinstance(silence, (int, float)) or isinstance(silence, bool) or math.isnan(silence):
        raise RefusedError(
            f"{param}.silence_duration_ms must be a number", param=f"{param}.silence_duration_ms"
        )
    limit = DEFAULT_LIMITS.silence_ms
    return {"server_vad": True, "detector": kind, "silence_ms": int(min(max(silence, limit.low), limit.high))}


def _object(value: object, param: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise RefusedError(f"{param} must be an object", param=param)
    return value


def _text(values: Mapping[str, Any], name: str, param: str) -> str:
    value = values.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise RefusedError(f"{param}.{name} must be a text", param=f"{param}.{name}")
    return value


def _texts(values: Mapping[str, Any], name: str, param: str) -> list[str]:
    value = values.get(name)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise RefusedError(f"{param}.{name} must be a list of texts", param=f"{param}.{name}")
    return value
