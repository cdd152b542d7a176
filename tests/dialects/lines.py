"""An example to copy: a dialect in which a client sends PCM and reads the recognised utterances as lines of text.

The client connects to ``/v1/lines?rate=16000``, sends mono ``pcm_s16le`` in binary messages and ``end`` after the
last one. The text ``count`` asks how many lines there were.
"""

from __future__ import annotations

from collections.abc import Iterable

from streamasr.dialects.base import (
    Answer,
    Frame,
    Incoming,
    LiveDialect,
    Refusal,
    RefusedError,
    Reply,
    Request,
    Translation,
)
from streamasr.errors import ProtocolError
from streamasr.protocol.connection import Audio
from streamasr.protocol.messages import Error, Final, ServerMessage, Start, Stop


class LinesTranslation(Translation):
    """One connection. It opens its native session at once.

    Args:
        sample_rate: Hz of the audio.
    """

    def __init__(self, sample_rate: int) -> None:
        self._sample_rate = sample_rate
        self._lines = 0

    def opened(self) -> Iterable[Incoming]:
        return (Start(sample_rate=self._sample_rate, partials=False, words=False),)

    def receive(self, frame: Frame) -> Iterable[Incoming]:
        if isinstance(frame, bytes):
            return (Audio(frame),)
        if frame == "end":
            return (Stop(),)
        if frame == "count":
            return (Reply(f"{self._lines} lines"),)
        raise ProtocolError(f"expected audio, end or count, got {frame!r}")

    def send(self, message: ServerMessage) -> Iterable[Frame]:
        match message:
            case Final():
                self._lines += 1
                return (message.text,)
            case Error():
                return (f"error: {message.message}",)
            case _:
                return ()


class LinesDialect(LiveDialect):
    """The dialect as the server sees it."""

    name = "lines"
    paths = ("/v1/lines",)

    def open(self, request: Request) -> Translation:
        rate = request.value("rate", "16000")
        if not rate.isdecimal():
            raise RefusedError(f"rate must be a number of Hz, got {rate!r}", param="rate")
        return LinesTranslation(int(rate))

    def refuse(self, refusal: Refusal) -> Answer:
        return Answer(
            body=f"refused: {refusal.message}\n".encode(), content_type="text/plain", status=refusal.status
        )
