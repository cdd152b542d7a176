"""Test recordings uploaded over HTTP: answers, refusals, limits, leaving clients and shutdown."""

from __future__ import annotations

import asyncio
import dataclasses
import io
import json
import socket
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest
import soundfile

from streamasr.protocol.messages import Done, Error, Final, Partial, WordTiming
from tests.service.conftest import Harness, Launch, launch
from tests.service.fake import FakeEngine

__all__ = ["launch"]
SECRET = "a-secret-of-some-length"


def wav(seconds: float = 0.1, rate: int = 16_000) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.zeros(round(seconds * rate), dtype=np.int16), rate, format="WAV")
    return file.getvalue()


def final(number: int, text: str) -> Final:
    words = tuple(
        WordTiming(
            word=word, start_ms=1_000 * number + 100 * at, end_ms=1_000 * number + 100 * at + 90, confidence=1
        )
        for at, word in enumerate(text.split())
    )
    return Final(
        utterance=number,
        text=text,
        confidence=0.5,
        start_ms=words[0].start_ms,
        end_ms=words[-1].end_ms,
        words=words,
    )


FINALS = (final(0, "one two"), final(1, "three"))


def engine() -> FakeEngine:
    fake = FakeEngine()
    fake.last_words = FINALS
    return fake


def client(harness: Harness, key: str = "unused", **options: Any) -> openai.AsyncOpenAI:
    url = f"http://127.0.0.1:{harness.port}/v1"
    return openai.AsyncOpenAI(base_url=url, api_key=key, max_retries=0, **options)


async def post(harness: Harness, path: str = "/v1/audio/transcriptions", **options: Any) -> httpx.Response:
    async with httpx.AsyncClient() as http:
        return await http.post(f"http://127.0.0.1:{harness.port}{path}", **options)


async def test_json_is_the_default(launch: Launch) -> None:
    harness = await launch(engine())
    result = await client(harness).audio.transcriptions.create(model="whisper-1", file=("a.wav", wav()))
    assert result.text == "one two three"
    (session,) = harness.engine.sessions
    assert session.bulk
    assert len(session.audio) == 3_200
    assert (session.start.sample_rate, session.start.encoding, session.start.partials) == (
        16_000,
        "pcm_s16le",
        False,
    )


async def test_verbose_json_has_segments_and_words(launch: Launch) -> None:
    harness = await launch(engine())
    create = client(harness).audio.transcriptions.create
    file = ("a.wav", wav(1.0))
    result = await create(model="whisper-1", file=file, response_format="verbose_json")
    assert (result.text, result.language, result.duration) == ("one two three", "english", 1.0)
    assert result.words is None
    assert result.segments is not None
    assert [(s.id, s.start, s.end, s.text) for s in result.segments] == [
        (0, 0.0, 0.19, "one two"),
        (1, 1.0, 1.09, "three"),
    ]
    assert result.segments[0].avg_logprob == pytest.approx(np.log(0.5))
    result = await create(
        model="whisper-1", file=file, response_format="verbose_json", timestamp_granularities=["word"]
    )
    assert result.segments is None
    assert result.words is not None
    assert [(w.word, w.start, w.end) for w in result.words] == [
        ("one", 0.0, 0.09),
        ("two", 0.1, 0.19),
        ("three", 1.0, 1.09),
    ]


async def test_text_and_subtitles(launch: Launch) -> None:
    harness = await launch(engine())
    create = client(harness).audio.transcriptions.create
    file = ("a.wav", wav())
    assert await create(model="whisper-1", file=file, response_format="text") == "one two three\n"
    srt = await create(model="whisper-1", file=file, response_format="srt")
    assert srt.startswith("1\n00:00:00,000 --> 00:00:01,000\none two\n\n2\n00:00:01,000 -->")
    vtt = await create(model="whisper-1", file=file, response_format="vtt")
    assert vtt.startswith("WEBVTT\n\n00:00:00.000 --> 00:00:01.000\none two\n")


