"""Speak the native protocol itself, as the first dialect."""

from __future__ import annotations

from collections.abc import Iterable

from streamasr.dialects.base import Frame, Incoming, Translation
from streamasr.protocol.connection import Audio
from streamasr.protocol.limits import Limits
from streamasr.protocol.messages import Resumed, ServerMessage
from streamasr.protocol.serialisation import encode, parse_client_message, refuse_text_as_audio

PATH = "/v1/stream"
"""The path of its websocket."""


class NativeTranslation(Translation):
    """JSON as ``docs/protocol.md`` describes it.

    Args:
        limits: the limits of a text message.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._seq = 0

    def receive(self, frame: Frame) -> Iterable[Incoming]:
        """Parse one message."""
        if isinstance(frame, str):
            return (parse_client_message(frame, self._limits),)
        refuse_text_as_audio(frame)
        return (Audio(frame),)

    def continue_from(self, seq: int) -> None:
        """See :class:`~streamasr.dialects.base.Translation`."""
        self._seq = seq

    def send(self, message: ServerMessage) -> Iterable[Frame]:
        """Return one JSON text. All messages but ``resumed`` are numbered, from 0 on."""
        if isinstance(message, Resumed):
            return (encode(message),)
        seq, self._seq = self._seq, self._seq + 1
        return (encode(message, seq),)
