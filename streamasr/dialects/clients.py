"""Speak the live dialects from the client's side, for load tests: audio in, native messages out."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, ClassVar
from urllib.parse import urlencode

from streamasr.dialects.base import Frame
from streamasr.dialects.deepgram import NAME as DEEPGRAM
from streamasr.dialects.deepgram import PATH as DEEPGRAM_PATH
from streamasr.dialects.native import PATH as NATIVE_PATH
from streamasr.protocol.messages import Done, Error, Final, Partial, ServerMessage, Start, Stop
from streamasr.protocol.serialisation import encode, parse_server_message
from streamasr.units import MS_PER_SECOND


class LiveClient(ABC):
    """The client's side of one session.

    Args:
        start: the native session that the client wants: mono ``pcm_s16le`` with partials.
    """

    path: ClassVar[str]
    """The path of its websocket."""

    def __init__(self, start: Start) -> None:
        self._start = start

    def query(self) -> str:
        """Return the query of its address."""
        return ""

    def open(self) -> Iterable[Frame]:
        """Return the frames before the first audio."""
        return ()

    def audio(self, pcm: bytes) -> Frame:
        """Return the frame for a piece of audio."""
        return pcm

    @abstractmethod
    def stop(self) -> Frame:
        """Return the frame that ends the audio."""

    @abstractmethod
    def receive(self, frame: Frame) -> Iterable[ServerMessage]:
        """Return the native messages that a frame of the server stands for; ``done`` comes last.

        Raises:
            ProtocolError: it is not a message of the dialect.
        """


class NativeClient(LiveClient):
    """The native protocol."""

    path = NATIVE_PATH

    def open(self) -> Iterable[Frame]:
        """See :class:`LiveClient`."""
        return (encode(self._start),)

    def stop(self) -> Frame:
        """See :class:`LiveClient`."""
        return encode(Stop())

    def receive(self, frame: Frame) -> Iterable[ServerMessage]:
        """See :class:`LiveClient`."""
        return (parse_server_message(str(frame)),)


class DeepgramClient(LiveClient):
    """Deepgram's protocol."""

    path = DEEPGRAM_PATH

    def query(self) -> str:
        """See :class:`LiveClient`."""
        values = {"encoding": "linear16", "sample_rate": self._start.sample_rate, "interim_results": "true"}
        return urlencode(values)

    def stop(self) -> Frame:
        """See :class:`LiveClient`."""
        return json.dumps({"type": "CloseStream"})

    def receive(self, frame: Frame) -> Iterable[ServerMessage]:
        """See :class:`LiveClient`."""
        message: dict[str, Any] = json.loads(frame)
        match message["type"]:
            case "Results":
                best = message["channel"]["alternatives"][0]
                start_ms, end_ms = (
                    round(seconds * MS_PER_SECOND)
                    for seconds in (message["start"], message["start"] + message["duration"])
                )
                text = best["transcript"]
                if message["is_final"]:
                    yield Final(
                        utterance=0,
                        text=text,
                        confidence=best["confidence"],
                        start_ms=start_ms,
                        end_ms=end_ms,
                    )
                else:
                    yield Partial(utterance=0, committed="", tail=text, start_ms=start_ms, end_ms=end_ms)
            case "Metadata":
                yield Done(audio_ms=round(message["duration"] * MS_PER_SECOND))
            case "Error":
                yield Error(code=message["variant"], message=message["description"], fault="server")


CLIENTS: dict[str, type[LiveClient]] = {"native": NativeClient, DEEPGRAM: DeepgramClient}
"""The dialect's name to its client."""