async def test_a_streamed_answer_sends_committed_words_and_never_takes_one_back(launch: Launch) -> None:
    fake = FakeEngine()
    fake.last_words = (
        Partial(utterance=0, committed="one", tail="tow", start_ms=0, end_ms=1),
        FINALS[0],
        Partial(utterance=1, committed="", tail="free", start_ms=0, end_ms=1),
        FINALS[1],
    )
    harness = await launch(fake)
    stream = await client(harness).audio.transcriptions.create(
        model="gpt-4o-transcribe", file=("a.wav", wav()), stream=True
    )
    events = [event async for event in stream]
    deltas = [event.delta for event in events if event.type == "transcript.text.delta"]
    assert "".join(deltas) == "one two three"
    assert events[-1].type == "transcript.text.done"
    assert events[-1].text == "one two three"
    assert fake.sessions[0].start.partials


async def test_the_articles_request(launch: Launch) -> None:
    harness = await launch(engine())
    answer = await post(harness, "/transcribe", files={"audio": ("a.wav", wav())})
    assert (answer.status_code, answer.json()) == (200, {"text": "one two three"})
    answer = await post(harness, "/transcribe", files={"sound": ("a.wav", wav())})
    assert (answer.status_code, answer.json()) == (
        400,
        {"error": "the form has no file in the field 'audio' or 'file'"},
    )


async def test_models(launch: Launch) -> None:
    harness = await launch()
    models = client(harness).models
    assert [model.id async for model in await models.list()] == ["fake"]
    assert (await models.retrieve("fake")).id == "fake"
    with pytest.raises(openai.NotFoundError, match="'large' does not exist; this server has 'fake'"):
        await models.retrieve("large")


@pytest.mark.parametrize(
    ("options", "status", "param", "words"),
    [
        ({"model": "large"}, 404, "model", "the model 'large' does not exist; this server has 'fake'"),
        ({"model": "gpt-4o-transcribe-diarize"}, 404, "model", "tells speakers apart"),
        ({"response_format": "diarized_json"}, 400, "response_format", "must be one of json, text"),
        ({"language": "de"}, 400, "language", "recognises 'en', not 'de'"),
        ({"timestamp_granularities": ["char"]}, 400, "timestamp_granularities", "word, segment"),
        ({"file": ("a.txt", b"no audio at all")}, 400, "file", "a.txt: not an audio file"),
        ({"file": ("a.wav", b"")}, 400, "file", "a.wav: the file is empty"),
    ],
)
async def test_unusable_requests_are_explained(
    launch: Launch, options: dict[str, Any], status: int, param: str, words: str
) -> None:
    harness = await launch(engine())
    with pytest.raises(openai.APIStatusError) as caught:
        await client(harness).audio.transcriptions.create(
            **{"model": "whisper-1", "file": ("a.wav", wav()), **options}
        )
    assert caught.value.status_code == status
    assert caught.value.body is not None
    assert (caught.value.param, words in caught.value.message) == (param, True)
    assert harness.engine.open_sessions == []


@pytest.mark.parametrize("language", ["en", "en-US", "EN", "english"])
async def test_the_models_language_is_accepted_in_every_form(launch: Launch, language: str) -> None:
    harness = await launch(engine())
    create = client(harness).audio.transcriptions.create
    assert (await create(model="whisper-1", file=("a.wav", wav()), language=language)).text == "one two three"


@pytest.mark.parametrize(
    ("prompt", "hotwords"),
    [
        ("ZyntriQix, Digique Plus, etcd", ["ZyntriQix", "Digique Plus", "etcd"]),
        (
            "The talk is about Scheveningen and GPT-3. We met Maria's friend.",
            ["Scheveningen", "GPT-3", "Maria"],
        ),
        ("plain words only.", []),
        ("", []),
    ],
)
async def test_the_names_of_a_prompt_become_hotwords(
    launch: Launch, prompt: str, hotwords: list[str]
) -> None:
    harness = await launch(engine())
    await client(harness).audio.transcriptions.create(model="whisper-1", file=("a.wav", wav()), prompt=prompt)
    assert [hotword.text for hotword in harness.engine.sessions[0].start.hotwords] == hotwords


