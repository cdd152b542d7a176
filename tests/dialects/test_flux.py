"""Test Deepgram's dialect for conversations, and the package ``deepgram-sdk`` with it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from deepgram import AsyncDeepgramClient
from deepgram.environment import DeepgramClientEnvironment

from streamasr.dialects.base import Incoming, RefusedError, Reply
from streamasr.dialects.conversation import Conversation
from streamasr.dialects.deepgram_flux import TRANSITIONS, FluxDialect, State
from streamasr.protocol.connection import Audio
from streamasr.protocol.messages import (
    Configure,
    Done,
    EndpointingSpec,
    Error,
    Finalize,
    Finalized,
    HotwordSpec,
    KeepAlive,
    Ready,
    ServerMessage,
    Start,
    Stop,
    UtteranceEnding,
)
from tests.dialects.test_deepgram import PCM, final, partial, request
from tests.service.conftest import Launch, launch

__all__ = ["launch"]
READY = Ready(session="s", sample_rate=16_000, latency_ms=640, model="en-small")


class Client:
    """A conversation, driven without a server."""

    def __init__(self, **query: str) -> None:
        self.conversation = Conversation(FluxDialect().open(request(**{**PCM, **query})))
        self.opened = list(self.conversation.opened())

    def sends(self, frame: bytes | str | dict[str, Any]) -> list[Incoming]:
        return list(self.conversation.receive(json.dumps(frame) if isinstance(frame, dict) else frame))

    def receives(self, *messages: ServerMessage | Reply) -> list[dict[str, Any]]:
        return [json.loads(frame) for message in messages for frame in self.conversation.send(message)]


def test_a_turn() -> None:
    client = Client()
    start, connected = client.opened
    assert start == Start()
    assert isinstance(connected, Reply)
    sent = client.receives(
        READY,
        connected,
        partial(0, "one"),
        partial(0, "one", "tow"),
        final(0, "one", "two"),
        final(1, "three"),
    )
    assert [message["sequence_id"] for message in sent] == list(range(6))
    assert sent[0] == {"type": "Connected", "request_id": "request", "sequence_id": 0}
    turns = [(m["event"], m["turn_index"], m["transcript"]) for m in sent[1:]]
    assert turns == [
        ("StartOfTurn", 0, "one"),
        ("Update", 0, "one tow"),
        ("EndOfTurn", 0, "one two"),
        ("StartOfTurn", 1, "three"),
        ("EndOfTurn", 1, "three"),
    ]
    assert (sent[3]["trigger"], sent[3]["end_of_turn_confidence"]) == ("model", 1.0)
    assert sent[3]["words"][1] == {"word": "two", "confidence": 0.5, "start": 0.5, "end": 0.9}


def ending(utterance: int, *words: str, probability: float = 0.6) -> UtteranceEnding:
    like = final(utterance, *words)
    return UtteranceEnding(
        utterance=utterance,
        probability=probability,
        text=like.text,
        start_ms=like.start_ms,
        end_ms=like.end_ms,
        words=like.words,
    )


def test_a_turn_that_seems_to_end_is_resumed_or_ends() -> None:
    client = Client(eager_eot_threshold="0.4", eot_timeout_ms="3000")
    start, _ = client.opened
    assert start == Start(ending_threshold=0.4, endpointing=EndpointingSpec(max_silence_ms=3_000))
    sent = client.receives(
        partial(0, "one"),
        ending(0, "one", "two", probability=0.45),
        partial(0, "one", "two three"),
        partial(0, "one two", "three"),
        ending(0, "one", "two", "three", probability=0.7),
        final(0, "one", "two", "three"),
        ending(1, "four"),
        final(1, "four"),
    )
    turns = [(m["event"], m["turn_index"], m["transcript"], m["end_of_turn_confidence"]) for m in sent]
    assert turns == [
        ("StartOfTurn", 0, "one", 0.0),
        ("EagerEndOfTurn", 0, "one two", 0.45),
        ("TurnResumed", 0, "one two three", 0.0),
        ("Update", 0, "one two three", 0.0),
        ("EagerEndOfTurn", 0, "one two three", 0.7),
        ("EndOfTurn", 0, "one two three", 1.0),
        ("StartOfTurn", 1, "four", 0.0),
        ("EagerEndOfTurn", 1, "four", 0.6),
        ("EndOfTurn", 1, "four", 1.0),
    ]
    assert ["trigger" in message for message in sent] == [m["event"] == "EndOfTurn" for m in sent]
    assert sent[1]["words"][1]["word"] == "two"


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("eager_eot_threshold", "0.2", "0.3 to 0.9"),
        ("eager_eot_threshold", "soon", "0.3 to 0.9"),
        ("eager_eot_threshold", "nan", "0.3 to 0.9"),
        ("eot_timeout_ms", "100", "500 to 10000"),
    ],
)
def test_unusable_thresholds_are_refused(name: str, value: str, allowed: str) -> None:
    with pytest.raises(RefusedError, match=f"{name} must be {allowed}, got '{value}'"):
        Client(**{name: value})


def test_a_forced_end_of_a_turn_is_marked() -> None:
    client = Client()
    assert client.sends({"type": "ForceEndTurn"}) == [Finalize()]
    *_, end = client.receives(final(0, "one"))
    assert (end["event"], end["trigger"]) == ("EndOfTurn", "manual")
    assert client.receives(Finalized()) == []
    *_, end = client.receives(final(1, "two"))
    assert end["trigger"] == "model"


def test_every_input_has_its_event_and_none_after_the_end() -> None:
    client = Client()
    assert client.sends(b"ab") == [Audio(b"ab")]
    assert client.sends({"type": "KeepAlive"}) == [KeepAlive()]
    configure, success = client.sends({"type": "Configure", "keyterms": ["x"]})
    assert configure == Configure(hotwords=(HotwordSpec(text="x"),))
    assert isinstance(success, Reply)
    assert client.receives(success)[0]["keyterms"] == ["x"]
    assert client.sends({"type": "CloseStream"}) == [Stop()]
    for frame in (b"ab", {"type": "KeepAlive"}, {"type": "ForceEndTurn"}, {"type": "CloseStream"}):
        assert client.sends(frame) == []
    assert client.receives(Done(audio_ms=1)) == []
    assert set(TRANSITIONS) == set(State)


@pytest.mark.parametrize(
    ("frame", "kind", "code"),
    [
        ("{", "Warning", "UNPARSABLE_CLIENT_MESSAGE"),
        ({"type": "Finalize"}, "Warning", "UNPARSABLE_CLIENT_MESSAGE"),
        ({"type": "Configure"}, "ConfigureFailure", "INVALID_CONFIGURE"),
        (
            {"type": "Configure", "thresholds": {"eot_threshold": 0.8}},
            "ConfigureFailure",
            "INVALID_CONFIGURE",
        ),
    ],
)
def test_what_is_not_understood_is_answered_and_the_conversation_goes_on(
    frame: str | dict[str, Any], kind: str, code: str
) -> None:
    client = Client()
    (reply,) = client.sends(frame)
    assert isinstance(reply, Reply)
    (answer,) = client.receives(reply)
    assert (answer["type"], answer["code"]) == (kind, code)
    assert client.sends(b"ab") == [Audio(b"ab")]


def test_errors_and_refusals() -> None:
    (error,) = Client().receives(Error(code="idle_timeout", message="m", fault="client"))
    assert (error["type"], error["code"], error["description"]) == ("Error", "IDLE_TIMEOUT", "m")
    with pytest.raises(RefusedError, match="add encoding and sample_rate"):
        FluxDialect().open(request())
    _, _, warning = Client(eot_threshold="0.8").opened
    assert isinstance(warning, Reply)
    assert "eot_threshold is not supported" in str(warning.frame)


async def test_the_sdk(launch: Launch) -> None:
    harness = await launch()
    http, ws = f"http://127.0.0.1:{harness.port}", f"ws://127.0.0.1:{harness.port}"
    environment = DeepgramClientEnvironment(base=http, production=ws, agent=ws, agent_rest=http)
    client = AsyncDeepgramClient(api_key="unused", environment=environment)
    async with client.listen.v2.connect(
        model="flux-general-en",
        encoding="linear16",
        sample_rate="16000",
        keyterm="Scheveningen",
        eager_eot_threshold="0.5",
        eot_threshold="0.7",
    ) as socket:
        connected: Any = await socket.recv()
        warning: Any = await socket.recv()
        assert (connected.type, warning.type, warning.code) == (
            "Connected",
            "Warning",
            "UNSUPPORTED_PARAMETER",
        )
        await socket.send_media(b"abcd")
        await socket.send_force_end_turn()
        (session,) = harness.engine.sessions
        assert session.start.hotwords == (HotwordSpec(text="Scheveningen"),)
        session.emit(partial(0, "one"))
        begins: Any = await socket.recv()
        assert (begins.event, begins.transcript) == ("StartOfTurn", "one")
        assert session.start.ending_threshold == 0.5
        session.emit(ending(0, "one", "two"))
        session.emit(partial(0, "one two", "th"))
        eager: Any = await socket.recv()
        assert (eager.event, eager.transcript, eager.end_of_turn_confidence) == (
            "EagerEndOfTurn",
            "one two",
            0.6,
        )
        resumed: Any = await socket.recv()
        assert (resumed.event, resumed.transcript) == ("TurnResumed", "one two th")
        session.last_words = (final(0, "one", "two"),)
        await socket.send_close_stream()
        ends: Any = await socket.recv()
        assert (ends.event, ends.transcript, ends.sequence_id) == ("EndOfTurn", "one two", 5)
        assert [message async for message in socket] == []
    assert session.audio == b"abcd"
