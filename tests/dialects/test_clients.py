"""Test that clients of other products work unchanged with the daemon's process, and give the native text."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
import soundfile
from deepgram import AsyncDeepgramClient
from deepgram.environment import DeepgramClientEnvironment

from streamasr.protocol.messages import Start
from tests.integration.conftest import Daemon
from tests.integration.streams import open_stream, voice

PCM = voice(5, 4.0)


@pytest.fixture(scope="module")
def recording() -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.frombuffer(PCM, dtype="<i2"), 16_000, format="FLAC")
    return file.getvalue()


@pytest.fixture
async def text(daemon: Daemon) -> str:
    """What the native protocol gives."""
    async with open_stream(daemon.url, Start()) as stream:
        text = await stream.transcribe(PCM)
    assert text
    return text


async def test_openai(daemon: Daemon, recording: bytes, text: str) -> None:
    client = openai.AsyncOpenAI(
        base_url=f"http://127.0.0.1:{daemon.port}/v1", api_key="unused", max_retries=0
    )
    create, file = client.audio.transcriptions.create, ("speech.flac", recording)
    assert (await create(model="whisper-1", file=file)).text == text
    verbose = await create(
        model="whisper-1",
        file=file,
        response_format="verbose_json",
        timestamp_granularities=["word", "segment"],
    )
    assert " ".join(word.word for word in verbose.words or []) == text
    assert " ".join(segment.text for segment in verbose.segments or []) == text
    assert (await create(model="whisper-1", file=file, response_format="text")).strip() == text
    srt = await create(model="whisper-1", file=file, response_format="srt")
    assert " ".join(line for line in srt.split() if line.isalpha()) == text
    events = [event async for event in await create(model="gpt-4o-transcribe", file=file, stream=True)]
    assert "".join(event.delta for event in events if event.type == "transcript.text.delta") == text
    assert [model.id async for model in await client.models.list()] == ["tiny"]


async def test_deepgram(daemon: Daemon, recording: bytes, text: str) -> None:
    http, ws = f"http://127.0.0.1:{daemon.port}", f"ws://127.0.0.1:{daemon.port}"
    environment = DeepgramClientEnvironment(base=http, production=ws, agent=ws, agent_rest=http)
    client = AsyncDeepgramClient(api_key="unused", environment=environment)
    result: Any = await client.listen.v1.media.transcribe_file(request=recording, model="nova-3")
    assert result.results.channels[0].alternatives[0].transcript == text
    finals, kinds = [], []
    async with client.listen.v1.connect(
        model="nova-3", encoding="linear16", sample_rate="16000", interim_results="true", vad_events="true"
    ) as socket:
        for at in range(0, len(PCM), 8_000):
            await socket.send_media(PCM[at : at + 8_000])
        await socket.send_close_stream()
        async for message in socket:
            kinds.append(message.type)
            if message.type == "Results" and message.is_final:
                finals.append(message.channel.alternatives[0].transcript)
    assert " ".join(part for part in finals if part) == text
    assert {"SpeechStarted", "Results", "Metadata"} <= set(kinds)
    assert kinds[-1] == "Metadata"


def test_curl(daemon: Daemon, recording: bytes, tmp_path: Path) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("curl is not installed")
    path = tmp_path / "speech.flac"
    path.write_bytes(recording)
    address = f"http://127.0.0.1:{daemon.port}"

    def run(*arguments: str) -> str:
        return subprocess.run(
            [curl, "-sS", "-f", *arguments], check=True, capture_output=True, text=True
        ).stdout

    plain = run("-F", f"audio=@{path}", f"{address}/transcribe")
    assert plain.startswith('{"text": "')
    form = ("-F", f"file=@{path}", "-F", "model=whisper-1", "-F", "response_format=text")
    assert run(*form, f"{address}/v1/audio/transcriptions").strip() in plain
    assert '"transcript": "' in run("-X", "POST", "-T", str(path), f"{address}/v1/listen")


VOSK_CLIENT = """
const websocket = require("ws");
const fs = require("fs");
const ws = new websocket(process.argv[1]);
ws.on("open", () => {
  const stream = fs.createReadStream(process.argv[2]);
  stream.on("data", (chunk) => ws.send(chunk));
  stream.on("end", () => ws.send('{"eof" : 1}'));
});
ws.on("message", (data) => console.log(JSON.stringify(JSON.parse(data))));
ws.on("close", () => process.exit());
"""


def test_vosk_from_node(daemon: Daemon, text: str, tmp_path: Path) -> None:
    """A script as the one of vosk-server: it sends a WAV file with its header and prints every reply."""
    node = shutil.which("node")
    if (
        node is None
        or subprocess.run([node, "-e", "require('ws')"], capture_output=True, check=False).returncode
    ):
        pytest.skip("needs node and its package ws: npm install ws, and NODE_PATH with its node_modules")
    path = tmp_path / "test.wav"
    soundfile.write(path, np.frombuffer(PCM, dtype="<i2"), 16_000)
    command = [node, "-e", VOSK_CLIENT, daemon.dialect_urls["vosk"], str(path)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=100)
    results = [json.loads(line) for line in printed.stdout.splitlines()]
    assert " ".join(result["text"] for result in results if result.get("text")) == text
    assert len(results) == -(-path.stat().st_size // 65_536) + 1
