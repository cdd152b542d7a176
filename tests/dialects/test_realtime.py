"""Test OpenAI's Realtime protocol: sessions, turns, errors, and the packages ``openai``, LiveKit's and Pipecat's."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import json
import os
import wave
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from streamasr.dialects.base import Incoming, RefusedError, Reply, Request
from streamasr.dialects.openai_realtime import TRANSITIONS, RealtimeDialect, State
from streamasr.dialects.realtime_session import Format, Session, read_update
from streamasr.errors import ProtocolError
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
    ServerMessage,
    SpeechStarted,
    Start,
)
from streamasr.protocol.model_info import ModelInfo
from tests.dialects.test_equivalence import native
from tests.integration.conftest import Daemon
from tests.integration.streams import voice
from tests.service.conftest import Launch, launch

__all__ = ["launch"]
SECRET = "a-secret-of-some-length"
MODEL = ModelInfo(name="en-small", language="en")
AGENTS_PYTHON = os.environ.get("STREAMASR_AGENTS_PYTHON", "")
APPEND, COMMIT, CLEAR = (f"input_audio_buffer.{name}" for name in ("append", "commit", "clear"))
DELTA, COMPLETED = (f"conversation.item.input_audio_transcription.{name}" for name in ("delta", "completed"))


def update(**audio: object) -> dict[str, Any]:
    return {"type": "session.update", "session": {"type": "transcription", "audio": {"input": audio}}}


def append(data: bytes) -> dict[str, str]:
    return {"type": APPEND, "audio": base64.b64encode(data).decode()}


class Client:
    """A translation, driven without a server."""

    def __init__(self, *first: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        request = Request(
            id="0123456789",
            received_at="",
            path="/v1/realtime",
            values={},
            headers=headers or {},
            model=MODEL,
        )
        self.translation = RealtimeDialect().open(request)
        self.opened = events(self.translation.opened())
        self.first = self.sends(*first)

    def sends(self, *values: dict[str, Any] | str | bytes) -> list[Incoming]:
        frames = [json.dumps(value) if isinstance(value, dict) else value for value in values]
        return [item for frame in frames for item in self.translation.receive(frame)]

    def receives(self, *messages: ServerMessage) -> list[dict[str, Any]]:
        return [json.loads(frame) for message in messages for frame in self.translation.send(message)]


def events(incoming: Iterable[Incoming]) -> list[dict[str, Any]]:
    return [json.loads(item.frame) for item in incoming if isinstance(item, Reply)]


def kinds(values: Iterable[dict[str, Any]]) -> list[str]:
    return [value["type"].rpartition(".")[2] for value in values]


def partial(committed: str, utterance: int = 0) -> Partial:
    return Partial(utterance=utterance, committed=committed, tail="x", start_ms=100, end_ms=900)


def final(text: str, utterance: int = 0) -> Final:
    return Final(utterance=utterance, text=text, confidence=1.0, start_ms=100, end_ms=900)


def test_the_session_is_announced_and_updated() -> None:
    client = Client()
    (created,) = client.opened
    assert created["type"] == "session.created"
    assert created["session"]["audio"]["input"]["format"] == {"type": "audio/pcm", "rate": 24_000}
    transcription = {
        "model": "gpt-4o-transcribe",
        "language": "en",
        "prompt": "ZyntriQix, etcd",
        "keywords": ["Ada"],
    }
    vad = {"type": "server_vad", "silence_duration_ms": 350}
    sent = client.sends(
        update(format={"type": "audio/pcmu"}, transcription=transcription, turn_detection=vad)
    )
    start = sent[0]
    assert isinstance(start, Start)
    assert (start.encoding, start.sample_rate, start.endpointing.silence_ms) == ("mulaw", 8_000, 350)
    assert start.hotwords == tuple(HotwordSpec(text=text) for text in ("Ada", "ZyntriQix", "etcd"))
    (updated,) = events(sent)
    assert updated["type"] == "session.updated"
    assert updated["session"]["type"] == "transcription"
    assert updated["session"]["audio"]["input"]["transcription"] == transcription
    assert updated["session"]["audio"]["input"]["turn_detection"]["silence_duration_ms"] == 350


def test_the_beta_shape() -> None:
    client = Client(headers={"openai-beta": "realtime=v1"})
    assert client.opened[0]["type"] == "transcription_session.created"
    session = {
        "input_audio_format": "g711_alaw",
        "input_audio_transcription": {"model": "whisper-1"},
        "turn_detection": None,
    }
    sent = client.sends({"type": "transcription_session.update", "session": session})
    start = sent[0]
    assert isinstance(start, Start)
    assert (start.encoding, start.endpointing.silence_ms) == ("alaw", None)
    (updated,) = events(sent)
    assert updated["type"] == "transcription_session.updated"
    assert updated["session"]["input_audio_format"] == "g711_alaw"
    assert updated["session"]["turn_detection"] is None


def test_browsers_ask_for_the_beta_in_a_subprotocol() -> None:
    offered = "realtime, openai-insecure-api-key.KEY, openai-beta.realtime-v1"
    client = Client(headers={"sec-websocket-protocol": offered})
    assert client.opened[0]["type"] == "transcription_session.created"


@pytest.mark.parametrize(
    ("session", "words"),
    [
        (None, "session must be an object"),
        (
            {"type": "realtime"},
            "session.type must be transcription, got 'realtime'; this server only transcribes",
        ),
        ({"audio": 1}, "session.audio must be an object"),
        (
            {"audio": {"input": {"format": {"type": "opus"}}}},
            "session.audio.input.format must be one of audio/pcm,",
        ),
        ({"audio": {"input": {"format": {"rate": 1}}}}, "format.rate must be 8000 to 48000"),
        ({"audio": {"input": {"transcription": {"language": "de"}}}}, "recognises 'en', not 'de'"),
        ({"audio": {"input": {"transcription": {"model": "nova-3"}}}}, "the model 'nova-3' does not exist"),
        ({"audio": {"input": {"transcription": {"prompt": 1}}}}, "transcription.prompt must be a text"),
        ({"audio": {"input": {"transcription": {"keywords": "x"}}}}, "keywords must be a list of texts"),
        (
            {"audio": {"input": {"turn_detection": {"type": "x"}}}},
            "must be one of server_vad, semantic_vad, or null",
        ),
        (
            {"turn_detection": {"silence_duration_ms": "x"}},
            "session.turn_detection.silence_duration_ms must be a",
        ),
    ],
)
def test_unusable_sessions_are_explained_and_change_nothing(session: object, words: str) -> None:
    with pytest.raises(RefusedError) as caught:
        read_update(session, Session(), MODEL)
    assert words in str(caught.value)
    client = Client()
    (error,) = events(client.sends({"type": "session.update", "session": session, "event_id": "mine"}))
    assert error["type"] == "error"
    assert words in error["error"]["message"]
    assert error["error"]["event_id"] == "mine"
    assert client.sends(update())[0] == Session().start()


def test_settings_that_an_update_does_not_name_stay() -> None:
    first = update(transcription={"prompt": "etcd, Zyntrix", "keywords": ["Ada"], "language": "en"})
    client = Client(first, update(transcription={"languages": ["en", "de"], "keywords": []}))
    (configure, updated) = client.sends(update(turn_detection=None, transcription={"prompt": None}))
    assert configure == Configure(hotwords=())
    (event,) = events([updated])
    transcription = {"model": "en-small", "languages": ["en", "de"], "prompt": None, "keywords": []}
    found = event["session"]["audio"]["input"]["transcription"]
    assert {name: found[name] for name in transcription} == transcription
    assert client.first[2] == Configure(hotwords=(HotwordSpec(text="etcd"), HotwordSpec(text="Zyntrix")))


def test_one_language_of_several_is_enough() -> None:
    values = {"audio": {"input": {"transcription": {"languages": ["de", "en"]}}}}
    assert read_update(values, Session(), MODEL).transcription == {"languages": ["de", "en"]}


@pytest.mark.parametrize(
    ("model", "more", "server_ends_turns"),
    [
        ("gpt-4o-mini-transcribe", {}, True),
        ("gpt-realtime-whisper", {}, False),
        ("gpt-live-transcribe-2026", {}, False),
        ("gpt-realtime-whisper", {"turn_detection": {"type": "server_vad"}}, True),
        ("gpt-transcribe", {"turn_detection": None}, False),
        ("gpt-transcribe", {"turn_detection": {"type": "none"}}, False),
    ],
)
def test_clients_of_models_without_turn_detection_end_their_turns(
    model: str, more: dict[str, Any], server_ends_turns: bool
) -> None:
    client = Client(update(transcription={"model": model}, **more), append(bytes(480)))
    sent = client.receives(SpeechStarted(at_ms=100), final("a"))
    assert (COMPLETED in [event["type"] for event in sent]) is server_ends_turns
    client.sends({"type": COMMIT})
    (last,) = client.receives(Finalized())
    assert last["transcript"] == ("" if server_ends_turns else "a")


def test_another_model_ends_turns_again_unless_the_client_has_chosen() -> None:
    def model(name: str) -> dict[str, Any]:
        return {"audio": {"input": {"transcription": {"model": name}}}}

    session = read_update(model("gpt-realtime-whisper"), Session(), MODEL)
    assert not session.server_vad
    assert read_update(model("gpt-transcribe"), session, MODEL).server_vad
    chosen = read_update({"audio": {"input": {"turn_detection": None}}}, Session(), MODEL)
    assert not read_update(model("gpt-transcribe"), chosen, MODEL).server_vad


def test_audio_before_the_update_is_kept() -> None:
    client = Client()
    assert client.sends(append(b"ab"), append(b"cd")) == [KeepAlive(), KeepAlive()]
    start, audio, updated = client.sends(update(format={"type": "audio/pcm", "rate": 16_000}))
    assert isinstance(start, Start)
    assert start.sample_rate == 16_000
    assert audio == Audio(b"abcd")
    assert kinds(events([updated])) == ["updated"]
    assert client.sends(append(b"ef")) == [Audio(b"ef")]


def test_without_an_update_the_defaults_are_used() -> None:
    client = Client()
    start, audio = client.sends(append(bytes(96_002)))
    assert (start, audio) == (Session().start(), Audio(bytes(96_002)))
    client = Client()
    client.sends(append(b"ab"))
    sent = client.sends({"type": COMMIT})
    assert sent[:2] == [Session().start(), Audio(b"ab")]
    assert isinstance(sent[-1], Finalize)


def test_during_a_session_hotwords_may_change_and_the_format_may_not() -> None:
    client = Client(update(), append(b"ab"))
    changed, updated = client.sends(update(transcription={"keywords": ["Ada"]}, turn_detection=None))
    assert changed == Configure(hotwords=(HotwordSpec(text="Ada"),))
    assert events([updated])[0]["session"]["audio"]["input"]["turn_detection"] is None
    (error,) = events(client.sends(update(format={"type": "audio/pcma"})))
    assert error["error"]["message"] == "the format of the audio cannot change during a session"


def test_a_committed_turn() -> None:
    client = Client(update(turn_detection=None), append(bytes(48_000)))
    (delta,) = client.receives(SpeechStarted(at_ms=1), partial("a"), final("a b"))[:1]
    committed, added, done, finalize = client.sends({"type": COMMIT})
    assert isinstance(finalize, Finalize)
    assert kinds(events([committed, added, done])) == ["committed", "added", "done"]
    item = events([committed])[0]["item_id"]
    assert delta["item_id"] == item == events([added])[0]["item"]["id"]
    sent = client.receives(final("c", 1), Finalized(id=finalize.id))
    assert [(event["type"], event["item_id"]) for event in sent] == [(DELTA, item), (COMPLETED, item)]
    assert sent[-1]["transcript"] == "a b c"
    assert sent[-1]["usage"] == {"type": "duration", "seconds": 1.0}
    client.sends(append(b"ab"))
    (second, *_) = events(client.sends({"type": COMMIT}))
    assert second["previous_item_id"] == item != second["item_id"]


def test_deltas_are_only_appended() -> None:
    client = Client(update(turn_detection=None), append(bytes(480)))
    sent = client.receives(
        partial(""), partial("a"), partial("a b"), final("a b c"), partial("d", 1), final("d", 1)
    )
    assert [event["delta"] for event in sent] == ["a", " b", " c", " d"]


def test_a_turn_that_the_server_ends() -> None:
    client = Client(update(), append(bytes(480)))
    sent = client.receives(SpeechStarted(at_ms=100), partial("a"), final("a b"))
    assert kinds(sent) == [
        "speech_started", "delta", "delta", "speech_stopped", "committed", "added", "done", "completed",
    ]  # fmt: skip
    assert len({event.get("item_id", event.get("item", {}).get("id")) for event in sent}) == 1
    assert (sent[0]["audio_start_ms"], sent[3]["audio_end_ms"]) == (100, 900)
    assert (sent[-1]["transcript"], sent[-1]["usage"]["seconds"]) == ("a b", 0.8)
    assert client.receives(final("")) == []
    following = client.receives(SpeechStarted(at_ms=2_000))
    assert following[0]["item_id"] != sent[0]["item_id"]


def test_cleared_audio_has_no_transcript() -> None:
    client = Client(update(turn_detection=None), append(bytes(480)))
    finalize, cleared = client.sends({"type": CLEAR})
    assert isinstance(finalize, Finalize)
    assert kinds(events([cleared])) == ["cleared"]
    assert client.receives(partial("a"), final("a"), Finalized(id=finalize.id)) == []
    (error,) = events(client.sends({"type": COMMIT}))
    assert error["error"]["code"] == "input_audio_buffer_commit_empty"
    client.sends(append(b"ab"))
    client.sends({"type": COMMIT})
    assert client.receives(final("b", 1), Finalized())[-1]["transcript"] == "b"


def test_audio_cleared_before_the_update_is_not_sent() -> None:
    client = Client(append(b"ab"), {"type": CLEAR})
    assert [type(item) for item in client.sends(update())] == [Start, Reply]


def test_the_end_completes_what_has_words() -> None:
    client = Client(update(turn_detection=None), append(bytes(480)))
    client.receives(final("a"))
    assert kinds(client.receives(Done(audio_ms=1))) == ["committed", "added", "done", "completed"]


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (b"ab", "send audio as base64 in input_audio_buffer.append"),
        ("x", "expected a JSON object with a type"),
        ("[" * 3_000, "expected a JSON object with a type"),
        ('{"type": 1}', "expected a JSON object with a type"),
        ('{"type": "response.create"}', "'response.create' is not supported; this server only transcribes"),
        ('{"type": "input_audio_buffer.append"}', "audio must be a text in base64"),
        ('{"type": "input_audio_buffer.append", "audio": "?"}', "audio is not valid base64"),
        ('{"type": "input_audio_buffer.append", "audio": "é"}', "audio is not valid base64"),
    ],
)
def test_the_session_goes_on_after_an_error(frame: str | bytes, words: str) -> None:
    client = Client()
    (error,) = events(client.sends(frame))
    assert words in error["error"]["message"]
    assert error["error"]["type"] == "invalid_request_error"
    assert client.sends(update())[0] == Session().start()


def test_audio_of_one_event_may_be_longer_than_a_native_message() -> None:
    audio = bytes(range(256)) * 6_000
    sent = Client(update()).sends(append(audio))
    assert [len(item.data) for item in sent if isinstance(item, Audio)] == [1_048_576, len(audio) - 1_048_576]
    assert b"".join(item.data for item in sent if isinstance(item, Audio)) == audio


def test_an_event_beyond_the_limit_ends_the_session() -> None:
    with pytest.raises(ProtocolError, match="an event may have at most 2097152 bytes"):
        Client().sends(" " * 2_097_153)


def test_errors_of_the_server() -> None:
    error = Error(code="overloaded", message="no room", fault="server")
    (event,) = Client().receives(error)
    assert event["error"] | {"param": None} == {
        "type": "server_error", "code": "server_overloaded", "message": "no room", "param": None, "event_id": None,
    }  # fmt: skip


FAILED = "conversation.item.input_audio_transcription.failed"


def test_a_fault_of_the_server_fails_the_turns_that_wait_for_their_transcripts() -> None:
    client = Client(update(turn_detection=None), append(bytes(480)), {"type": COMMIT}, {"type": CLEAR})
    failed, error = client.receives(Error(code="engine_failed", message="m", fault="server"))
    assert (failed["type"], failed["content_index"]) == (FAILED, 0)
    assert failed["item_id"] == events(client.first)[1]["item_id"]
    assert (failed["error"]["type"], failed["error"]["code"]) == ("server_error", "engine_failed")
    assert error["type"] == "error"


def test_a_fault_of_the_client_comes_after_the_transcripts() -> None:
    client = Client(update(turn_detection=None), append(bytes(480)), {"type": COMMIT}, append(b"ab"))
    sent = client.receives(final("a"), Finalized(), final("b", 1))
    sent = client.receives(Error(code="message_too_big", message="m", fault="client"))
    assert kinds(sent) == ["committed", "added", "done", "completed", "error"]
    assert sent[3]["transcript"] == "b"


@pytest.mark.parametrize("code", ["idle_timeout", "start_timeout", "shutting_down"])
def test_a_connection_that_is_not_used_closes_without_an_error(code: str) -> None:
    client = Client(update())
    assert client.receives(Error(code=code, message="m", fault="client")) == []
    last = Error(code=code, message="m", fault="client")
    assert client.translation.close_code(last) not in (1000, 1005), "or agents would not connect again"


def test_the_state_table_names_every_event() -> None:
    for state, row in TRANSITIONS.items():
        for kind in (*TRANSITIONS[State.STREAMING], "response.create"):
            client = Client(append(b"ab")) if state is State.CONFIGURING else Client(update(), append(b"ab"))
            values = {"type": kind, "audio": "", "session": {}}
            client.sends(values)
            assert client.translation._state is row.get(kind, state)  # type: ignore[attr-defined]
    assert set(TRANSITIONS) == set(State)


def test_the_formats_have_native_encodings() -> None:
    for kind, rate in (("audio/pcm", 24_000), ("audio/pcmu", 8_000), ("audio/pcma", 8_000)):
        session = dataclasses.replace(Session(), format=Format(kind=kind, rate=rate))
        assert session.bytes_per_second == (48_000 if kind == "audio/pcm" else 8_000)


async def test_the_openai_package_transcribes_a_committed_turn(daemon: Daemon) -> None:
    pcm = voice(5, 3.0)
    client = AsyncOpenAI(base_url=f"http://127.0.0.1:{daemon.port}/v1", api_key="anything")
    query = {"intent": "transcription"}
    text = ""
    async with client, client.realtime.connect(extra_query=query) as connection:
        assert (await connection.recv()).type == "session.created"
        audio: Any = {"format": {"type": "audio/pcm", "rate": 16_000}, "turn_detection": None}
        await connection.session.update(session={"type": "transcription", "audio": {"input": audio}})
        for at in range(0, len(pcm), 3_200):
            await connection.input_audio_buffer.append(audio=base64.b64encode(pcm[at : at + 3_200]).decode())
        await connection.input_audio_buffer.commit()
        async for event in connection:
            assert event.type != "error", event
            if event.type == "conversation.item.input_audio_transcription.delta":
                text += event.delta or ""
            if event.type == "conversation.item.input_audio_transcription.completed":
                assert event.usage.type == "duration"
                assert event.usage.seconds == 3.0
                assert event.transcript == text
                break
    assert text == (await native(daemon, pcm, 3_200)).text
    assert text


async def test_the_openai_package_gets_errors_and_goes_on(daemon: Daemon) -> None:
    client = AsyncOpenAI(base_url=f"http://127.0.0.1:{daemon.port}/v1", api_key="anything")
    async with client, client.realtime.connect(extra_query={"intent": "transcription"}) as connection:
        await connection.recv()
        await connection.response.create()
        event = await connection.recv()
        assert event.type == "error"
        assert "only transcribes" in event.error.message
        await connection.session.update(session={"type": "transcription"})
        assert (await connection.recv()).type == "session.updated"


async def test_the_token_is_the_api_key(launch: Launch) -> None:
    harness = await launch(token=SECRET)
    url = f"ws://127.0.0.1:{harness.port}/v1/realtime?intent=transcription"
    with pytest.raises(InvalidStatus) as caught:
        await connect(url, proxy=None, additional_headers={"Authorization": "Bearer wrong"})
    assert caught.value.response.status_code == 401
    assert json.loads(caught.value.response.body or b"")["error"]["code"] == "invalid_api_key"
    keys = ["realtime", f"openai-insecure-api-key.{SECRET}"]
    async with connect(url, proxy=None, subprotocols=keys) as socket:  # type: ignore[arg-type]
        assert socket.subprotocol == "realtime"
        assert json.loads(await socket.recv())["type"] == "session.created"


async def test_another_intent_is_refused(launch: Launch) -> None:
    harness = await launch()
    with pytest.raises(InvalidStatus) as caught:
        await connect(f"ws://127.0.0.1:{harness.port}/v1/realtime?intent=conversation", proxy=None)
    assert caught.value.response.status_code == 400
    assert "intent must be transcription" in json.loads(caught.value.response.body or b"")["error"]["message"]


@pytest.mark.slow
@pytest.mark.parametrize("framework", ["livekit", "pipecat"])
async def test_agent_frameworks(daemon: Daemon, tmp_path: Path, framework: str) -> None:
    if not AGENTS_PYTHON:
        pytest.skip(
            "STREAMASR_AGENTS_PYTHON must name a Python that has livekit-plugins-openai and pipecat-ai"
        )
    file = tmp_path / "voice.wav"
    with wave.open(str(file), "wb") as audio:
        audio.setparams((1, 2, 16_000, 0, "NONE", ""))
        audio.writeframes(voice(5, 3.0) + bytes(64_000))
    script = Path(__file__).with_name("agent_clients.py")
    command = (AGENTS_PYTHON, str(script), framework, f"http://127.0.0.1:{daemon.port}/v1", str(file))
    environment = {
        name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")
    }
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=environment
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    assert out.strip()
