"""Test Deepgram's dialect: queries, the states of a connection, results, and the package ``deepgram-sdk``."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
import soundfile
from deepgram import AsyncDeepgramClient
from deepgram.core.api_error import ApiError
from deepgram.environment import DeepgramClientEnvironment
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from streamasr.dialects.base import Incoming, RefusedError, Reply, Request
from streamasr.dialects.deepgram import Options, read_options
from streamasr.dialects.deepgram_live import TRANSITIONS, DeepgramLiveDialect, State
from streamasr.errors import AudioError, ProtocolError
from streamasr.protocol.connection import Audio
from streamasr.protocol.messages import (
    Configure,
    Done,
    Error,
    Final,
    Finalize,
    Finalized,
    HotwordSpec,
    KeepAlive,
    Partial,
    Ready,
    ServerMessage,
    SpeechStarted,
    Start,
    Stop,
    WordTiming,
)
from streamasr.protocol.messages import Warning as WarningMessage
from streamasr.protocol.model_info import ModelInfo
from tests.service.conftest import Harness, Launch, launch
from tests.service.fake import FakeEngine

__all__ = ["launch"]
SECRET = "a-secret-of-some-length"
PCM = {"encoding": "linear16", "sample_rate": "16000"}


def request(**query: str | tuple[str, ...]) -> Request:
    return Request(
        id="request",
        received_at="2026-01-01T00:00:00+00:00",
        path="/v1/listen",
        values={name: value if isinstance(value, tuple) else (value,) for name, value in query.items()},
        headers={},
        model=ModelInfo(name="en-small", language="en"),
    )


class Client:
    """A live translation, driven without a server."""

    def __init__(self, **query: str | tuple[str, ...]) -> None:
        self.translation = DeepgramLiveDialect().open(request(**query))
        self.opened = list(self.translation.opened())

    def sends(self, frame: str | bytes | dict[str, Any]) -> list[Incoming]:
        return list(self.translation.receive(json.dumps(frame) if isinstance(frame, dict) else frame))

    def receives(self, *messages: ServerMessage) -> list[dict[str, Any]]:
        return [json.loads(frame) for message in messages for frame in self.translation.send(message)]


def replies(incoming: Iterable[Incoming]) -> list[dict[str, Any]]:
    return [json.loads(item.frame) for item in incoming if isinstance(item, Reply)]


def words(*texts: str, start_ms: int = 0) -> tuple[WordTiming, ...]:
    return tuple(
        WordTiming(word=text, start_ms=start_ms + 500 * at, end_ms=start_ms + 500 * at + 400, confidence=0.5)
        for at, text in enumerate(texts)
    )


def final(utterance: int, *texts: str, start_ms: int = 0) -> Final:
    timed = words(*texts, start_ms=start_ms)
    end_ms = timed[-1].end_ms if timed else start_ms
    return Final(
        utterance=utterance,
        text=" ".join(texts),
        confidence=0.5,
        start_ms=start_ms,
        end_ms=end_ms,
        words=timed,
    )


def partial(utterance: int, *texts: str, start_ms: int = 0) -> Partial:
    timed = words(*texts, start_ms=start_ms)
    return Partial(
        utterance=utterance,
        committed=texts[0],
        tail=" ".join(texts[1:]),
        start_ms=start_ms,
        end_ms=timed[-1].end_ms,
        words=timed,
    )


READY = Ready(session="s", sample_rate=16_000, latency_ms=640, model="en-small")


def test_the_query_becomes_the_session() -> None:
    options = read_options(
        request(
            model="nova-3",
            language="en-US",
            encoding="mulaw",
            sample_rate="8000",
            channels="2",
            interim_results="true",
            endpointing="300",
            utterance_end_ms="1500",
            vad_events="true",
            keyterm=("Scheveningen", "Den Haag"),
            alternatives="3",
            smart_format="true",
        )
    )
    assert options.start.encoding == "mulaw"
    assert (options.start.sample_rate, options.start.channels, options.start.alternatives) == (8_000, 2, 3)
    assert (options.start.partials, options.start.format) == (True, "written")
    assert options.start.endpointing.silence_ms == 300
    assert [hotword.text for hotword in options.start.hotwords] == ["Scheveningen", "Den Haag"]
    assert (options.utterance_end_ms, options.vad_events, options.encoded) == (1_500, True, True)
    assert options.warnings == ()


def test_without_options_the_session_is_the_native_one() -> None:
    options = read_options(request(model="nova-3", **PCM))
    assert options.start == Start(partials=False)
    assert options.warnings == ()


def sentences(options: Options) -> list[str]:
    return [warning.message for warning in options.warnings]


def test_keywords_may_have_an_intensifier() -> None:
    options = read_options(request(keywords=("alpha", "beta:2", "gamma:-3")))
    assert options.start.hotwords == (
        HotwordSpec(text="alpha"),
        HotwordSpec(text="beta"),
        HotwordSpec(text="gamma", boost=-3.0),
    )
    assert sentences(options) == ["keywords: 'beta' gets the model's own boost, not 2"]


def test_unsupported_parameters_are_named_unless_they_are_off() -> None:
    options = read_options(request(diarize="true", redact=("pci", "ssn"), multichannel="false", tag="x"))
    assert sentences(options) == [
        "diarize is not supported and has no effect",
        "redact is not supported and has no effect",
    ]
    assert sentences(read_options(request(endpointing="10"))) == [
        "endpointing is 100 ms, the nearest possible value to 10",
    ]
    model = ModelInfo(name="zh-small", language="zh")
    chinese = read_options(dataclasses.replace(request(punctuate="true"), model=model))
    assert sentences(chinese) == ["punctuate: the model 'zh-small' has no written form"]


@pytest.mark.parametrize(
    ("protocol", "unused"),
    [
        ("live", {"utterances", "paragraphs", "eot_timeout_ms", "eager_eot_threshold"}),
        (
            "recording",
            {
                "interim_results", "vad_events", "utterance_end_ms", "alternatives", "eot_timeout_ms",
                "eager_eot_threshold",
            },
        ),
        (
            "turns",
            {"utterances", "paragraphs", "interim_results", "vad_events", "utterance_end_ms", "alternatives"},
        ),
    ],
)  # fmt: skip
def test_parameters_of_another_protocol_are_named(protocol: Any, unused: set[str]) -> None:
    on = {
        "utterances",
        "paragraphs",
        "interim_results",
        "vad_events",
        "punctuate",
        "smart_format",
        "numerals",
    }
    query = dict.fromkeys(on, "true") | {
        "utterance_end_ms": "1000",
        "alternatives": "2",
        "eot_timeout_ms": "3000",
        "eager_eot_threshold": "0.5",
        "keyterm": "x",
        "endpointing": "300",
        **PCM,
    }
    found = read_options(request(**query), protocol).warnings
    assert {warning.parameter for warning in found} == unused
    assert read_options(request(alternatives="1"), protocol).warnings == ()


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"encoding": "opus"}, "encoding must be one of linear16, linear32, mulaw, alaw, got 'opus'"),
        ({"encoding": "linear16"}, "encoding=linear16 needs the sample_rate"),
        ({"encoding": "linear16", "sample_rate": "1"}, "sample_rate must be 8000 to 48000, got '1'"),
        ({"encoding": "linear16", "sample_rate": "²"}, "sample_rate must be 8000 to 48000"),
        ({"channels": "3"}, "channels must be 1 to 2, got '3'"),
        ({"interim_results": "maybe"}, "interim_results must be true or false, got 'maybe'"),
        ({"endpointing": "soon"}, "endpointing must be"),
        ({"keywords": "a:b"}, "the intensifier must be a number, got 'b'"),
        ({"keywords": "a:-inf"}, "boost: expected -20 to 20"),
        ({"keyterm": "x" * 65}, "expected at most 64 characters"),
        ({"language": "de"}, "recognises 'en', not 'de'"),
        ({"callback": "https://example.org"}, "callback: results are sent to the client"),
    ],
)
def test_unusable_values_are_explained(query: dict[str, str], words: str) -> None:
    with pytest.raises(RefusedError) as caught:
        read_options(request(**query))
    assert words in str(caught.value)


INPUTS: dict[str, Any] = {
    "audio": bytes(640),
    "KeepAlive": {"type": "KeepAlive"},
    "Finalize": {"type": "Finalize"},
    "Configure": {"type": "Configure", "keyterms": ["x"]},
    "CloseStream": {"type": "CloseStream"},
}
EVENTS = {
    "audio": [Audio(bytes(640))],
    "KeepAlive": [KeepAlive()],
    "Finalize": [Finalize()],
    "Configure": [Configure(hotwords=(HotwordSpec(text="x"),))],
    "CloseStream": [Stop()],
}


@pytest.mark.parametrize("name", INPUTS)
def test_every_input_has_its_event_and_none_after_the_end(name: str) -> None:
    client = Client(**PCM)
    assert client.opened == [Start(partials=False)]
    assert [item for item in client.sends(INPUTS[name]) if not isinstance(item, Reply)] == EVENTS[name]
    client.sends(INPUTS["CloseStream"])
    assert client.sends(INPUTS[name]) == []


def test_the_table_names_every_input() -> None:
    inputs = {name for row in TRANSITIONS.values() for name in row}
    assert inputs == {*INPUTS, "header"}
    assert set(TRANSITIONS) == set(State)


def test_an_empty_message_ends_the_audio_as_for_older_clients() -> None:
    assert Client(**PCM).sends(b"") == [Stop()]


@pytest.mark.parametrize(
    "frame", ["{", "[]", "7", "null", '{"type":"Nonsense"}', '{"type":["x"]}', "[" * 5_000]
)
def test_unknown_messages_are_reported_and_the_stream_goes_on(frame: str) -> None:
    client = Client(**PCM)
    (error,) = replies(client.sends(frame))
    assert (error["type"], error["variant"]) == ("Error", "SchemaError")
    assert client.sends(b"ab") == [Audio(b"ab")]


def test_a_too_long_text_message_ends_the_session() -> None:
    with pytest.raises(ProtocolError, match="at most 65536 bytes"):
        Client(**PCM).sends(" " * 65_537)


def wav(encoding: str = "PCM_16", channels: int = 1) -> bytes:
    file = io.BytesIO()
    samples = np.zeros((160, channels), dtype=np.float32)
    soundfile.write(file, samples, 8_000, format="WAV", subtype=encoding)
    return file.getvalue()


@pytest.mark.parametrize(
    ("subtype", "encoding"), [("PCM_16", "pcm_s16le"), ("FLOAT", "pcm_f32le"), ("ULAW", "mulaw")]
)
@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_a_wav_stream_states_its_own_format(subtype: str, encoding: str, size: int) -> None:
    client, data = Client(interim_results="true"), wav(subtype)
    assert client.opened == []
    events = [item for at in range(0, len(data), size) for item in client.sends(data[at : at + size])]
    assert events[0] == Start(sample_rate=8_000, encoding=encoding)
    audio = b"".join(item.data for item in events[1:] if isinstance(item, Audio))
    assert len(audio) == 160 * {"pcm_s16le": 2, "pcm_f32le": 4, "mulaw": 1}[encoding]


@pytest.mark.parametrize("data", [b"\x1a\x45\xdf\xa3 webm", b"OggS", b"RIFF1234AVI ", bytes(100)])
def test_audio_without_a_known_format_is_refused_with_what_to_do(data: bytes) -> None:
    with pytest.raises(AudioError, match="add encoding and sample_rate to the address"):
        Client().sends(data)


def test_a_stream_that_ends_before_its_header_has_an_end() -> None:
    client = Client()
    (result,) = replies(client.sends({"type": "Finalize"}))
    assert result["from_finalize"]
    assert client.sends({"type": "CloseStream"}) == [Start(partials=False), Stop()]


def test_results() -> None:
    client = Client(interim_results="true", vad_events="true", **PCM)
    assert client.receives(READY) == []
    started, interim, result = client.receives(
        SpeechStarted(at_ms=100), partial(0, "one", "tow", start_ms=100), final(0, "one", "two", start_ms=100)
    )
    assert started == {"type": "SpeechStarted", "channel": [0, 1], "timestamp": 0.1}
    assert (interim["is_final"], interim["speech_final"]) == (False, False)
    assert (interim["start"], interim["duration"]) == (0.0, 1.0)
    assert interim["channel"]["alternatives"][0]["transcript"] == "one tow"
    assert (result["is_final"], result["speech_final"], result["from_finalize"]) == (True, True, False)
    (best,) = result["channel"]["alternatives"]
    assert (best["transcript"], best["confidence"]) == ("one two", 0.5)
    assert best["words"][1] == {"word": "two", "start": 0.6, "end": 1.0, "confidence": 0.5}
    (following,) = client.receives(final(1, "three", start_ms=2_000))
    assert (following["start"], following["duration"]) == (1.0, 1.4)


def test_without_interim_results_only_finals_are_sent() -> None:
    client = Client(**PCM)
    sent = client.receives(READY, SpeechStarted(at_ms=0), partial(0, "one"), final(0, "one"))
    assert [(message["type"], message["is_final"]) for message in sent] == [("Results", True)]


def test_finalize_marks_the_last_final_before_its_acknowledgement() -> None:
    client = Client(interim_results="true", **PCM)
    client.sends({"type": "Finalize"})
    assert client.receives(final(0, "one")) == []
    first = client.receives(final(1, "two", start_ms=2_000))
    last = client.receives(Finalized())
    assert [message["from_finalize"] for message in (*first, *last)] == [False, True]
    assert [m["channel"]["alternatives"][0]["transcript"] for m in (*first, *last)] == ["one", "two"]
    client.sends({"type": "Finalize"})
    (empty,) = client.receives(Finalized())
    assert (empty["from_finalize"], empty["channel"]["alternatives"][0]["transcript"]) == (True, "")


@pytest.mark.parametrize("end", [Done(audio_ms=7), Error(code="internal", message="m", fault="server")])
def test_a_held_final_is_not_lost_at_the_end(end: ServerMessage) -> None:
    client = Client(**PCM)
    client.sends({"type": "Finalize"})
    assert client.receives(final(0, "one")) == []
    assert [message["type"] for message in client.receives(end)] == [
        "Results",
        {"done": "Metadata"}.get(end.type, "Error"),
    ]


def test_an_utterance_ends_once_enough_audio_without_words_has_come() -> None:
    client = Client(utterance_end_ms="1000", **PCM)
    client.receives(READY)
    client.sends(bytes(32 * 400))
    client.receives(final(0, "one"))  # ends at 400 ms
    assert (
        replies(client.sends(bytes(32 * 1_600))) == []
    )  # 2,000 ms; a word may be in the 640 ms of the last step
    assert replies(client.sends(bytes(32 * 40))) == [
        {"type": "UtteranceEnd", "channel": [0, 1], "last_word_end": 0.4}
    ]
    assert replies(client.sends(bytes(32 * 1_000))) == []


def test_an_utterance_ends_before_words_after_a_long_gap_only() -> None:
    client = Client(utterance_end_ms="1000", interim_results="true", **PCM)
    client.receives(READY, final(0, "one"))
    sent = client.receives(
        SpeechStarted(at_ms=1_000), partial(1, "two", start_ms=1_000), final(1, "two", start_ms=1_000)
    )
    assert [message["type"] for message in sent] == ["Results", "Results"]
    sent = client.receives(SpeechStarted(at_ms=5_000), partial(2, "three", start_ms=5_000))
    assert [message["type"] for message in sent] == ["UtteranceEnd", "Results"]


def test_warnings_come_with_the_next_results_and_in_the_metadata() -> None:
    client = Client(diarize="true", **PCM)
    assert client.translation.headers["dg-warning"] == "diarize is not supported and has no effect"
    (first,) = client.receives(final(0, "one"))
    diarize = {
        "parameter": "diarize",
        "type": "unsupported_parameter",
        "message": "diarize is not supported and has no effect",
    }
    assert first["metadata"]["warnings"] == [diarize]
    (second,) = client.receives(final(1, "two"))
    assert "warnings" not in second["metadata"]
    (third,) = client.receives(WarningMessage(code="backlog", message="late"), final(2, "three"))
    late = {"parameter": "", "type": "backlog", "message": "late"}
    assert third["metadata"]["warnings"] == [late]
    (about,) = client.receives(Done(audio_ms=1_500))
    assert (about["type"], about["duration"], about["request_id"]) == ("Metadata", 1.5, "request")
    assert about["warnings"] == [diarize, late]


def test_a_header_is_never_so_long_that_a_client_refuses_the_handshake() -> None:
    query = {f"parameter-{number}": "on" for number in range(1_000)}
    client = Client(**PCM, **query)
    assert len(client.translation.headers["dg-warning"]) <= 1_000
    (about,) = client.receives(Done(audio_ms=1))
    assert len(about["warnings"]) == 1_000
    with pytest.raises(RefusedError) as caught:
        read_options(request(encoding="x" * 5_000))
    assert len(DeepgramLiveDialect().refuse(caught.value.refusal).headers["dg-error"]) <= 1_000


@pytest.mark.parametrize(
    "message",
    [
        {"type": "Configure"},
        {"type": "Configure", "keyterms": "x"},
        {"type": "Configure", "keyterms": [""]},
        {"type": "Configure", "keyterms": ["\ud800"]},
        {"type": "Configure", "keyterms": ["x"] * 257},
        {"type": "Configure", "features": {"numerals": True}},
    ],
)
def test_an_unusable_configure_fails_and_the_stream_goes_on(message: dict[str, Any]) -> None:
    client = Client(**PCM)
    (failure,) = replies(client.sends(message))
    assert failure["type"] == "ConfigureFailure"
    assert client.sends(b"ab") == [Audio(b"ab")]


def sdk(harness: Harness, key: str = "unused") -> AsyncDeepgramClient:
    http, ws = f"http://127.0.0.1:{harness.port}", f"ws://127.0.0.1:{harness.port}"
    environment = DeepgramClientEnvironment(base=http, production=ws, agent=ws, agent_rest=http)
    return AsyncDeepgramClient(api_key=key, environment=environment)


async def test_the_sdk_streams(launch: Launch) -> None:
    harness = await launch(token=SECRET)
    async with sdk(harness, SECRET).listen.v1.connect(
        model="nova-3",
        encoding="linear16",
        sample_rate="16000",
        interim_results="true",
        vad_events="true",
        keyterm="Scheveningen",
        diarize="true",
    ) as socket:
        await socket.send_media(b"abcd")
        await socket.send_keep_alive()
        await socket.send_finalize()
        flushed: Any = await socket.recv()
        assert (flushed.type, flushed.from_finalize) == ("Results", True)
        (session,) = harness.engine.sessions
        assert (session.audio, session.start.hotwords) == (b"abcd", (HotwordSpec(text="Scheveningen"),))
        session.emit(partial(0, "one"))
        interim: Any = await socket.recv()
        assert (interim.is_final, interim.channel.alternatives[0].words[0].end) == (False, 0.4)
        session.last_words = (final(0, "one", "two"),)
        await socket.send_close_stream()
        result: Any = await socket.recv()
        assert (result.speech_final, result.channel.alternatives[0].transcript) == (True, "one two")
        about: Any = await socket.recv()
        assert (about.type, about.channels) == ("Metadata", 1)
        assert [warning["parameter"] for warning in about.warnings] == ["diarize"]


async def test_the_sdk_sends_a_recording(launch: Launch) -> None:
    fake = FakeEngine()
    fake.last_words = (final(0, "one", "two"), final(1, "three", start_ms=2_000))
    harness = await launch(fake, token=SECRET)
    result: Any = await sdk(harness, SECRET).listen.v1.media.transcribe_file(
        request=wav(), model="nova-3", utterances=True, paragraphs=True, topics=True
    )
    (alternative,) = result.results.channels[0].alternatives
    assert (alternative.transcript, alternative.confidence) == ("one two three", 0.5)
    assert [(word.word, word.start, word.end) for word in alternative.words] == [
        ("one", 0.0, 0.4),
        ("two", 0.5, 0.9),
        ("three", 2.0, 2.4),
    ]
    assert [utterance.transcript for utterance in result.results.utterances] == ["one two", "three"]
    assert alternative.paragraphs.transcript == "\none two\n\nthree\n"
    assert [(p.num_words, p.sentences[0].text) for p in alternative.paragraphs.paragraphs] == [
        (2, "one two"),
        (1, "three"),
    ]
    assert len(result.metadata.sha256) == 64
    assert [warning["parameter"] for warning in result.metadata.warnings] == ["topics"]
    assert harness.engine.sessions[0].bulk


async def test_the_sdk_reports_refusals(launch: Launch) -> None:
    harness = await launch(token=SECRET)
    with pytest.raises(ApiError) as caught:
        await sdk(harness, "wrong").listen.v1.media.transcribe_file(request=wav(), model="nova-3")
    assert (caught.value.status_code, caught.value.body["err_code"]) == (401, "INVALID_AUTH")
    with pytest.raises(ApiError) as caught:
        await sdk(harness, SECRET).listen.v1.media.transcribe_url(
            url="https://example.org/a.wav", model="nova-3"
        )
    assert "this server fetches no URLs" in caught.value.body["err_msg"]
    with pytest.raises(ApiError) as caught:
        await sdk(harness, SECRET).listen.v1.media.transcribe_file(request=b"no audio", model="nova-3")
    assert (caught.value.status_code, caught.value.body["err_code"]) == (400, "UNPROCESSABLE_AUDIO")
    with pytest.raises(ApiError) as caught:
        async with sdk(harness, "wrong").listen.v1.connect(
            model="nova-3", encoding="linear16", sample_rate="16000"
        ):
            pass
    assert caught.value.status_code == 401
    with pytest.raises(ApiError) as caught:
        async with sdk(harness, SECRET).listen.v1.connect(model="nova-3", encoding="opus"):
            pass
    assert caught.value.status_code == 400
    assert harness.engine.sessions == []


async def test_browsers_send_the_token_as_a_subprotocol(launch: Launch) -> None:
    harness = await launch(token=SECRET)
    url = f"ws://127.0.0.1:{harness.port}/v1/listen?encoding=linear16&sample_rate=16000"
    async with connect(url, proxy=None, subprotocols=[Subprotocol("token"), Subprotocol(SECRET)]) as socket:
        assert socket.subprotocol == "token"
        assert socket.response is not None
        assert socket.response.headers["dg-request-id"]
