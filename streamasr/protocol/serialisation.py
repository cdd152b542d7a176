"""Messages to JSON and back. Strict towards clients; tolerant towards servers, which may be newer.

Knows no session state, socket or clock.
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
from streamasr.protocol.messages import ClientMessage, Configure, Finalize, HotwordSpec, ServerMessage, Start
from streamasr.toml import from_mapping

M = TypeVar("M")

CLIENT_MESSAGES: dict[str, type[Any]] = {cls.type: cls for cls in typing.get_args(ClientMessage)}
SERVER_MESSAGES: dict[str, type[Any]] = {cls.type: cls for cls in typing.get_args(ServerMessage)}
"""Message type as it is on the wire to its dataclass."""

_ERROR_CHARS = 300
"""Longest error text: what it quotes may come from the other side."""


def encode(message: ClientMessage | ServerMessage) -> str:
    """One message as compact JSON; fields that are ``None`` are left out."""
    return json.dumps(
        {"type": message.type, **_plain(message)}, ensure_ascii=False, separators=(",", ":"), allow_nan=False
    )


def parse_client_message(text: str, limits: Limits = DEFAULT_LIMITS) -> ClientMessage:
    """Read what a client sent.

    Raises:
        ProtocolError: not JSON, an unknown type or field, a wrong type, or a value beyond ``limits``; it
            says which.
    """
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > limits.message_bytes:
        raise ProtocolError(
            f"a text message may have {limits.message_bytes} bytes, this one has {size}",
            code="message_too_big",
        )
    name, values = _load(text)
    message = _build(_message_class(CLIENT_MESSAGES, name), name, values)
    _check(message, limits)
    return typing.cast(ClientMessage, message)


def parse_server_message(text: str) -> ServerMessage:
    """Read what a server sent. Fields that this version does not know are ignored.

    Raises:
        ProtocolError: not JSON, an unknown type, or a known field missing or of the wrong type.
    """
    try:
        name, values = _load(text)
        cls = _message_class(SERVER_MESSAGES, name)
        message = _build(cls, name, _known_only(cls, values))
    except ProtocolError as error:
        error.fault = "server"
        raise
    return typing.cast(ServerMessage, message)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        items = ((f.name, getattr(value, f.name)) for f in dataclasses.fields(value))
        return {name: _plain(item) for name, item in items if item is not None}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return value


def _load(text: str) -> tuple[str, dict[str, Any]]:
    try:
        values = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_object)
    except ProtocolError:
        raise
    except (ValueError, RecursionError) as error:
        _refuse(f"not valid JSON: {error}")
    if not isinstance(values, dict):
        _refuse('a message is a JSON object with a \'type\', for example {"type":"start"}')
    name = values.pop("type", None)
    if not isinstance(name, str):
        _refuse("the message has no 'type', or it is not a string")
    return name, values


def _message_class(classes: Mapping[str, type[M]], name: str) -> type[M]:
    if name not in classes:
        _refuse(f"unknown message type {name!r}; known types are {', '.join(classes)}")
    return classes[name]


def _build(cls: type[M], name: str, values: Mapping[str, Any]) -> M:
    try:
        return from_mapping(cls, values)
    except ConfigError as error:
        _refuse(f"{name}: {error.message}")
    except OverflowError:
        _refuse(f"{name}: a number is too large")


def _known_only(hint: Any, value: Any) -> Any:
    """``value`` without the fields that the dataclass ``hint`` (or a tuple of it) does not have."""
    if dataclasses.is_dataclass(hint) and isinstance(hint, type) and isinstance(value, Mapping):
        hints = typing.get_type_hints(hint)
        known = {f.name for f in dataclasses.fields(hint)}
        return {key: _known_only(hints[key], item) for key, item in value.items() if key in known}
    if typing.get_origin(hint) is tuple and isinstance(value, list):
        return [_known_only(typing.get_args(hint)[0], item) for item in value]
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        _refuse("an object names a field twice")
    return values


def _refuse_constant(name: str) -> NoReturn:
    _refuse(f"{name} is not a JSON number")


def _refuse(message: str) -> NoReturn:
    clean = message.encode("utf-8", "replace").decode()
    raise ProtocolError(clean if len(clean) <= _ERROR_CHARS else clean[: _ERROR_CHARS - 1] + "…") from None


def _check(message: object, limits: Limits) -> None:
    if isinstance(message, Start):
        _check_start(message, limits)
    elif isinstance(message, Configure):
        _check_hotwords("configure", message.hotwords, limits)
    elif isinstance(message, Finalize):
        _check_text("finalize.id", message.id, limits.finalize_id_chars)


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
    _check_hotwords("start", start.hotwords, limits)
    if start.token is not None:
        _check_text("start.token", start.token, limits.token_chars)


def _check_hotwords(where: str, hotwords: tuple[HotwordSpec, ...], limits: Limits) -> None:
    if len(hotwords) > limits.hotwords:
        _refuse(f"{where}.hotwords: at most {limits.hotwords}, got {len(hotwords)}")
    for index, hotword in enumerate(hotwords):
        path = f"{where}.hotwords[{index}]"
        _check_text(f"{path}.text", hotword.text, limits.hotword_chars)
        if not hotword.text.strip():
            _refuse(f"{path}.text: is empty")
        if hotword.boost is not None:
            _check_range(f"{path}.boost", hotword.boost, limits.boost)


def _check_text(path: str, text: str, limit: int) -> None:
    if len(text) > limit:
        _refuse(f"{path}: at most {limit} characters, got {len(text)}")
    if any("\ud800" <= char <= "\udfff" for char in text):
        _refuse(f"{path}: holds half a surrogate pair")


def _check_range(path: str, value: float, allowed: Range) -> None:
    if value not in allowed:
        _refuse(f"{path}: expected {allowed}, got {value}")
