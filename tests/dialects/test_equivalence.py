"""Test that the same audio gives the native text and word times in every dialect."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from wyoming.asr import Transcript as WyomingTranscript
from wyoming.asr import TranscriptChunk
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncClient

from streamasr.protocol.messages import Final, Start, Stop
from streamasr.protocol.serialisation import encode, parse_server_message
from tests.integration.conftest import Daemon
from tests.integration.streams import voice

Words = list[tuple[str, float, float]]


@dataclass(frozen=True)
class Transcript:
    """A text, and the words' times in seconds, ``None`` if the dialect has none."""

    text: str
    words: Words | None


async def exchange(url: str, frames: list[str | bytes]) -> list[dict[str, Any]]:
    """Send the frames and return all answers, as JSON."""
    answers = []
    async with connect(url, proxy=None, compression=None) as socket:

        async def send() -> None:
            for frame in frames:
                await socket.send(frame)

        sending = asyncio.create_task(send())
        try:
            while True:
                answers.append(json.loads(await socket.recv()))
        except ConnectionClosed:
            await sending
    return answers


def pieces(pcm: bytes, size: int) -> list[str | bytes]:
    return [pcm[at : at + size] for at in range(0, len(pcm), size)]


async def native(daemon: Daemon, pcm: bytes, size: int) -> Transcript:
    frames = [encode(Start()), *pieces(pcm, size), encode(Stop())]
    messages = [parse_server_message(json.dumps(value)) for value in await exchange(daemon.url, frames)]
    finals = [message for message in messages if isinstance(message, Final)]
    words = [(w.word, w.start_ms / 1_000, w.end_ms / 1_000) for final in finals for w in final.words]
    return Transcript(" ".join(final.text for final in finals if final.text), words)


async def post(daemon: Daemon, path: str, **options: Any) -> httpx.Response:
    async with httpx.AsyncClient(timeout=60) as http:
        answer = await http.post(f"http://127.0.0.1:{daemon.port}{path}", **options)
    assert answer.status_code == 200, answer.text
    return answer


def wav(pcm: bytes) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.frombuffer(pcm, dtype="<i2"), 16_000, format="WAV")
    return file.getvalue()


def timed(words: list[dict[str, Any]]) -> Words:
    return [(word["word"], word["start"], word["end"]) for word in words]


async def openai_verbose(daemon: Daemon, pcm: bytes, size: int) -> Transcript:
    fields = {"response_format": "verbose_json", "timestamp_granularities[]": "word"}
    answer = await post(daemon, "/v1/audio/transcriptions", data=fields, files={"file": ("a.wav", wav(pcm))})
    return Transcript(answer.json()["text"], timed(answer.json()["words"]))


async def openai_streamed(daemon: Daemon, pcm: bytes, size: int) -> Transcript:
    files = {"file": ("a.wav", wav(pcm))}
    answer = await post(daemon, "/v1/audio/transcriptions", data={"stream": "true"}, files=files)
    events = [json.loads(line.removeprefix("data: ")) for line in answer.text.split("\n\n") if line]
    assert "".join(event.get("delta", "") for event in events) == events[-1]["text"]
    return Transcript(events[-1]["text"], None)


async def transcribe(daemon: Daemon, pcm: bytes, size: int) -> Transcript:
    answer = await post(daemon, "/transcribe", files={"audio": ("a.wav", wav(pcm))})
    return Transcript(answer.json()["text"], None)


async def deepgram_live(daemon: Daemon, pcm: bytes, size: int) -> Transcript:
    url = f"ws://127.0.0.1:{daemon.port}/v1/listen?encoding=linear16&sample_rate=16000&interim_results=true"
    answers = await exchange(url, [*pieces(pcm, size), '{"type":"CloseStream"}'])
    assert answers[-1]["type"] == "Metadata"
    best = [answer["channel"]["alternatives"][0] for answer in answers if answer.get("is_final")]
    text = " ".join(alternative["transcript"] for alternative in best if alternative["transcript"])
    return Transcript(text, [word for alternative in best for word in timed(alternative["words"])])


async def deepgram_flux(daemon: Daemon, pcm: bytes, size: int) -> Transcript:
    url = f"ws://127.0.0.1:{daemon.port}/v2/listen?encoding=linear16&sample_rate=16000"
    answers = await exchange(url, [*pieces(pcm, size), '{"type":"CloseStream"}'])
    assert [answer["sequence_id"] for answer in answers] == list(range(len(answers)))
    turns = [answer for answer in answers if answer.get("event") == "EndOfTurn"]
    text = " ".join(turn["transcript"] for turn in turns)
    return Transcript(text, [word for turn in turns for word in timed(turn["words"])])


