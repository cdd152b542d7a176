"""Speak the live dialects from the client's side, for load tests: audio in, native messages out."""

from __future__ import annotations

import base64
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, ClassVar
from urllib.parse import urlencode

from streamasr.dialects.base import Frame
from streamasr.dialects.deepgram import NAME as DEEPGRAM
from streamasr.dialects.deepgram import PATH as DEEPGRAM_PATH
from streamasr.dialects.native import PATH as NATIVE_PATH
from streamasr.dialects.openai_realtime import NAME as REALTIME
from streamasr.dialects.openai_realtime import PATH as REALTIME_PATH
from streamasr.dialects.vosk import NAME as VOSK
from streamasr.dialects.vosk import PATH as VOSK_PATH
from streamasr.dialects.wyoming import NAME as WYOMING
from streamasr.dialects.wyoming_events import EventReader, write_event
from streamasr.protocol.messages import Done, Error, Final, Partial, ServerMessage, Start, Stop
from streamasr.protocol.serialisation import encode, parse_server_message
from streamasr.units import MS_PER_SECOND

_SAMPLE_BYTES = 2


class LiveClient(ABC):
    """The client's side of one session.

    Args:
        start: the native session that the client wants: mono ``pcm_s16le`` with partials.
    """

    path: ClassVar[str]
    """The path of its websocket; empty for a TCP connection of its own."""

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


class VoskClient(LiveClient):
    """The protocol of vosk-server."""

    path = VOSK_PATH

    def __init__(self, start: Start) -> None:
        super().__init__(start)
        self._audio_bytes = 0
        self._unanswered = 0
        """Messages of audio and ``eof`` that have no reply yet."""
        self._stopped = False
        self._partial = ""

    def open(self) -> Iterable[Frame]:
        """See :class:`LiveClient`."""
        return (json.dumps({"config": {"sample_rate": self._start.sample_rate, "words": True}}),)

    def audio(self, pcm: bytes) -> Frame:
        """See :class:`LiveClient`."""
        self._audio_bytes += len(pcm)
        self._unanswered += 1
        return pcm

    def stop(self) -> Frame:
        """See :class:`LiveClient`."""
        self._stopped = True
        self._unanswered += 1
        return json.dumps({"eof": 1})

    def receive(self, frame: Frame) -> Iterable[ServerMessage]:
        """See :class:`LiveClient`. A partial that repeats the one before stands for nothing."""
        message: dict[str, Any] = json.loads(frame)
        self._unanswered -= 1
        if "error" in message:
            yield Error(code=message["code"], message=message["error"], fault="server")
        elif message.get("text"):
            start_ms, end_ms = _span_ms(message["result"])
            yield Final(utterance=0, text=message["text"], confidence=1.0, start_ms=start_ms, end_ms=end_ms)
        elif message.get("partial", "") not in ("", self._partial):
            start_ms, end_ms = _span_ms(message["partial_result"])
            yield Partial(
                utterance=0, committed="", tail=message["partial"], start_ms=start_ms, end_ms=end_ms
            )
        self._partial = message.get("partial", "")
        if self._stopped and not self._unanswered:
            yield Done(audio_ms=_pcm_ms(self._audio_bytes, self._start))


class RealtimeClient(LiveClient):
    """OpenAI's Realtime protocol, with one turn that the client ends. Deltas have no times and are left out."""

    path = REALTIME_PATH

    def __init__(self, start: Start) -> None:
        super().__init__(start)
        self._audio_bytes = 0

    def open(self) -> Iterable[Frame]:
        """See :class:`LiveClient`."""
        audio = {"format": {"type": "audio/pcm", "rate": self._start.sample_rate}, "turn_detection": None}
        session = {"type": "transcription", "audio": {"input": audio}}
        return (json.dumps({"type": "session.update", "session": session}),)

    def audio(self, pcm: bytes) -> Frame:
        """See :class:`LiveClient`."""
        self._audio_bytes += len(pcm)
        return json.dumps({"type": "input_audio_buffer.append", "audio": base64.b64encode(pcm).decode()})

    def stop(self) -> Frame:
        """See :class:`LiveClient`."""
        return json.dumps({"type": "input_audio_buffer.commit"})

    def receive(self, frame: Frame) -> Iterable[ServerMessage]:
        """See :class:`LiveClient`."""
        message: dict[str, Any] = json.loads(frame)
        match message["type"]:
            case "conversation.item.input_audio_transcription.completed":
                audio_ms = _pcm_ms(self._audio_bytes, self._start)
                text = message["transcript"]
                yield Final(utterance=0, text=text, confidence=1.0, start_ms=0, end_ms=audio_ms)
                yield Done(audio_ms=audio_ms)
            case "error":
                about = message["error"]
                yield Error(code=about["code"], message=about["message"], fault="server")


class WyomingClient(LiveClient):
    """The Wyoming protocol. Pieces of the transcript have no times and are left out."""

    path = ""

    def __init__(self, start: Start) -> None:
        super().__init__(start)
        self._audio_bytes = 0
        self._events = EventReader()
        self._format = {"rate": start.sample_rate, "width": _SAMPLE_BYTES, "channels": 1}

    def open(self) -> Iterable[Frame]:
        """See :class:`LiveClient`."""
        return (write_event("transcribe"), write_event("audio-start", self._format))

    def audio(self, pcm: bytes) -> Frame:
        """See :class:`LiveClient`."""
        self._audio_bytes += len(pcm)
        return write_event("audio-chunk", self._format, pcm)

    def stop(self) -> Frame:
        """See :class:`LiveClient`."""
        return write_event("audio-stop")

    def receive(self, frame: Frame) -> Iterable[ServerMessage]:
        """See :class:`LiveClient`. Frames are the bytes of the stream, cut anywhere."""
        assert isinstance(frame, bytes), "a TCP connection has no text messages"
        audio_ms = _pcm_ms(self._audio_bytes, self._start)
        for event in self._events.feed(frame):
            match event.type:
                case "transcript":
                    text = str(event.data["text"])
                    yield Final(utterance=0, text=text, confidence=1.0, start_ms=0, end_ms=audio_ms)
                case "transcript-stop":
                    yield Done(audio_ms=audio_ms)
                case "error":
                    yield Error(code=str(event.data["code"]), message=str(event.data["text"]), fault="server")


def _span_ms(words: list[dict[str, Any]]) -> tuple[int, int]:
    """Where the words of a result begin and end; all of it unknown without words."""
    if not words:
        return 0, 0
    return round(words[0]["start"] * MS_PER_SECOND), round(words[-1]["end"] * MS_PER_SECOND)


def _pcm_ms(size: int, start: Start) -> int:
    return size // _SAMPLE_BYTES * MS_PER_SECOND // start.sample_rate


CLIENTS: dict[str, type[LiveClient]] = {
    "native": NativeClient,
    DEEPGRAM: DeepgramClient,
    VOSK: VoskClient,
    REALTIME: RealtimeClient,
    WYOMING: WyomingClient,
}
"""The dialect's name to its client."""