async def test_a_wrong_token_is_answered_though_the_body_is_large(launch: Launch) -> None:
    harness = await launch(engine(), token=SECRET)
    file = ("a.wav", wav(60.0))
    assert (await client(harness, SECRET).audio.transcriptions.create(model="whisper-1", file=file)).text
    with pytest.raises(openai.AuthenticationError, match="missing or invalid token") as caught:
        await client(harness, "wrong").audio.transcriptions.create(model="whisper-1", file=file)
    assert caught.value.code == "invalid_api_key"


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_too_large_upload_is_refused(launch: Launch, chunked: bool) -> None:
    harness = await launch(engine(), max_upload_bytes=10_000)
    request = httpx.Request("POST", "http://x", files={"file": ("a.wav", wav(10.0))})
    body = request.read()

    async def pieces() -> Any:
        for at in range(0, len(body), 4_096):
            yield body[at : at + 4_096]

    headers = {"Content-Type": request.headers["Content-Type"]}
    answer = await post(harness, content=pieces() if chunked else body, headers=headers)
    assert answer.status_code == 413
    assert answer.json()["error"]["message"] == "an upload may have at most 10000 bytes"


@pytest.mark.parametrize(
    ("headers", "body", "status", "words"),
    [
        ({}, b"x", 415, "got no Content-Type"),
        ({"Content-Type": "audio/wav"}, wav(), 415, "got audio/wav"),
        ({"Content-Type": "multipart/form-data"}, b"x", 400, "Missing boundary"),
        ({"Content-Type": "multipart/form-data; boundary=b"}, b"nonsense", 400, "the form cannot be read"),
        (
            {"Content-Type": "multipart/form-data; boundary=b"},
            b"--b--\r\n",
            400,
            "has no file in the field 'file'",
        ),
    ],
)
async def test_a_body_that_is_no_form_is_explained(
    launch: Launch, headers: dict[str, str], body: bytes, status: int, words: str
) -> None:
    harness = await launch(engine())
    answer = await post(harness, content=body, headers=headers)
    assert (answer.status_code, words in answer.json()["error"]["message"]) == (status, True)


@pytest.mark.parametrize(
    "head",
    [
        'name="file"',
        'name="file"; filename=""',
        "name=file; filename=speech.wav",
        'name="file"; filename="a \\"quoted\\" name; with = signs.wav"',
        'name="file"; filename="Grüße/%2e%2e/\u8a71.wav"',
        "name=\"file\"; filename*=utf-8''Gr%C3%BC%C3%9Fe.wav",
        'name="file"; filename="C:\\talks\\speech.wav"\r\nContent-Type: application/octet-stream',
        'name="file"; filename="notes.txt"\r\nContent-Type: text/plain; charset=utf-8',
        'filename="a.wav"; name="file"\r\nContent-Type: video/x-nonsense\r\nContent-Length: 3244',
    ],
)
@pytest.mark.parametrize(
    "kind", ["multipart/form-data; boundary=b", 'Multipart/Form-Data; charset=UTF-8; boundary="b"']
)
async def test_the_recording_is_found_however_its_part_is_described(
    launch: Launch, head: str, kind: str
) -> None:
    harness = await launch(engine())
    field = 'Content-Disposition: form-data; name="response_format"\r\n\r\ntext\r\n--b\r\n'
    start = f"--b\r\n{field}Content-Disposition: form-data; {head}\r\n\r\n".encode()
    body = start + wav() + b"\r\n--b--\r\n"
    answer = await post(harness, content=body, headers={"Content-Type": kind})
    assert (answer.status_code, answer.text) == (200, "one two three\n")


@pytest.mark.parametrize("name", ["{}", "{}[]", "{}[0]"])
async def test_lists_are_read_in_every_form(launch: Launch, name: str) -> None:
    harness = await launch(engine())
    files = {"file": ("a.wav", wav())}
    fields = {"response_format": "verbose_json", "languages": "de", name.format("languages"): ["de", "en"]}
    fields |= {name.format("timestamp_granularities"): "word", name.format("keywords"): ["Ada", "etcd"]}
    answer = await post(harness, data=fields, files=files)
    assert answer.status_code == 200
    assert ("words" in answer.json(), "segments" in answer.json()) == (True, False)
    assert [spec.text for spec in harness.engine.sessions[0].start.hotwords] == ["Ada", "etcd"]
    answer = await post(harness, data={name.format("languages"): ["de", "fr"]}, files=files)
    assert (answer.status_code, "not 'de'" in answer.text) == (400, True)


