"""Convert messages to JSON and back.

Parsing is strict for client messages, and ignores unknown fields of server messages, because a server may be newer
than its client.
"""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Mapping
from typing import Any, NoReturn, TypeVar

from streamasr.errors import ConfigError, ProtocolError
from streamasr.frontend.pcm import ENCODINGS
from streamasr.protocol.limits import DEFAULT_LIMITS, Limits, Range
from streamasr.protocol.messages import (
    ClientMessage,
    Configure,
    Finalize,
    HotwordSpec,
    Resume,
    ServerMessage,
    Start,
)
from streamasr.toml import from_mapping

M = TypeVar("M")

CLIENT_MESSAGES: dict[str, type[Any]] = {cls.type: cls for cls in typing.get_args(ClientMessage)}
SERVER_MESSAGES: dict[str, type[Any]] = {cls.type: cls for cls in typing.get_args(ServerMessage)}
"""The ``type`` of a message on the wire to its dataclass."""

BAD_HOTWORDS = "bad_hotwords"
"""The code of a warning: hotwords that cannot be used."""

_ERROR_CHARS = 300
"""Longest error message; it may quote text from the other side."""
_QUOTED_CHARS = 60
"""How much of a wrong text a message quotes, so that what is right is not cut off."""
_END_WORDS = (b"eof", b"eos", b"done", b"end", b"stop", b"close", b"finish")
"""By these words other protocols end the audio."""
_HOW_TO_END = (
    'open a session with the text message {"type":"start"}, '
    'end its audio with the text message {"type":"stop"}'
)


