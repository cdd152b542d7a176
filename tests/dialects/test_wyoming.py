"""Test Wyoming: events in the bytes of a stream, and the package ``wyoming`` as Home Assistant uses it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from urllib.parse import urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wyoming.asr import Transcribe, Transcript, TranscriptChunk, TranscriptStart, TranscriptStop
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncClient
from wyoming.error import Error as WyomingError
from wyoming.event import Event as WyomingEvent
from wyoming.info import Describe, Info
from wyoming.ping import Ping, Pong

from streamasr.dialects.base import Incoming, Reply
from streamasr.dialects.conversation import Conversation
from streamasr.dialects.wyoming import TRANSITIONS, State, WyomingTranslation
from streamasr.dialects.wyoming_events import Event, EventReader, write_event
from streamasr.errors import ConfigError, ProtocolError, StreamasrError
from streamasr.protocol.connection import Audio
from streamasr.protocol.messages import Done, Error, Final, Partial, ServerMessage, Start, Stop
from streamasr.protocol.model_info import ModelInfo
from streamasr.service.config import ServerConfig
from streamasr.service.listeners import open_dialect_listeners
from tests.dialects.test_equivalence import native
from tests.integration.conftest import Daemon
from tests.integration.streams import voice
from tests.service.conftest import Harness, Launch, launch
from tests.service.fake import FakeEngine

__all__ = ["launch"]
FORMAT = {"rate": 16_000, "width": 2, "channels": 1}
MODEL = ModelInfo(name="en-small", language="en")


def sends(client: WyomingTranslation, kind: str, data: object = None, payload: bytes = b"") -> list[Incoming]:
    return list(client.receive(write_event(kind, data, payload)))  # type: ignore[arg-type]


def events(client: WyomingTranslation, *messages: ServerMessage) -> list[tuple[str, object]]:
    sent = b"".join(bytes(frame) for m in messages for frame in client.send(m))  # type: ignore[arg-type]
    return [(event.type, event.data) for event in EventReader().feed(sent)]


def partial(committed: str, tail: str = "") -> Partial:
    return Partial(utterance=0, committed=committed, tail=tail, start_ms=0, end_ms=1)


def final(text: str) -> Final:
    return Final(utterance=0, text=text, confidence=1.0, start_ms=0, end_ms=1)


some_events = st.builds(
    Event,
    type=st.text(max_size=10),
    data=st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=3),
    payload=st.binary(max_size=50),
)


@given(st.lists(some_events, max_size=5), st.data())
def test_events_are_the_same_however_the_stream_is_cut(written: list[Event], data: st.DataObject) -> None:
    stream = b"".join(write_event(event.type, event.data, event.payload) for event in written)
    reader, at = EventReader(), 0
    read: list[Event] = []
    while at < len(stream):
        size = data.draw(st.integers(1, 40))
        read += reader.feed(stream[at : at + size])
        at += size
    assert read == written


@pytest.mark.parametrize(
    ("stream", "words"),
    [
        (b"GET / HTTP/1.1\r\n", "expected a Wyoming event: a line with a JSON object"),
        (b"[]\n", "expected a Wyoming event"),
        (b"\xff\n", "expected a Wyoming event"),
        (b"[" * 3_000 + b"\n", "expected a Wyoming event"),
        (b"{}\n", "an event must have a type"),
        (b'{"type": 1}\n', "an event must have a type"),
        (b'{"type": "x", "data": 1}\n', "an event must have a type"),
        (b'{"type": "x", "data_length": 2}\n[]', "expected a Wyoming event"),
        (b'{"type": "x", "data_length": -1}\n', "data_length must be a number of bytes"),
        (b'{"type": "x", "payload_length": "1"}\n', "payload_length must be a number of bytes"),
        (b'{"type": "x", "payload_length": 9999999}\n', "payload_length: expected at most 1048576 bytes"),
        (b"x" * 70_000, "the line of an event: expected at most 65536 bytes"),
    ],
)
def test_what_is_no_event_is_explained(stream: bytes, words: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        list(EventReader().feed(stream))
    assert words in caught.value.message


def test_audio_start_opens_the_session() -> None:
    client = WyomingTranslation(MODEL)
    names = {"language": "en-US", "transcript_names": ["Marvin"], "transcript_terms": ["kitchen light"]}
    assert sends(client, "transcribe", names) == []
    (start,) = sends(client, "audio-start", {**FORMAT, "rate": 22_050})
    assert isinstance(start, Start)
    assert (start.sample_rate, start.channels) == (22_050, 1)
    assert [spec.text for spec in start.hotwords] == ["Marvin", "kitchen light"]
    assert sends(client, "audio-chunk", {**FORMAT, "rate": 22_050}, b"ab") == [Audio(b"ab")]
    assert sends(client, "audio-stop") == [Stop()]


def test_a_chunk_without_audio_start_opens_the_session() -> None:
    assert sends(WyomingTranslation(MODEL), "audio-chunk", FORMAT, b"ab") == [
        Start(words=False),
        Audio(b"ab"),
    ]


@pytest.mark.parametrize(
    ("kind", "data", "words"),
    [
        ("audio-start", {}, "audio must state its rate, width, channels, as whole numbers"),
        ("audio-start", {**FORMAT, "width": 4}, "audio must have a width of 2 bytes (16-bit PCM), got 4"),
        ("transcribe", {"language": "de"}, "transcribe: the model 'en-small' recognises 'en', not 'de'"),
        ("transcribe", {"name": "whisper"}, "transcribe: there is no model 'whisper', only 'en-small'"),
        ("transcribe", {"transcript_names": "Marvin"}, "transcript_names must be a list of texts"),
    ],
)
def test_unusable_values_are_explained(kind: str, data: object, words: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        sends(WyomingTranslation(MODEL), kind, data)
    assert words in caught.value.message


def test_the_format_may_not_change() -> None:
    client = WyomingTranslation(MODEL)
    sends(client, "audio-start", FORMAT)
    assert sends(client, "audio-start", FORMAT) == []
    with pytest.raises(ProtocolError, match="audio-chunk: the audio's format changed"):
        sends(client, "audio-chunk", {**FORMAT, "rate": 8_000}, b"ab")


def test_the_transcript_is_sent_in_pieces_and_whole() -> None:
    client = WyomingTranslation(MODEL)
    messages = (partial("", "a"), partial("a", "b"), final("a b"), partial("c"), final("c d"), final(""))
    assert events(client, *messages, Done(audio_ms=1)) == [
        ("transcript-start", {"language": "en"}),
        ("transcript-chunk", {"text": "a"}),
        ("transcript-chunk", {"text": " b"}),
        ("transcript-chunk", {"text": " c"}),
        ("transcript-chunk", {"text": " d"}),
        ("transcript", {"text": "a b c d", "language": "en"}),
        ("transcript-stop", {}),
    ]


def test_an_empty_transcript() -> None:
    kinds = [kind for kind, _ in events(WyomingTranslation(MODEL), Done(audio_ms=0))]
    assert kinds == ["transcript-start", "transcript", "transcript-stop"]


def test_errors_are_events() -> None:
    error = Error(code="overloaded", message="no room", fault="server")
    assert events(WyomingTranslation(MODEL), error) == [("error", {"text": "no room", "code": "overloaded"})]


def test_the_state_table_names_every_input() -> None:
    for state, row in TRANSITIONS.items():
        for kind in (
            "describe",
            "ping",
            "transcribe",
            "audio-start",
            "audio-chunk",
            "audio-stop",
            "synthesize",
        ):
            client = WyomingTranslation(MODEL)
            client._state, client._start = state, Start(words=False)
            sends(client, kind, FORMAT)
            assert client._state is row.get(kind, state)
    assert set(TRANSITIONS) == set(State)


async def ask(url: str, *written: WyomingEvent) -> list[WyomingEvent]:
    """Send events and return all answers until the server closes."""
    async with AsyncClient.from_uri(url) as client:
        for event in written:
            await client.write_event(event)
        answers = []
        while (answer := await client.read_event()) is not None:
            answers.append(answer)
        return answers


async def test_a_voice_command_as_home_assistant_sends_it(daemon: Daemon) -> None:
    url = daemon.dialect_urls["wyoming"]
    async with AsyncClient.from_uri(url) as client:
        await client.write_event(Describe().event())
        event = await client.read_event()
        assert event is not None
        info = Info.from_event(event)
        (program,) = info.asr
        (model,) = program.models
        assert program.installed
        assert model.installed
        assert model.languages == ["en"]
        assert program.supports_transcript_streaming
        assert program.requires_external_vad
    pcm = voice(7, 3.0)
    async with AsyncClient.from_uri(url) as client:
        await client.write_event(Transcribe(language="en").event())
        await client.write_event(AudioStart(rate=16_000, width=2, channels=1).event())
        for at in range(0, len(pcm), 2_048):
            piece = AudioChunk(rate=16_000, width=2, channels=1, audio=pcm[at : at + 2_048])
            await client.write_event(piece.event())
        await client.write_event(AudioStop().event())
        parts, kinds = [], []
        while True:
            event = await client.read_event()
            assert event is not None, "the connection was lost"
            kinds.append(event.type)
            if TranscriptChunk.is_type(event.type):
                parts.append(TranscriptChunk.from_event(event).text)
            if Transcript.is_type(event.type):
                text = Transcript.from_event(event).text
                break
    assert TranscriptStart.is_type(kinds[0])
    assert text == "".join(parts) == (await native(daemon, pcm, 3_200)).text
    assert text


async def test_ping_and_unknown_events(launch: Launch) -> None:
    harness = await launch(wyoming_port=0)
    answers = await ask(
        harness.server.dialect_urls["wyoming"],
        Ping(text="x").event(),
        WyomingEvent("select-program", {"name": "streamasr"}),
        AudioStop().event(),
    )
    assert Pong.from_event(answers[0]).text == "x"
    assert [answer.type for answer in answers[1:]] == ["transcript-start", "transcript", "transcript-stop"]
    assert TranscriptStop.is_type(answers[-1].type)
    text = harness.server.metrics.exposition().decode()
    assert 'streamasr_dialect_sessions_total{dialect="wyoming"} 1.0' in text


async def test_an_error_comes_after_the_text_and_then_the_connection_closes(launch: Launch) -> None:
    engine = FakeEngine()
    engine.last_words = (final("heard"),)
    harness = await launch(engine, wyoming_port=0)
    answers = await ask(
        harness.server.dialect_urls["wyoming"],
        AudioStart(rate=16_000, width=2, channels=1).event(),
        AudioStart(rate=8_000, width=2, channels=1).event(),
    )
    assert [answer.type for answer in answers] == ["transcript-start", "transcript-chunk", "error"]
    assert "format changed" in WyomingError.from_event(answers[-1]).text


async def test_other_protocols_get_an_error(launch: Launch) -> None:
    harness = await launch(wyoming_port=0)
    assert await raw(harness, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n") == "bad_message"


async def raw(harness: Harness, data: bytes) -> str:
    """Send bytes and return the code of the error."""
    port = int(harness.server.dialect_urls["wyoming"].rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    (event,) = EventReader().feed(await reader.read())
    writer.close()
    return str(event.data["code"])


async def test_a_full_server_refuses(launch: Launch) -> None:
    harness = await launch(FakeEngine(max_sessions=0), wyoming_port=0)
    assert await raw(harness, write_event("audio-start", FORMAT)) == "overloaded"
    harness = await launch(wyoming_port=0, max_connections=1)
    await harness.session()
    assert await raw(harness, b"") == "overloaded"


async def test_a_client_that_sends_nothing_is_dropped(launch: Launch) -> None:
    harness = await launch(wyoming_port=0, start_timeout_s=0.1)
    assert await raw(harness, b"") == "start_timeout"


@pytest.mark.parametrize("congested", [False, True])
async def test_a_client_that_closes_its_side_gets_its_transcript(launch: Launch, congested: bool) -> None:
    engine = FakeEngine()
    engine.last_words, engine.congested = (final("heard"),), congested
    harness = await launch(engine, wyoming_port=0)
    parts = urlsplit(harness.server.dialect_urls["wyoming"])
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    audio = {**FORMAT}
    writer.write(write_event("audio-start", audio))
    for _ in range(5):
        writer.write(write_event("audio-chunk", audio, bytes(3_200)))
    writer.write(write_event("audio-stop"))
    writer.write_eof()
    async with asyncio.timeout(60):
        if congested:
            while not engine.sessions:  # noqa: ASYNC110 - the server has no event for it
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.2)
            engine.sessions[0].relieve()
        answer = await reader.read()
    assert b'"heard"' in answer
    assert len(engine.sessions[0].audio) == 5 * 3_200
    writer.close()


async def test_a_client_that_leaves_in_its_audio_frees_its_session(launch: Launch) -> None:
    engine = FakeEngine()
    harness = await launch(engine, wyoming_port=0)
    parts = urlsplit(harness.server.dialect_urls["wyoming"])
    _, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(write_event("audio-start", FORMAT))
    writer.write_eof()
    async with asyncio.timeout(60):
        while not (engine.sessions and engine.sessions[0].aborted):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    writer.close()


async def test_draining_finishes_the_transcription(launch: Launch) -> None:
    engine = FakeEngine()
    engine.last_words = (final("heard"),)
    harness = await launch(engine, wyoming_port=0)
    async with AsyncClient.from_uri(harness.server.dialect_urls["wyoming"]) as client:
        await client.write_event(AudioStart(rate=16_000, width=2, channels=1).event())
        await client.write_event(Ping().event())
        assert await client.read_event() is not None
        draining = asyncio.create_task(harness.server.drain())
        while (event := await client.read_event()) is not None and not Transcript.is_type(event.type):
            pass
        assert event is not None
        assert Transcript.from_event(event).text == "heard"
    assert await draining


async def test_without_the_setting_there_is_no_port(launch: Launch) -> None:
    assert (await launch()).server.dialect_urls == {}


def test_only_a_setting_opens_it_to_other_machines(caplog: pytest.LogCaptureFixture) -> None:
    (listener,) = open_dialect_listeners(ServerConfig(host="::1", wyoming_port=0)).values()
    with listener:
        assert listener.getsockname()[0] == "127.0.0.1"
    assert "open_without_token" not in caplog.text
    with open_dialect_listeners(ServerConfig(wyoming_host="0.0.0.0", wyoming_port=0))["wyoming"]:
        assert "open_without_token" in caplog.text


def test_a_port_in_use_names_the_flag() -> None:
    with open_dialect_listeners(ServerConfig(wyoming_port=0))["wyoming"] as listener:
        port = listener.getsockname()[1]
        with pytest.raises(
            ConfigError, match="is a daemon running already\\? --wyoming-port 0 chooses a free"
        ):
            open_dialect_listeners(ServerConfig(wyoming_port=port))
    with pytest.raises(ConfigError, match="vosk_port must be 0 to 65535, got 70000"):
        ServerConfig(vosk_port=70_000)


kinds = st.sampled_from([*TRANSITIONS[State.WAITING], "synthesize", "x"])
names = st.sampled_from(["rate", "width", "channels", "language", "name", "text", "transcript_names"])
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from([16_000, 2, 1, "en", "\ud800"]),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=3,
)
chunks = st.one_of(
    st.binary(max_size=100),
    st.builds(write_event, kinds, st.dictionaries(names, values, max_size=4), st.binary(max_size=50)),
    st.builds(write_event, kinds, st.just(FORMAT), st.binary(max_size=50)),
    st.builds(json.dumps, st.dictionaries(st.sampled_from(["type", "data", "data_length"]), values)).map(
        lambda text: text.encode() + b"\n"
    ),
)


@settings(max_examples=250)
@given(st.lists(chunks, min_size=40, max_size=40))
def test_any_bytes_are_translated_or_refused(stream: list[bytes]) -> None:
    """10,000 pieces. Each list starts with a good event, so that more than the first piece counts."""
    translation = WyomingTranslation(MODEL)
    conversation = Conversation(translation)
    try:
        for data in (write_event("audio-start", FORMAT), *stream):
            for item in conversation.receive(data):
                if isinstance(item, Reply):
                    assert len(list(EventReader().feed(bytes(item.frame)))) == 1  # type: ignore[arg-type]
    except StreamasrError as error:
        assert error.fault == "client"  # noqa: PT017


async def test_bad_clients_disturb_nobody(daemon: Daemon) -> None:
    port = int(daemon.dialect_urls["wyoming"].rpartition(":")[2])

    async def disturb() -> None:
        for data in (
            b"\0" * 70_000,
            b"{}\n",
            write_event("audio-start", FORMAT),
            b'{"type":"x","payload_length":9}\n',
        ):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(data)
            with contextlib.suppress(OSError):
                await writer.drain()
            writer.close()

    pcm = voice(2)
    expected = await daemon.transcribe(pcm)
    assert await daemon.transcribe_during([pcm], disturb) == [expected]