async def test_fields_for_other_models_have_no_effect(launch: Launch) -> None:
    harness = await launch(engine())
    result = await client(harness).audio.transcriptions.create(
        model="gpt-4o-transcribe",
        file=wav(),
        temperature=0.2,
        include=["logprobs"],
        chunking_strategy={"type": "server_vad", "threshold": 0.4},
        known_speaker_names=["agent"],
        known_speaker_references=["data:audio/wav;base64," + "A" * 500_000] * 4,
        extra_body={"vad_filter": False},
    )
    assert result.text == "one two three"


async def test_an_overloaded_engine_is_reported_with_retry_after(launch: Launch) -> None:
    harness = await launch(FakeEngine(max_sessions=0))
    answer = await post(harness, files={"file": ("a.wav", wav())})
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "2")
    assert answer.json()["error"]["code"] == "server_overloaded"


async def test_a_failing_session_is_an_error_of_the_server(launch: Launch) -> None:
    fake = FakeEngine()
    fake.last_words = (Error(code="engine_failed", message="recognition failed", fault="server"),)
    harness = await launch(fake)
    answer = await post(harness, files={"file": ("a.wav", wav())})
    assert (answer.status_code, answer.json()["error"]["message"]) == (500, "recognition failed")


async def test_an_unexpected_failure_is_answered(launch: Launch) -> None:
    fake = FakeEngine()
    fake.congested = True  # so that nothing more is read
    harness = await launch(fake)
    upload = asyncio.create_task(post(harness, files={"file": ("a.wav", wav(60.0))}, timeout=30))
    await until(harness, lambda: bool(fake.sessions))
    harness.engine.sessions[0].emit(Done(audio_ms=0))  # before `stop`: not allowed
    assert (await upload).status_code == 500


async def test_a_page_of_another_origin_may_not_upload(launch: Launch) -> None:
    harness = await launch(engine())
    answer = await post(harness, files={"file": ("a.wav", wav())}, headers={"Origin": "https://evil.example"})
    assert answer.status_code == 403


async def holding(harness: Harness) -> tuple[asyncio.Task[httpx.Response], FakeEngine]:
    """Upload a file whose session does not end."""
    before = len(harness.engine.sessions)
    upload = asyncio.create_task(post(harness, files={"file": ("a.wav", wav())}))
    await until(
        harness, lambda: len(harness.engine.sessions) > before and harness.engine.sessions[-1].stopped
    )
    return upload, harness.engine


async def until(harness: Harness, condition: Callable[[], bool]) -> None:
    """Ask for the server's health until ``condition`` holds."""
    async with asyncio.timeout(60), httpx.AsyncClient() as http:
        while not condition():
            await http.get(f"{harness.server.page_url}health")


class HoldingEngine(FakeEngine):
    """Opens sessions that emit nothing on ``stop``."""

    def open(self, *arguments: Any, **options: Any) -> Any:
        session = super().open(*arguments, **options)
        session.held_back = True
        return session


async def test_the_number_of_uploads_is_limited(launch: Launch) -> None:
    harness = await launch(HoldingEngine(), max_uploads=1)
    upload, fake = await holding(harness)
    answer = await post(harness, files={"file": ("a.wav", wav())})
    assert (answer.status_code, "Retry-After" in answer.headers) == (503, True)
    assert "1 uploads are being recognised already" in answer.json()["error"]["message"]
    fake.sessions[0].emit(Done(audio_ms=100))
    assert (await upload).status_code == 200
    upload, fake = await holding(harness)
    fake.sessions[-1].emit(Done(audio_ms=100))
    assert (await upload).status_code == 200


async def test_a_client_that_leaves_frees_its_session(launch: Launch) -> None:
    harness = await launch(HoldingEngine())
    upload, fake = await holding(harness)
    upload.cancel()
    await until(harness, lambda: fake.sessions[0].aborted)
    async with asyncio.timeout(60):
        await harness.server.drain()


