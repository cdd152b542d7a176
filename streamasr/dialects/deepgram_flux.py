"""Speak Deepgram's protocol for conversations (Flux): a websocket at ``/v2/listen`` that reports turns.

Reference: https://developers.deepgram.com/reference/speech-to-text/listen-flux. A turn is an utterance.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Iterable, Mapping, Sequence

from streamasr.dialects.base import (
    Answer,
    Frame,
    Incoming,
    LiveDialect,
    Refusal,
    RefusedError,
    Reply,
    Request,
    StatefulTranslation,
    Translation,
)
from streamasr.dialects.deepgram import (
    NAME,
    Options,
    json_bytes,
    keyterms,
    read_message,
    read_options,
    refuse,
    seconds,
    warning_headers,
)
from streamasr.protocol.connection import Audio
from streamasr.protocol.messages import (
    Configure,
    Done,
    Error,
    Final,
    Finalize,
    Finalized,
    KeepAlive,
    Partial,
    ServerMessage,
    Stop,
    UtteranceEnding,
    Warning,
    WordTiming,
)
from streamasr.text import join_words

PATH = "/v2/listen"


class State(enum.Enum):
    """The states of a connection."""

    STREAMING = "streaming"
    CLOSING = "closing"
    """The client has ended the audio; the last turn follows."""


TRANSITIONS: dict[State, dict[str, State]] = {
    State.STREAMING: {
        "audio": State.STREAMING,
        "KeepAlive": State.STREAMING,
        "ForceEndTurn": State.STREAMING,
        "Configure": State.STREAMING,
        "CloseStream": State.CLOSING,
    },
    State.CLOSING: {},
}
"""State → input → next state. Other inputs are ignored."""

_REQUESTS = ("CloseStream", "Configure", "ForceEndTurn", "KeepAlive")


class FluxTranslation(StatefulTranslation[State]):
    """One conversation.

    Args:
        request: the handshake.
        options: its query.
    """

    def __init__(self, request: Request, options: Options) -> None:
        super().__init__(TRANSITIONS, State.STREAMING)
        self.headers = {"dg-request-id": request.id, **warning_headers(options.warnings)}
        self._request = request
        self._options = options
        self._sequence = 0
        self._turn = 0
        self._turn_started = False
        self._eager = False
        """Whether ``EagerEndOfTurn`` was sent, and neither ``TurnResumed`` nor ``EndOfTurn`` since."""
        self._window_start_ms = 0
        self._forced = 0
        """Requests to end a turn that are not answered yet."""

    def opened(self) -> Iterable[Incoming]:
        """Open the session at once, and name what has no effect."""
        yield self._options.start
        yield _reply({"type": "Connected"})
        for warning in self._options.warnings:
            values = {"type": "Warning", "code": warning.type.upper(), "description": warning.message}
            yield _reply(values)

    def receive(self, frame: Frame) -> Iterable[Incoming]:
        """See :class:`~streamasr.dialects.base.Translation`."""
        if isinstance(frame, bytes):
            if frame and self._advance("audio"):
                yield Audio(frame)
            return
        message = read_message(frame, _REQUESTS)
        if message is None:
            text = f"expected a message with a type of {', '.join(_REQUESTS)}"
            yield _reply({"type": "Warning", "code": "UNPARSABLE_CLIENT_MESSAGE", "description": text})
            return
        name = message["type"]
        if not self._advance(name):
            return
        match name:
            case "KeepAlive":
                yield KeepAlive()
            case "ForceEndTurn":
                self._forced += 1
                yield Finalize()
            case "Configure":
                yield from self._configure(message)
            case "CloseStream":
                yield Stop()

    def reply(self, reply: Reply) -> Frame:
        """Number a reply when it is sent, so that the numbers have the order of the messages."""
        return self._numbered(json.loads(reply.frame))

    def send(self, message: ServerMessage) -> Iterable[Frame]:
        """See :class:`~streamasr.dialects.base.Translation`."""
        match message:
            case Partial():
                event = "TurnResumed" if self._eager else "Update" if self._turn_started else "StartOfTurn"
                self._turn_started, self._eager = True, False
                text = join_words([part for part in (message.committed, message.tail) if part])
                yield self._turn_info(event, text, message.words, message.end_ms)
            case UtteranceEnding():
                yield from self._start_turn(message)
                self._eager = True
                yield self._turn_info(
                    "EagerEndOfTurn", message.text, message.words, message.end_ms, message.probability
                )
            case Final() if message.text:
                yield from self._start_turn(message)
                yield self._turn_info("EndOfTurn", message.text, message.words, message.end_ms, 1.0)
                self._turn += 1
                self._turn_started = self._eager = False
                self._window_start_ms = message.end_ms
            case Finalized():
                self._forced -= 1
            case Warning():
                values = {"type": "Warning", "code": message.code.upper(), "description": message.message}
                yield self._numbered(values)
            case Error():
                values = {"type": "Error", "code": message.code.upper(), "description": message.message}
                yield self._numbered(values)
            case Done():
                return

    def _configure(self, message: Mapping[str, object]) -> Iterable[Incoming]:
        terms = keyterms(message.get("keyterms"))
        if terms is None or message.get("thresholds"):
            text = "only keyterms can be changed: a list of texts"
            yield _reply({"type": "ConfigureFailure", "code": "INVALID_CONFIGURE", "description": text})
            return
        yield Configure(hotwords=terms)
        values = {"type": "ConfigureSuccess", "thresholds": {}, "keyterms": [term.text for term in terms]}
        yield _reply(values)

    def _start_turn(self, message: UtteranceEnding | Final) -> Iterable[Frame]:
        if not self._turn_started:
            yield self._turn_info("StartOfTurn", message.text, message.words, message.end_ms)
        self._turn_started = True

    def _turn_info(
        self, event: str, text: str, words: Sequence[WordTiming], end_ms: int, confidence: float = 0.0
    ) -> Frame:
        values: dict[str, object] = {
            "type": "TurnInfo",
            "event": event,
            "turn_index": self._turn,
            "audio_window_start": seconds(self._window_start_ms),
            "audio_window_end": seconds(max(end_ms, self._window_start_ms)),
            "transcript": text,
            "words": [
                {
                    "word": word.word,
                    "confidence": word.confidence,
                    "start": seconds(word.start_ms),
                    "end": seconds(word.end_ms),
                }
                for word in words
            ],
            "end_of_turn_confidence": confidence,
        }
        if event == "EndOfTurn":
            values["trigger"] = "manual" if self._forced else "model"
        return self._numbered(values)

    def _numbered(self, values: Mapping[str, object]) -> Frame:
        number, self._sequence = self._sequence, self._sequence + 1
        numbers = {"request_id": self._request.id, "sequence_id": number}
        return json_bytes({**values, **numbers}).decode()


class FluxDialect(LiveDialect):
    """``/v2/listen`` over a websocket."""

    name = NAME + "-flux"
    paths = (PATH,)
    subprotocols = ("token", "bearer")

    def open(self, request: Request) -> Translation:
        """See :class:`~streamasr.dialects.base.LiveDialect`."""
        options = read_options(request, "turns")
        if not options.encoded:
            raise RefusedError("add encoding and sample_rate to the address", param="encoding")
        return FluxTranslation(request, options)

    def refuse(self, refusal: Refusal) -> Answer:
        """See :class:`~streamasr.dialects.base.Dialect`."""
        return refuse(refusal)


def _reply(values: Mapping[str, object]) -> Reply:
    return Reply(json_bytes(values).decode())
