"""Read and write Wyoming's events: a line of JSON, then further JSON data and a payload of bytes.

Reference: https://github.com/OHF-Voice/wyoming.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from streamasr.errors import ProtocolError
from streamasr.protocol.limits import DEFAULT_LIMITS


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event."""

    type: str
    data: Mapping[str, object] = field(default_factory=dict)
    payload: bytes = b""


class EventReader:
    """Splits a stream of bytes into events. It holds at most one event.

    Args:
        payload_bytes: the longest payload.
    """

    def __init__(self, payload_bytes: int = DEFAULT_LIMITS.audio_bytes) -> None:
        self._payload_bytes = payload_bytes
        self._waiting = bytearray()
        self._head: dict[str, object] | None = None
        """The line of the event whose data and payload are not complete."""

    def feed(self, data: bytes) -> Iterator[Event]:
        """Yield the events that ``data`` completes.

        Raises:
            ProtocolError: the bytes are no event, or one beyond a limit.
        """
        self._waiting += data
        while (event := self._take()) is not None:
            yield event

    def _take(self) -> Event | None:
        if self._head is None:
            end = self._waiting.find(b"\n", 0, DEFAULT_LIMITS.message_bytes)
            if end < 0:
                if len(self._waiting) >= DEFAULT_LIMITS.message_bytes:
                    raise _too_big("the line of an event", DEFAULT_LIMITS.message_bytes)
                return None
            self._head = _object(bytes(self._waiting[:end]))
            del self._waiting[: end + 1]
        head = self._head
        data_bytes = _length(head, "data_length", DEFAULT_LIMITS.message_bytes)
        payload_bytes = _length(head, "payload_length", self._payload_bytes)
        if len(self._waiting) < data_bytes + payload_bytes:
            return None
        data = head.get("data") or {}
        if not isinstance(head.get("type"), str) or not isinstance(data, dict):
            raise ProtocolError("an event must have a type, which is a text, and data, which is an object")
        if data_bytes:
            data = {**data, **_object(bytes(self._waiting[:data_bytes]))}
        payload = bytes(self._waiting[data_bytes : data_bytes + payload_bytes])
        del self._waiting[: data_bytes + payload_bytes]
        self._head = None
        return Event(type=str(head["type"]), data=data, payload=payload)


def write_event(kind: str, data: Mapping[str, object] | None = None, payload: bytes = b"") -> bytes:
    """Return the bytes of an event of the type ``kind``."""
    head: dict[str, object] = {"type": kind}
    body = json.dumps(data).encode() if data else b""
    if body:
        head["data_length"] = len(body)
    if payload:
        head["payload_length"] = len(payload)
    return json.dumps(head).encode() + b"\n" + body + payload


def _object(data: bytes) -> dict[str, object]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise ProtocolError("expected a Wyoming event: a line with a JSON object")
    return value


def _length(head: Mapping[str, object], name: str, limit: int) -> int:
    value = head.get(name) or 0
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ProtocolError(f"{name} must be a number of bytes")
    if value > limit:
        raise _too_big(name, limit)
    return value


def _too_big(what: str, limit: int) -> ProtocolError:
    return ProtocolError(f"{what}: expected at most {limit} bytes", code="message_too_big")