@pytest.mark.parametrize("path", ["/v1/audio/transcriptions", "/v1/listen"])
@pytest.mark.parametrize("seconds", [0.05, 60.0], ids=["small", "large"])
async def test_a_full_disk_is_reported_and_passes(
    launch: Launch, monkeypatch: pytest.MonkeyPatch, path: str, seconds: float
) -> None:
    """Whenever it is noticed: while the body is written, or only when the buffer is emptied."""
    harness = await launch(engine())
    body: dict[str, Any] = (
        {"content": wav(seconds)}
        if path == "/v1/listen"
        else {"files": {"file": ("a.wav", wav(seconds))}, "data": {"model": "whisper-1"}}
    )
    with monkeypatch.context() as full:
        full.setattr(tempfile, "TemporaryFile", lambda *_, **__: Path("/dev/full").open("w+b"))  # noqa: SIM115
        answer = await post(harness, path, **body)
        assert answer.status_code == 507
        assert "the upload cannot be stored: No space left on device" in answer.text
    assert (await post(harness, path, **body)).status_code == 200


@pytest.mark.parametrize("path", ["/v1/audio/transcriptions", "/v1/listen"])
async def test_a_missing_folder_for_uploads_is_reported(
    launch: Launch, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    harness = await launch(engine())
    answer = await post(harness, path, files={"file": ("a.wav", wav())}, data={"model": "whisper-1"})
    assert answer.status_code == 507
    assert "the upload cannot be stored: No such file or directory" in answer.text


async def test_draining_finishes_uploads_and_refuses_new_ones(launch: Launch) -> None:
    harness = await launch(HoldingEngine())
    upload, fake = await holding(harness)
    draining = asyncio.create_task(harness.server.drain())
    await asyncio.sleep(0)
    assert (await post(harness, files={"file": ("a.wav", wav())})).status_code == 503
    assert not draining.done()
    fake.sessions[0].emit(FINALS[0])
    fake.sessions[0].emit(Done(audio_ms=100))
    assert (await upload).json()["text"] == "one two"
    assert await draining


async def test_closing_answers_the_uploads_that_are_left(launch: Launch) -> None:
    harness = await launch(HoldingEngine(), drain_timeout_s=0.05)
    upload, fake = await holding(harness)
    assert not await harness.server.drain()
    await harness.server.close()
    answer = await upload
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "2")
    assert fake.sessions[0].aborted


async def test_a_body_that_stops_coming_times_out(launch: Launch) -> None:
    harness = await launch(engine(), idle_timeout_s=0.2)
    reader, writer = await asyncio.open_connection("127.0.0.1", harness.port)
    writer.write(
        b"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\n"
        b"Content-Length: 1000\r\n\r\n--b"
    )
    head = await asyncio.wait_for(reader.readline(), 60)
    assert head.startswith(b"HTTP/1.1 408")
    writer.close()


async def test_a_client_that_does_not_read_its_streamed_answer_is_dropped(launch: Launch) -> None:
    fake = FakeEngine()
    long = Final(utterance=0, text="x" * 100_000, confidence=1, start_ms=0, end_ms=1)
    fake.last_words = tuple(dataclasses.replace(long, utterance=number) for number in range(30))
    harness = await launch(fake, slow_reader_s=0.3, send_buffer_bytes=4_096)
    request = httpx.Request("POST", "http://x", data={"stream": "true"}, files={"file": ("a.wav", wav())})
    body = request.read()
    head = (
        f"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\nContent-Type: "
    )
    # With a fixed size, or the kernel lets its receive buffer grow until it holds the whole answer.
    with socket.socket() as client_socket:
        client_socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        client_socket.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(client_socket, ("127.0.0.1", harness.port))
        await loop.sock_sendall(
            client_socket, f"{head}{request.headers['Content-Type']}\r\n\r\n".encode() + body
        )
        await until(harness, lambda: bool(fake.sessions) and fake.sessions[0].aborted)
        async with asyncio.timeout(60):
            await harness.server.drain()
            received = 0
            with suppress(ConnectionResetError):
                while data := await loop.sock_recv(client_socket, 65_536):
                    received += len(data)
    assert received < len(fake.last_words) * 100_000, "the answer was not finished"


async def test_translations_are_refused(launch: Launch) -> None:
    harness = await launch(engine())
    with pytest.raises(openai.NotFoundError, match="does not translate"):
        await client(harness).audio.translations.create(model="whisper-1", file=("a.wav", wav()))


