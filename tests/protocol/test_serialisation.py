"""Test that messages survive the way to JSON and back, and that invalid input gets a clear error."""

import dataclasses
import json
import typing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamasr.errors import ProtocolError
from streamasr.protocol import messages, serialisation
from streamasr.protocol.limits import DEFAULT_LIMITS, Limits
from streamasr.protocol.serialisation import encode, parse_client_message, parse_server_message

SERVER_EXAMPLES: list[messages.ServerMessage] = [
    messages.Ready(session="s", sample_rate=16_000, latency_ms=640, model="en-small"),
    messages.Resumed(session="s", audio_samples=16_000, requests=1),
    messages.SpeechStarted(at_ms=120),
    messages.Partial(utterance=0, committed="a", tail="b", start_ms=0, end_ms=640),
    messages.UtteranceEnding(utterance=1, probability=0.6, text="a b", start_ms=0, end_ms=640),
    messages.Final(
        utterance=1,
        text="naïve café",
        confidence=0.93,
        start_ms=0,
        end_ms=640,
        words=(messages.WordTiming(word="naïve", start_ms=0, end_ms=300, confidence=0.9),),
        alternatives=(messages.Alternative(text="native café", confidence=0.4),),
    ),
    messages.Finalized(id="7"),
    messages.Warning(code="backlog", message="late"),
    messages.Error(code="overloaded", message="full", fault="server", retry_after_ms=2_000),
    messages.Done(audio_ms=12_345),
]


@pytest.mark.parametrize("message", SERVER_EXAMPLES, ids=lambda message: message.type)
def test_server_messages_round_trip(message: messages.ServerMessage) -> None:
    assert parse_server_message(encode(message)) == message


def test_every_server_message_has_an_example() -> None:
    assert {type(message) for message in SERVER_EXAMPLES} == set(typing.get_args(messages.ServerMessage))


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=64).filter(str.strip)
hotwords = st.lists(
    st.builds(messages.HotwordSpec, text=texts, boost=st.none() | st.floats(-20, 20)), max_size=5
).map(tuple)
starts = st.builds(
    messages.Start,
    sample_rate=st.integers(8_000, 48_000),
    encoding=st.sampled_from(["pcm_s16le", "pcm_f32le", "mulaw", "alaw"]),
    channels=st.integers(1, 2),
    latency_ms=st.integers(20, 10_000),
    alternatives=st.integers(1, 10),
    hotwords=hotwords,
    endpointing=st.builds(messages.EndpointingSpec, silence_ms=st.none() | st.integers(100, 10_000))
    | st.builds(
        messages.EndpointingSpec,
        min_silence_ms=st.none() | st.integers(100, 10_000),
        max_silence_ms=st.none() | st.integers(100, 10_000),
    ),
    ending_threshold=st.none() | st.floats(0.1, 0.95),
    token=st.none() | texts,
)
client_messages = st.one_of(
    starts,
    st.builds(messages.Finalize, id=texts),
    st.builds(messages.Configure, hotwords=hotwords),
    st.just(messages.KeepAlive()),
    st.just(messages.Stop()),
    st.builds(messages.Resume, token=texts, seq=st.integers(0, 1 << 53)),
)


@given(client_messages)
def test_client_messages_round_trip(message: messages.ClientMessage) -> None:
    assert parse_client_message(encode(message)) == message


def test_fields_of_start_have_defaults() -> None:
    assert parse_client_message('{"type":"start"}') == messages.Start()