def encode(message: ClientMessage | ServerMessage, seq: int | None = None) -> str:
    """Return ``message`` as compact JSON, without the fields that are ``None``. ``seq`` is its number."""
    values = {"type": message.type, **({} if seq is None else {"seq": seq}), **_to_json_value(message)}
    return json.dumps(values, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def parse_client_message(text: str, limits: Limits = DEFAULT_LIMITS) -> ClientMessage:
    """Parse a message from a client.

    Args:
        text: the websocket message.
        limits: the limits to enforce.

    Raises:
        ProtocolError: not JSON, an unknown message type or field, a field of the wrong type, or a value beyond
            ``limits``. The message names the field and what is allowed. If only values of a ``configure`` are beyond
            a limit, which is no reason to end the session, the code is ``bad_hotwords``.
    """
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > limits.message_bytes:
        raise ProtocolError(
            f"a text message may have at most {limits.message_bytes} bytes, this one has {size}",
            code="message_too_big",
        )
    name, values = _parse_object(text)
    message = typing.cast(ClientMessage, _build(_message_class(CLIENT_MESSAGES, name), name, values))
    try:
        check_client_message(message, limits)
    except ProtocolError as error:
        if isinstance(message, Configure):
            error.code = BAD_HOTWORDS
        raise
    return message


def check_client_message(message: ClientMessage, limits: Limits = DEFAULT_LIMITS) -> None:
    """Check the values of a message against the limits.

    Raises:
        ProtocolError: a value is beyond a limit. The message names the field and what is allowed.
    """
    if isinstance(message, Start):
        _check_start(message, limits)
    elif isinstance(message, Configure):
        _check_hotwords("configure", message.hotwords, limits)
    elif isinstance(message, Resume):
        _check_text("resume.token", message.token, limits.token_chars)
        if message.seq < 0:
            _refuse(f"resume.seq: expected 0 or more, got {message.seq}")
    elif isinstance(message, Finalize):
        _check_text("finalize.id", message.id, limits.finalize_id_chars)


def refuse_text_as_audio(data: bytes) -> None:
    """Refuse a binary message that is a request of another protocol, such as ``{"eof":1}`` or ``EOF``.

    Raises:
        ProtocolError: ``data`` is a JSON object, or a word by which other protocols end the audio.
    """
    text = data.strip()
    if not (text.lower() in _END_WORDS or text[:1] + text[-1:] == b"{}"):
        return
    try:
        is_request = text.lower() in _END_WORDS or isinstance(json.loads(text.decode()), dict)
    except (ValueError, RecursionError):
        return
    if is_request:
        quoted = _quoted(text.decode())
        _refuse(f"a binary message must be audio, this one is the text {quoted}; {_HOW_TO_END}")


def parse_server_message(text: str) -> ServerMessage:
    """Parse a message from a server. Unknown fields are ignored.

    Raises:
        ProtocolError: not JSON, an unknown message type, or a known field missing or of the wrong type.
    """
    try:
        name, values = _parse_object(text)
        cls = _message_class(SERVER_MESSAGES, name)
        message = _build(cls, name, _drop_unknown_fields(cls, values))
    except ProtocolError as error:
        error.fault = "server"
        raise
    return typing.cast(ServerMessage, message)


def _to_json_value(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        items = ((f.name, getattr(value, f.name)) for f in dataclasses.fields(value))
        return {name: _to_json_value(item) for name, item in items if item is not None}
    if isinstance(value, (tuple, list)):
        return [_to_json_value(item) for item in value]
    return value


def _parse_object(text: str) -> tuple[str, dict[str, Any]]:
    try:
        values = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_unique_fields)
    except ProtocolError:
        raise
    except (ValueError, RecursionError) as error:
        hint = f"; {_HOW_TO_END}" if text.strip().lower().encode("utf-8", "replace") in _END_WORDS else ""
        _refuse(f"not valid JSON: {error}{hint}")
    if not isinstance(values, dict):
        _refuse(f"a message must be a JSON object with a 'type'; {_HOW_TO_END}")
    name = values.pop("type", None)
    if not isinstance(name, str):
        _refuse(f"'type' is missing or not a string; {_HOW_TO_END}")
    return name, values


def _message_class(classes: Mapping[str, type[M]], name: str) -> type[M]:
    if name not in classes:
        _refuse(f"unknown message type {_quoted(name)}; known types are {', '.join(classes)}")
    return classes[name]


def _build(cls: type[M], name: str, values: Mapping[str, Any]) -> M:
    try:
        return from_mapping(cls, values, name)
    except ConfigError as error:
        _refuse(error.message)
    except OverflowError:
        _refuse(f"{name}: a number is too large")


def _drop_unknown_fields(hint: Any, value: Any) -> Any:
    """Return ``value`` without the fields that the dataclass ``hint`` (or a tuple of it) does not have."""
    if dataclasses.is_dataclass(hint) and isinstance(hint, type) and isinstance(value, Mapping):
        hints = typing.get_type_hints(hint)
        known = {f.name for f in dataclasses.fields(hint)}
        return {key: _drop_unknown_fields(hints[key], item) for key, item in value.items() if key in known}
    if typing.get_origin(hint) is tuple and isinstance(value, list):
        return [_drop_unknown_fields(typing.get_args(hint)[0], item) for item in value]
    return value


def _unique_fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in pairs:
        if name in values:
            _refuse(f"the field {name!r} appears twice in one object")
        values[name] = value
    return values


def _quoted(text: str) -> str:
    return repr(text if len(text) <= _QUOTED_CHARS else text[: _QUOTED_CHARS - 1] + "…")


def _refuse_constant(name: str) -> NoReturn:
    _refuse(f"{name} is not a JSON number")


def _refuse(message: str) -> NoReturn:
    valid = message.encode("utf-8", "replace").decode()
    raise ProtocolError(valid if len(valid) <= _ERROR_CHARS else valid[: _ERROR_CHARS - 1] + "…") from None


def _check_start(start: Start, limits: Limits) -> None:
    if start.encoding not in ENCODINGS:
        _refuse(f"start.encoding: expected one of {', '.join(ENCODINGS)}, got {start.encoding!r}")
    for name in ("sample_rate", "channels", "latency_ms", "alternatives"):
        _check_range(f"start.{name}", getattr(start, name), getattr(limits, name))
    for part in ("endpointing", "stability"):
        spec = getattr(start, part)
        for name in (f.name for f in dataclasses.fields(spec)):
            value = getattr(spec, name)
            if value is not None:
                _check_range(f"start.{part}.{name}", value, getattr(limits, name))
    if start.endpointing.silence_ms is not None and (
        start.endpointing.min_silence_ms is not None or start.endpointing.max_silence_ms is not None
    ):
        _refuse("start.endpointing: expected silence_ms, or min_silence_ms and max_silence_ms, got both")
    if start.ending_threshold is not None:
        _check_range("start.ending_threshold", start.ending_threshold, limits.ending_threshold)
        if not start.partials:
            _refuse(
                "start.ending_threshold: expected with partials only, because a partial takes an ending back"
            )
    _check_hotwords("start", start.hotwords, limits)
    if start.token is not None:
        _check_text("start.token", start.token, limits.token_chars)


def _check_hotwords(where: str, hotwords: tuple[HotwordSpec, ...], limits: Limits) -> None:
    if len(hotwords) > limits.hotwords:
        _refuse(f"{where}.hotwords: expected at most {limits.hotwords}, got {len(hotwords)}")
    for index, hotword in enumerate(hotwords):
        path = f"{where}.hotwords[{index}]"
        _check_text(f"{path}.text", hotword.text, limits.hotword_chars)
        if not hotword.text.strip():
            _refuse(f"{path}.text: must not be empty")
        if hotword.boost is not None:
            _check_range(f"{path}.boost", hotword.boost, limits.boost)


def _check_text(path: str, text: str, limit: int) -> None:
    if len(text) > limit:
        _refuse(f"{path}: expected at most {limit} characters, got {len(text)}")
    if any("\ud800" <= char <= "\udfff" for char in text):
        _refuse(f"{path}: contains half of a surrogate pair; send complete characters")


def _check_range(path: str, value: float, allowed: Range) -> None:
    if value not in allowed:
        _refuse(f"{path}: expected {allowed}, got {value}")