async def deepgram_recording(daemon: Daemon, pcm: bytes, size: int) -> Transcript:
    answer = await post(daemon, "/v1/listen", content=wav(pcm))
    (channel,) = answer.json()["results"]["channels"]
    (alternative,) = channel["alternatives"]
    return Transcript(alternative["transcript"], timed(alternative["words"]))


async def deepgram_raw(daemon: Daemon, pcm: bytes, size: int) -> Transcript:
    answer = await post(daemon, "/v1/listen?encoding=linear16&sample_rate=16000", content=pcm)
    (alternative,) = answer.json()["results"]["channels"][0]["alternatives"]
    return Transcript(alternative["transcript"], timed(alternative["words"]))


async def vosk(daemon: Daemon, pcm: bytes, size: int) -> Transcript:
    config = '{"config": {"sample_rate": 16000, "words": true}}'
    answers = await exchange(daemon.dialect_urls["vosk"], [config, *pieces(pcm, size), '{"eof" : 1}'])
    results = [answer for answer in answers if "text" in answer]
    text = " ".join(result["text"] for result in results if result["text"])
    return Transcript(text, [word for result in results for word in timed(result.get("result", []))])


async def wyoming(daemon: Daemon, pcm: bytes, size: int) -> Transcript:
    async with AsyncClient.from_uri(daemon.dialect_urls["wyoming"]) as client:
        await client.write_event(AudioStart(rate=16_000, width=2, channels=1).event())
        for piece in pieces(pcm, size):
            chunk = AudioChunk(rate=16_000, width=2, channels=1, audio=bytes(piece))  # type: ignore[arg-type]
            await client.write_event(chunk.event())
        await client.write_event(AudioStop().event())
        parts = []
        while (event := await client.read_event()) is not None:
            if TranscriptChunk.is_type(event.type):
                parts.append(TranscriptChunk.from_event(event).text)
            if WyomingTranscript.is_type(event.type):
                text = WyomingTranscript.from_event(event).text
    assert "".join(parts) == text
    return Transcript(text, None)


async def openai_realtime(daemon: Daemon, pcm: bytes, size: int) -> Transcript:
    audio = {"format": {"type": "audio/pcm", "rate": 16_000}, "turn_detection": None}
    update = {"type": "session.update", "session": {"type": "transcription", "audio": {"input": audio}}}
    frames = [json.dumps(update)]
    for piece in pieces(pcm, size):
        content = base64.b64encode(bytes(piece)).decode()  # type: ignore[arg-type]
        frames.append(json.dumps({"type": "input_audio_buffer.append", "audio": content}))
    deltas = ""
    async with connect(
        f"ws://127.0.0.1:{daemon.port}/v1/realtime?intent=transcription", proxy=None
    ) as socket:
        for frame in frames:
            await socket.send(frame)
        await socket.send('{"type": "input_audio_buffer.commit"}')
        while True:
            event = json.loads(await socket.recv())
            assert event["type"] != "error", event
            if event["type"].endswith("transcription.delta"):
                deltas += event["delta"]
            if event["type"].endswith("transcription.completed"):
                assert deltas == event["transcript"]
                return Transcript(event["transcript"], None)


Transcribe = Callable[[Daemon, bytes, int], Coroutine[Any, Any, Transcript]]
DIALECTS: dict[str, Transcribe] = {
    "openai, verbose_json": openai_verbose,
    "openai, streamed": openai_streamed,
    "transcribe": transcribe,
    "deepgram, live": deepgram_live,
    "deepgram, turns": deepgram_flux,
    "deepgram, a file": deepgram_recording,
    "deepgram, raw audio": deepgram_raw,
    "openai, realtime": openai_realtime,
    "vosk": vosk,
    "wyoming": wyoming,
}


@pytest.mark.parametrize("name", DIALECTS)
@settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 1_000), seconds=st.floats(0.5, 4.0), size=st.sampled_from([640, 3_200, 33_333]))
def test_a_dialect_gives_the_native_transcript(
    daemon: Daemon, name: str, seed: int, seconds: float, size: int
) -> None:
    pcm = voice(seed, round(seconds, 2))
    expected = asyncio.run(native(daemon, pcm, size))
    found = asyncio.run(DIALECTS[name](daemon, pcm, size))
    assert found.text == expected.text
    if found.words is not None:
        assert found.words == expected.words


def test_the_texts_compared_are_not_empty(daemon: Daemon) -> None:
    transcript = asyncio.run(native(daemon, voice(1), 3_200))
    assert len(transcript.text) > 10
    assert transcript.words