def test_none_is_not_sent() -> None:
    assert "retry_after_ms" not in encode(messages.Error(code="x", message="y", fault="client"))


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "not valid JSON"),
        ("{", "not valid JSON"),
        ("[" * 60_000, "not valid JSON"),
        ("[1]", "a message must be a JSON object"),
        ("{}", "'type' is missing or not a string"),
        ('{"type":3}', "'type' is missing or not a string"),
        ('{"type":"begin"}', "unknown message type 'begin'; known types are start, finalize"),
        ('{"type":"' + "open" * 200 + '"}', "type '(open)+ope…'; known types are start, .*, stop, resume"),
        ('{"type":"ready"}', "unknown message type 'ready'"),
        (
            '{"type":"start","sampel_rate":8000}',
            "start.sampel_rate: unknown field; known fields are sample_rate",
        ),
        ('{"type":"start","sample_rate":"16000"}', "start.sample_rate: expected int, got str"),
        ('{"type":"start","sample_rate":16000.5}', "sample_rate: expected int, got float"),
        ('{"type":"start","partials":1}', "partials: expected bool, got int"),
        ('{"type":"start","sample_rate":7999}', "start.sample_rate: expected 8000 to 48000, got 7999"),
        ('{"type":"start","channels":3}', "start.channels: expected 1 to 2, got 3"),
        ('{"type":"start","channels":true}', "channels: expected int, got bool"),
        (
            '{"type":"start","encoding":"opus"}',
            "start.encoding: expected one of pcm_s16le, pcm_f32le, mulaw, alaw",
        ),
        ('{"type":"start","latency_ms":0}', "start.latency_ms: expected 20 to 10000, got 0"),
        ('{"type":"start","alternatives":0}', "start.alternatives: expected 1 to 10, got 0"),
        ('{"type":"start","hotwords":[{"text":"a","boots":1}]}', r"hotwords\[0\].boots: unknown field"),
        ('{"type":"start","hotwords":[{"boost":1}]}', r"hotwords\[0\].text: missing"),
        ('{"type":"start","hotwords":[{"text":" "}]}', r"start.hotwords\[0\].text: must not be empty"),
        ('{"type":"start","hotwords":[{"text":"a","boost":21}]}', r"hotwords\[0\].boost: expected -20 to 20"),
        ('{"type":"start","hotwords":[{"text":"a","boost":NaN}]}', "NaN is not a JSON number"),
        ('{"type":"start","hotwords":[{"text":"a","boost":1e999}]}', r"boost: expected -20 to 20, got inf"),
        ('{"type":"start","hotwords":[{"text":"a","boost":1' + "0" * 400 + "}]}", "a number is too large"),
        ('{"type":"start","sample_rate":1' + "0" * 5000 + "}", "not valid JSON"),
        ('{"type":"start","hotwords":[{"text":"\\ud800"}]}', "half of a surrogate pair"),
        ('{"type":"start","endpointing":{"silence_ms":5}}', "endpointing.silence_ms: expected 100 to 10000"),
        (
            '{"type":"start","endpointing":{"silence_ms":500,"min_silence_ms":200}}',
            "start.endpointing: expected silence_ms, or min_silence_ms and max_silence_ms, got both",
        ),
        (
            '{"type":"start","endpointing":{"max_silence_ms":5}}',
            "max_silence_ms: expected 100 to 10000, got 5",
        ),
        ('{"type":"start","ending_threshold":1}', "start.ending_threshold: expected 0.1 to 0.95, got 1"),
        (
            '{"type":"start","ending_threshold":0.5,"partials":false}',
            "start.ending_threshold: expected with partials only",
        ),
        ('{"type":"start","endpointing":7}', "endpointing: expected names with values, got int"),
        ('{"type":"start","type":"stop"}', "the field .type. appears twice"),
        ('{"type":"configure"}', "configure.hotwords: missing"),
        ('{"type":"configure","hotwords":"a"}', "hotwords: expected a list, got str"),
        ('{"type":"resume","seq":3}', "resume.token: missing"),
        ('{"type":"resume","token":"t","seq":-1}', "resume.seq: expected 0 or more, got -1"),
        ('{"type":"stop","now":true}', "stop.now: unknown field"),
        ('{"type":"finalize","id":7}', "finalize.id: expected str, got int"),
    ],
)
def test_invalid_input_gets_a_clear_error(text: str, error: str) -> None:
    with pytest.raises(ProtocolError, match=error) as caught:
        parse_client_message(text)
    assert (caught.value.code, caught.value.fault) == ("bad_message", "client")
    assert len(caught.value.message) <= 300
    json.dumps(caught.value.message).encode()


@pytest.mark.parametrize("count", [1, 400])
def test_objects_within_objects_are_refused(count: int) -> None:
    text = '{"type":"start","hotwords":' + '{"a":' * count + "1" + "}" * count + "}"
    with pytest.raises(ProtocolError, match="hotwords: expected a list, got dict"):
        parse_client_message(text)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=200))
def test_garbage_raises_protocol_error_only(text: str) -> None:
    with pytest.raises(ProtocolError):
        parse_client_message(text)


@pytest.mark.parametrize(
    ("message", "error"),
    [
        (messages.Start(token="x" * 513), "start.token: expected at most 512 characters, got 513"),
        (messages.Finalize(id="x" * 129), "finalize.id: expected at most 128 characters"),
        (
            messages.Configure(hotwords=(messages.HotwordSpec(text="x" * 65),)),
            r"configure.hotwords\[0\].text: expected at most 64 characters",
        ),
        (
            messages.Configure(hotwords=(messages.HotwordSpec(text="x"),) * 257),
            "configure.hotwords: expected at most 256, got 257",
        ),
    ],
)
def test_texts_and_lists_have_limits(message: messages.ClientMessage, error: str) -> None:
    with pytest.raises(ProtocolError, match=error):
        parse_client_message(encode(message))


def test_a_long_message_is_refused_before_parsing() -> None:
    with pytest.raises(ProtocolError, match="may have at most 65536 bytes, this one has 65537") as caught:
        parse_client_message("é" + "x" * (DEFAULT_LIMITS.message_bytes - 1))
    assert caught.value.code == "message_too_big"


def test_limits_are_configurable() -> None:
    with pytest.raises(ProtocolError, match="expected at most 1 characters"):
        parse_client_message('{"type":"finalize","id":"ab"}', Limits(finalize_id_chars=1))


def test_unknown_fields_of_a_server_are_ignored() -> None:
    text = (
        '{"type":"final","utterance":0,"text":"a","confidence":1,"start_ms":0,"end_ms":1,"mood":"calm",'
        '"words":[{"word":"a","start_ms":0,"end_ms":1,"confidence":1,"pitch":[1]}]}'
    )
    message = parse_server_message(text)
    assert isinstance(message, messages.Final)
    assert message.words == (messages.WordTiming(word="a", start_ms=0, end_ms=1, confidence=1.0),)


def test_an_invalid_server_message_is_the_servers_fault() -> None:
    with pytest.raises(ProtocolError, match=r"done\.audio_ms: missing") as caught:
        parse_server_message('{"type":"done"}')
    assert caught.value.fault == "server"


def test_every_message_class_is_registered() -> None:
    declared = {
        cls.type: cls
        for cls in vars(messages).values()
        if dataclasses.is_dataclass(cls) and hasattr(cls, "type")
    }
    assert declared == serialisation.CLIENT_MESSAGES | serialisation.SERVER_MESSAGES
