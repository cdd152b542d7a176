"""Test the dialect of vosk-server: its messages, its second port, and the sequences of its public test clients."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
import soundfile
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from streamasr.dialects.base import Incoming, Reply
from streamasr.dialects.vosk import TRANSITIONS, State, VoskTranslation
from streamasr.errors import AudioError, ProtocolError
from streamasr.protocol.connection import Audio
from streamasr.protocol.messages import (
    Alternative,
    Configure,
    Done,
    Error,
    Final,
    Finalize,
    Finalized,
    Partial,
    Start,
    Stop,
    WordTiming,
)
from tests.dialects.test_equivalence import native
from tests.integration.conftest import Daemon
from tests.integration.streams import voice
from tests.service.conftest import Launch, launch

__all__ = ["launch"]
SECRET = "a-secret-of-some-length"


def word(text: str, start_ms: int = 0) -> WordTiming:
    return WordTiming(word=text, start_ms=start_ms, end_ms=start_ms + 250, confidence=0.5)


def final(text: str, *, alternatives: tuple[Alternative, ...] = ()) -> Final:
    words = tuple(word(part, 500 * at) for at, part in enumerate(text.split()))
    return Final(
        utterance=0, text=text, confidence=0.75, start_ms=0, end_ms=1, words=words, alternatives=alternatives
    )


def partial(text: str) -> Partial:
    return Partial(utterance=0, committed="", tail=text, start_ms=0, end_ms=1, words=(word(text),))


def sends(translation: VoskTranslation, *frames: str | bytes) -> list[Incoming]:
    return [item for frame in frames for item in translation.receive(frame)]


def replies(incoming: Iterable[Incoming]) -> list[Any]:
    return [json.loads(item.frame) for item in incoming if isinstance(item, Reply)]


def config(**values: object) -> str:
    return json.dumps({"config": values})


def test_the_session_opens_with_the_first_audio_and_the_configuration() -> None:
    client = VoskTranslation()
    phrases = ["zero one two three four five", "oh", "[unk]", "oh"]
    assert sends(client, config(sample_rate=16_000.0, max_alternatives=3, phrase_list=phrases)) == []
    start, audio, _ = sends(client, bytes(8))
    assert isinstance(start, Start)
    assert (start.sample_rate, start.encoding, start.alternatives) == (16_000, "pcm_s16le", 3)
    assert [spec.text for spec in start.hotwords] == ["zero", "one", "two", "three", "four", "five", "oh"]
    assert audio == Audio(bytes(8))


def test_without_configuration_audio_has_8_khz_as_in_vosk_server() -> None:
    assert sends(VoskTranslation(), bytes(8))[0] == Start(sample_rate=8_000)


def test_every_message_of_audio_has_one_reply() -> None:
    client = VoskTranslation()
    assert replies(sends(client, bytes(8), b"")) == [{"partial": ""}, {"partial": ""}]
    list(client.send(partial("hello")))
    assert replies(sends(client, bytes(8), bytes(8))) == [{"partial": "hello"}] * 2
    list(client.send(final("hello")))
    list(client.send(final("again")))
    word_of = [{"conf": 0.5, "end": 0.25, "start": 0.0, "word": name} for name in ("hello", "again")]
    assert replies(sends(client, bytes(8), bytes(8), bytes(8))) == [
        {"result": [word_of[0]], "text": "hello"},
        {"result": [word_of[1]], "text": "again"},
        {"partial": ""},
    ]


def test_partials_have_words_if_words_are_asked_for() -> None:
    client = VoskTranslation()
    sends(client, config(words=True), bytes(2))
    list(client.send(partial("hello")))
    timing = {"conf": 0.5, "end": 0.25, "start": 0.0, "word": "hello"}
    assert replies(sends(client, bytes(2))) == [{"partial": "hello", "partial_result": [timing]}]
    sends(client, config(words=0))
    list(client.send(final("hello")))
    assert replies(sends(client, bytes(2))) == [{"text": "hello"}]


def test_alternatives() -> None:
    client = VoskTranslation()
    sends(client, config(max_alternatives=2, words=False), bytes(2))
    others = (Alternative(text="hollow", confidence=0.25), Alternative(text="hell", confidence=0.1))
    list(client.send(final("hello", alternatives=others)))
    expected = [{"confidence": 0.75, "text": "hello"}, {"confidence": 0.25, "text": "hollow"}]
    assert replies(sends(client, bytes(2))) == [{"alternatives": expected}]


def test_more_alternatives_than_a_session_may_have_are_the_most_it_may_have() -> None:
    assert sends(VoskTranslation(), config(max_alternatives=20), bytes(2))[0] == Start(
        sample_rate=8_000, alternatives=10
    )


@pytest.mark.parametrize("eof", ['{"eof" : 1}', '{"eof":1}', b'{"eof" : 1}'])
def test_eof_is_answered_with_everything_left(eof: str | bytes) -> None:
    client = VoskTranslation()
    sends(client, config(words=False), bytes(2))
    assert sends(client, eof) == [Stop()]
    sent = [
        frame for message in (final("a b"), final("c"), Done(audio_ms=1)) for frame in client.send(message)
    ]
    assert [json.loads(frame) for frame in sent] == [{"text": "a b c"}]
    assert sends(client, bytes(2), eof) == []


def test_eof_without_audio() -> None:
    client = VoskTranslation()
    assert sends(client, '{"eof" : 1}') == [Start(sample_rate=8_000), Stop()]
    assert [json.loads(frame) for frame in client.send(Done(audio_ms=0))] == [{"text": ""}]


def test_reset_gives_a_result_before_the_replies_to_later_audio() -> None:
    client = VoskTranslation()
    sends(client, bytes(2))
    assert sends(client, '{"reset":1}') == [Finalize()]
    assert sends(client, bytes(2), bytes(2)) == [Audio(bytes(2)), Audio(bytes(2))]
    list(client.send(final("a")))
    sent = [json.loads(frame) for frame in client.send(Finalized())]
    assert [list(value)[-1] for value in sent] == ["text", "partial", "partial"]
    assert sent[0]["text"] == "a"


def test_phrases_may_change_while_audio_comes() -> None:
    client = VoskTranslation()
    sends(client, bytes(2))
    (changed,) = sends(client, config(phrase_list=["one"]))
    assert isinstance(changed, Configure)
    assert [spec.text for spec in changed.hotwords] == ["one"]


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        ("hello", "expected audio, or a JSON object with one of config, eof, reset"),
        ("[1]", "expected audio"),
        ("[" * 3_000, "expected audio"),
        ('{"config": 1}', "config must be an object"),
        ('{"config": {"sample_rate": "fast"}}', "config.sample_rate must be a number, got 'fast'"),
        ('{"config": {"sample_rate": 1e999}}', "config.sample_rate must be a number"),
        ('{"config": {"max_alternatives": []}}', "config.max_alternatives must be a number"),
        ('{"config": {"phrase_list": "one"}}', "config.phrase_list must be a list of texts"),
    ],
)
def test_unusable_messages_are_explained(frame: str, words: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        sends(VoskTranslation(), frame)
    assert words in caught.value.message


def test_errors_are_json() -> None:
    error = Error(code="overloaded", message="no room", fault="server")
    assert [json.loads(frame) for frame in VoskTranslation().send(error)] == [
        {"error": "no room", "code": "overloaded"}
    ]


def wav(pcm: bytes, rate: int = 16_000, subtype: str = "PCM_16") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.frombuffer(pcm, dtype="<i2"), rate, format="WAV", subtype=subtype)
    return file.getvalue()


def test_a_wav_header_states_the_format() -> None:
    start, audio, _ = sends(VoskTranslation(), wav(b"abcd", 48_000))
    assert (start, audio) == (Start(sample_rate=48_000), Audio(b"abcd"))
    with pytest.raises(AudioError, match="a WAV stream of pcm_s24le; send one of pcm_s16le"):
        sends(VoskTranslation(), wav(b"abcd", subtype="PCM_24"))


def test_the_state_table_names_every_input() -> None:
    frames: dict[str, Any] = {"config": config(), "audio": b"", "reset": '{"reset":1}', "eof": '{"eof":1}'}
    for state, row in TRANSITIONS.items():
        for name, frame in frames.items():
            client = VoskTranslation()
            client._state = state
            sends(client, frame)
            assert client._state is row.get(name, state)
    assert set(TRANSITIONS) == set(State)


async def test_the_sequence_of_the_python_test_client(daemon: Daemon) -> None:
    """Audio of 0.2 s, a reply to each, ``eof`` and the last result: on the port of its own."""
    pcm = voice(3, 4.0)
    async with connect(daemon.dialect_urls["vosk"], proxy=None) as socket:
        await socket.send('{ "config" : { "sample_rate" : 16000 } }')
        results = []
        for at in range(0, len(pcm), 6_400):
            await socket.send(pcm[at : at + 6_400])
            results.append(json.loads(await socket.recv()))
        await socket.send('{"eof" : 1}')
        results.append(json.loads(await socket.recv()))
        with pytest.raises(ConnectionClosed):
            await socket.recv()
        assert socket.close_code == 1000
    assert all("partial" in result or "text" in result for result in results)
    assert len(results) == len(pcm) // 6_400 + 1
    assert " ".join(r["text"] for r in results if r.get("text")) == (await native(daemon, pcm, 3_200)).text


async def test_the_sequence_of_the_node_test_client(daemon: Daemon) -> None:
    """A whole WAV file with its header in large messages, read by events, at ``/vosk`` of the main port."""
    pcm = voice(4, 3.0)
    file = wav(pcm)
    async with connect(f"ws://127.0.0.1:{daemon.port}/vosk", proxy=None) as socket:
        for at in range(0, len(file), 65_536):
            await socket.send(file[at : at + 65_536])
        await socket.send('{"eof" : 1}')
        results = [json.loads(frame) async for frame in socket]
    assert len(results) == -(-len(file) // 65_536) + 1
    assert " ".join(r["text"] for r in results if r.get("text")) == (await native(daemon, pcm, 3_200)).text


async def test_the_sequence_of_the_browser_client(daemon: Daemon) -> None:
    """No configuration, 8 kHz audio in pieces of 128 samples, ``eof`` and an immediate close; nobody else suffers."""
    expected = await daemon.transcribe(voice(1))
    for _ in range(3):
        async with connect(daemon.dialect_urls["vosk"], proxy=None) as socket:
            for _ in range(40):
                await socket.send(bytes(256))
            await socket.send('{"eof" : 1}')
    assert await daemon.transcribe(voice(1)) == expected


async def test_many_small_messages_in_a_burst_all_have_their_replies(daemon: Daemon) -> None:
    count = 2_000
    async with connect(daemon.dialect_urls["vosk"], proxy=None) as socket:

        async def send() -> None:
            for _ in range(count):
                await socket.send(bytes(64))
            await socket.send('{"eof" : 1}')

        sending = asyncio.create_task(send())
        results = [json.loads(frame) async for frame in socket]
        await sending
    assert len(results) == count + 1
    assert "text" in results[-1]


async def test_the_port_of_its_own_asks_for_the_token_and_has_the_native_protocol_too(launch: Launch) -> None:
    harness = await launch(vosk_port=0, token=SECRET)
    url = harness.server.dialect_urls["vosk"]
    with pytest.raises(InvalidStatus) as caught:
        await connect(url, proxy=None)
    assert caught.value.response.status_code == 401
    assert json.loads(caught.value.response.body or b"")["code"] == "unauthorized"
    async with connect(f"{url}?token={SECRET}", proxy=None) as socket:
        await socket.send(b"abcd")
        assert json.loads(await socket.recv()) == {"partial": ""}
    assert harness.engine.sessions[0].audio == b"abcd"
    async with connect(f"{url}v1/stream?token={SECRET}", proxy=None) as socket:
        await socket.send('{"type": "start"}')
        assert json.loads(await socket.recv())["type"] == "ready"


@pytest.mark.parametrize("origin", ["http://localhost:8000", "null"])
async def test_a_page_of_another_server_or_a_file_may_connect_if_it_is_named(
    launch: Launch, origin: str
) -> None:
    harness = await launch(vosk_port=0)
    with pytest.raises(InvalidStatus) as caught:
        await connect(harness.server.dialect_urls["vosk"], proxy=None, additional_headers={"Origin": origin})
    assert json.loads(caught.value.response.body or b"")["code"] == "bad_origin"
    harness = await launch(vosk_port=0, allowed_origins=(origin,))
    headers = {"Origin": origin}
    async with connect(harness.server.dialect_urls["vosk"], proxy=None, additional_headers=headers) as socket:
        await socket.send(b"abcd")
        assert json.loads(await socket.recv()) == {"partial": ""}


@pytest.mark.parametrize("path", ["", "vosk", "asr/en/", "?x=1", "health"])
async def test_the_port_of_its_own_does_not_look_at_the_path(launch: Launch, path: str) -> None:
    harness = await launch(vosk_port=0)
    async with connect(f"{harness.server.dialect_urls['vosk']}{path}", proxy=None) as socket:
        await socket.send(b"abcd")
        assert json.loads(await socket.recv()) == {"partial": ""}
    with pytest.raises(InvalidStatus):
        await connect(f"ws://127.0.0.1:{harness.port}/asr/en/", proxy=None)


async def test_an_error_ends_the_session_in_the_dialects_shape(launch: Launch) -> None:
    harness = await launch(vosk_port=0)
    async with connect(harness.server.dialect_urls["vosk"], proxy=None) as socket:
        await socket.send('{"config": {"sample_rate": 1}}')
        await socket.send(b"abcd")
        error = json.loads(await socket.recv())
        assert error == {"error": "start.sample_rate: expected 8000 to 48000, got 1", "code": "bad_message"}
        with pytest.raises(ConnectionClosed):
            await socket.recv()
        assert socket.close_code == 1008