async def test_a_client_that_waits_for_leave_to_send_is_answered_at_once(launch: Launch) -> None:
    harness = await launch(engine(), token=SECRET)
    reader, writer = await asyncio.open_connection("127.0.0.1", harness.port)
    head = b"POST /v1/listen HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3244\r\n"
    writer.write(head + b"\r\n")
    assert (await asyncio.wait_for(reader.readline(), 60)).startswith(b"HTTP/1.1 401")
    writer.close()
    reader, writer = await asyncio.open_connection("127.0.0.1", harness.port)
    writer.write(head + f"Authorization: Token {SECRET}\r\n\r\n".encode())
    assert (await asyncio.wait_for(reader.readline(), 60)).startswith(b"HTTP/1.1 100")
    writer.write(wav())
    await reader.readline()
    assert (await asyncio.wait_for(reader.readline(), 60)).startswith(b"HTTP/1.1 200")
    writer.close()


async def test_other_clients_are_not_affected_by_a_failing_upload(launch: Launch) -> None:
    harness = await launch(engine())
    other = await harness.session()
    await post(harness, files={"file": ("a.wav", b"RIFF" + bytes(100))})
    await other.send(b"ab")
    await (await other.socket.ping())
    assert harness.engine.sessions[0].audio == b"ab"


async def test_metrics_count_uploads_by_dialect(launch: Launch) -> None:
    harness = await launch(engine())
    await post(harness, files={"file": ("a.wav", wav(1.0))})
    text = harness.server.metrics.exposition().decode()
    assert 'streamasr_dialect_sessions_total{dialect="openai"} 1.0' in text
    assert 'streamasr_dialect_audio_seconds_total{dialect="openai"} 1.0' in text
    answer = await post(harness, data={"model": "x"}, files={"file": ("a.wav", wav())})
    assert json.loads(answer.content)["error"]["type"] == "invalid_request_error"


PAGE = "https://captions.example"


@pytest.mark.parametrize("path", ["/v1/audio/transcriptions", "/transcribe", "/v1/listen"])
async def test_a_page_of_an_allowed_origin_may_upload(launch: Launch, path: str) -> None:
    harness = await launch(engine(), allowed_origins=(PAGE,), token=SECRET)
    url = f"http://127.0.0.1:{harness.port}{path}"
    asks = {
        "Origin": PAGE,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, content-type",
    }
    async with httpx.AsyncClient() as http:
        leave = await http.options(url, headers=asks)
        assert leave.status_code == 204
        assert leave.headers["Access-Control-Allow-Origin"] == PAGE
        assert "POST" in leave.headers["Access-Control-Allow-Methods"]
        assert leave.headers["Access-Control-Allow-Headers"] == "authorization, content-type"
        assert leave.headers["Vary"] == "Origin"
        for key, status in ((SECRET, 200), ("wrong", 401)):
            headers = {"Origin": PAGE, "Authorization": f"Bearer {key}"}
            if path == "/v1/listen":
                answer = await http.post(url, headers=headers, content=wav())
            else:
                answer = await http.post(
                    url,
                    headers=headers,
                    files={"audio" if path == "/transcribe" else "file": ("a.wav", wav())},
                )
            assert answer.status_code == status
            assert answer.headers["Access-Control-Allow-Origin"] == PAGE, "or the page cannot read the answer"


async def test_a_page_of_another_origin_gets_no_leave_to_upload(launch: Launch) -> None:
    harness = await launch(engine(), allowed_origins=(PAGE,))
    url = f"http://127.0.0.1:{harness.port}/v1/audio/transcriptions"
    async with httpx.AsyncClient() as http:
        for origin in ("https://evil.example", "null"):
            asks = {"Origin": origin, "Access-Control-Request-Method": "POST"}
            leave = await http.options(url, headers=asks)
            assert leave.status_code == 403
            assert not [name for name in leave.headers if name.startswith("access-control")]
        models = await http.get(f"http://127.0.0.1:{harness.port}/v1/models", headers={"Origin": PAGE})
        assert (models.status_code, models.headers["Access-Control-Allow-Origin"]) == (200, PAGE)
        assert (await http.options(url)).status_code == 405, "no preflight"
