"""Test that a native conversation accepts messages in the order of the state table."""

import pytest

from streamasr.dialects.base import Frame, Incoming
from streamasr.dialects.conversation import Conversation
from streamasr.dialects.native import NativeTranslation
from streamasr.errors import ProtocolError
from streamasr.protocol.connection import Audio
from streamasr.protocol.limits import Limits
from streamasr.protocol.messages import Done, Error, KeepAlive, Start, Stop
from streamasr.protocol.states import CLIENT_INPUTS, TRANSITIONS, State, allowed_inputs, diagram

TEXTS = {
    "start": '{"type":"start"}',
    "finalize": '{"type":"finalize"}',
    "configure": '{"type":"configure","hotwords":[]}',
    "keepalive": '{"type":"keepalive"}',
    "stop": '{"type":"stop"}',
    "resume": '{"type":"resume","token":"t"}',
}
ERROR = Error(code="internal", message="m", fault="server")


class ServerConnection(Conversation):
    """A conversation in the native protocol, of which every frame is one event and every message one text."""

    def __init__(self, limits: Limits | None = None) -> None:
        limits = limits or Limits()
        super().__init__(NativeTranslation(limits), limits)

    def one(self, frame: Frame) -> Incoming | None:
        return next(iter(self.receive(frame)), None)


def connection_in(state: State) -> ServerConnection:
    connection = ServerConnection()
    if state is not State.AWAITING_START:
        connection.one(TEXTS["start"])
    if state is State.STOPPING:
        connection.one(TEXTS["stop"])
    if state is State.DRAINING:
        connection.drain()
    if state is State.CLOSED:
        connection.send(ERROR)
    assert connection.state is state
    return connection


def receive(connection: ServerConnection, name: str) -> object:
    return connection.one(b"\0\0") if name == "audio" else connection.one(TEXTS[name])


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("name", CLIENT_INPUTS)
def test_transitions_follow_the_table(state: State, name: str) -> None:
    connection = connection_in(state)
    if name in TRANSITIONS[state]:
        receive(connection, name)
        assert connection.state is TRANSITIONS[state][name]
    else:
        with pytest.raises(ProtocolError, match=f"the session is {state.value} and accepts") as caught:
            receive(connection, name)
        assert caught.value.code == "out_of_order"
        assert connection.state is state


@pytest.mark.parametrize(
    ("state", "name", "hint"),
    [
        (State.AWAITING_START, "audio", "audio came before start; .* accepts start, keepalive"),
        (State.STREAMING, "start", "the session has already started"),
        (State.STOPPING, "audio", "audio came after stop"),
        (State.CLOSED, "stop", "the session is closed and accepts nothing"),
    ],
)
def test_common_mistakes_have_clear_messages(state: State, name: str, hint: str) -> None:
    with pytest.raises(ProtocolError, match=hint):
        receive(connection_in(state), name)


def test_messages_become_events() -> None:
    connection = ServerConnection()
    assert connection.one(TEXTS["keepalive"]) == KeepAlive()
    assert connection.one(TEXTS["start"]) == Start()
    assert connection.one(b"ab") == Audio(b"ab")
    assert connection.one(TEXTS["stop"]) == Stop()
    assert list(connection.send(Done(audio_ms=7))) == ['{"type":"done","seq":0,"audio_ms":7}']
    assert connection.state is State.CLOSED


def test_a_draining_session_ignores_its_client() -> None:
    connection = connection_in(State.DRAINING)
    assert [receive(connection, name) for name in ("audio", "finalize", "stop")] == [None, None, None]
    connection.send(Done(audio_ms=0))
    assert connection.state is State.CLOSED


def test_a_long_binary_message_is_refused() -> None:
    connection = ServerConnection(Limits(audio_bytes=2_000))
    connection.one(TEXTS["start"])
    connection.one(bytes(2_000))
    with pytest.raises(ProtocolError, match="may have at most 2000 bytes, this one has 2001") as caught:
        connection.one(bytes(2_001))
    assert caught.value.code == "message_too_big"


def test_every_state_can_close() -> None:
    """``error`` closes the session in every state, and a closed session has no transitions."""
    for state, row in TRANSITIONS.items():
        assert state is State.CLOSED or row["error"] is State.CLOSED
    assert TRANSITIONS[State.CLOSED] == {}
    assert set(TRANSITIONS) == set(State)


def test_the_diagram_shows_every_transition() -> None:
    arrows = [line for line in diagram().splitlines() if "-->" in line]
    shown = {
        (source.strip(), target, name)
        for source, rest in (arrow.split(" --> ") for arrow in arrows)
        if ": " in rest
        for target, names in [rest.split(": ")]
        for name in names.split(", ")
    }
    table = {
        (state.value, target.value, name)
        for state, row in TRANSITIONS.items()
        for name, target in row.items()
    }
    assert shown == table


def test_allowed_inputs_are_client_inputs() -> None:
    assert allowed_inputs(State.STOPPING) == ("keepalive",)


@pytest.mark.parametrize(
    "sent",
    [
        b'{"eof":1}',
        b'{"eof" : 1}',
        b"EOF",
        b"Done",
        b'{"config": {"sample_rate": 16000}}',
        "EOF",
        "Done",
        '{"eof" : 1}',
        '{"config": {"sample_rate": 16000}}',
        '"EOS"',
        b'{"config": {"phrase_list": ["' + b"word " * 3_000 + b'"]}}',
        '{"' + "config" * 500 + '": 1}',
    ],
)
def test_requests_of_other_protocols_are_refused_with_the_right_ones(sent: str | bytes) -> None:
    connection = ServerConnection()
    connection.one('{"type":"start"}')
    with pytest.raises(ProtocolError) as caught:
        connection.one(sent)
    assert caught.value.code == "bad_message"
    assert '{"type":"start"}' in caught.value.message
    assert '{"type":"stop"}' in caught.value.message
    assert len(caught.value.message) <= 300


@pytest.mark.parametrize(
    "data", [b"{}}}", b"{\0}", b"{ab}", b'["eof"]', b'{"eof":1}' * 200, b'{"a":' * 50_000 + b"}", b""]
)
def test_audio_that_resembles_text_is_audio(data: bytes) -> None:
    connection = ServerConnection()
    connection.one('{"type":"start"}')
    assert connection.one(data) == Audio(data)
