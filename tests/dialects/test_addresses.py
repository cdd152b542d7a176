"""Test the forms in which clients write the paths of dialects, also over HTTP and in handshakes."""

from __future__ import annotations

import json

import httpx
import openai
import pytest
from websockets.asyncio.client import connect

from streamasr.dialects.addresses import canonical_path
from tests.dialects.test_uploads import engine, wav
from tests.service.conftest import Launch, launch

__all__ = ["launch"]
SECRET = "a-secret-of-some-length"


@pytest.mark.parametrize(
    ("path", "canonical"),
    [
        ("/", "/"),
        ("//", "/"),
        ("/v1/listen", "/v1/listen"),
        ("/v1/listen/", "/v1/listen"),
        ("//v1//listen", "/v1/listen"),
        ("/openai/v1/audio/transcriptions", "/v1/audio/transcriptions"),
        ("/openai/v1/models/", "/v1/models"),
        ("/openai/models/en-small", "/v1/models/en-small"),
        ("/openai/deployments/mine/audio/translations", "/v1/audio/translations"),
        ("/openai/realtime", "/v1/realtime"),
        ("/openai/stream", "/openai/stream"),
        ("/openai/v1/token", "/openai/v1/token"),
        ("/openai/realtimes", "/openai/realtimes"),
        ("/v1/openai/v1/models", "/v1/openai/v1/models"),
    ],
)
def test_forms_of_a_path(path: str, canonical: str) -> None:
    assert canonical_path(path) == canonical
    assert canonical_path(canonical) == canonical


@pytest.mark.parametrize("path", ["/v1/", "//v1", "/openai/v1", "/openai/v1/"])
async def test_base_urls(launch: Launch, path: str) -> None:
    harness = await launch(engine())
    async with openai.AsyncOpenAI(
        base_url=f"http://127.0.0.1:{harness.port}{path}", api_key="x", max_retries=0
    ) as client:
        assert (await client.audio.transcriptions.create(model="whisper-1", file=("a.wav", wav()))).text
        assert (await client.models.retrieve("fake")).id == "fake"
    url = f"ws://127.0.0.1:{harness.port}{path.rstrip('/')}/realtime/?intent=transcription"
    async with connect(url, proxy=None) as socket:
        assert json.loads(await socket.recv())["type"] == "session.created"


async def test_azures_client(launch: Launch) -> None:
    harness = await launch(engine(), token=SECRET)
    async with openai.AsyncAzureOpenAI(
        azure_endpoint=f"http://127.0.0.1:{harness.port}", api_key=SECRET, api_version="2025-03-01-preview"
    ) as client:
        assert (await client.audio.transcriptions.create(model="whisper-1", file=("a.wav", wav()))).text
        assert [model.id async for model in await client.models.list()] == ["fake"]


async def test_a_base_url_without_a_version_is_explained(launch: Launch) -> None:
    harness = await launch()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{harness.port}") as http:
        for answer in (await http.post("/audio/transcriptions"), await http.get("/models")):
            assert answer.status_code == 404
            assert "the base URL of OpenAI's clients ends with /v1" in answer.text
        assert (await http.get("/health/")).status_code == 404, "only dialects have further forms"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/audio/transcriptions", "POST"),
        ("PUT", "/v1/listen", "POST"),
        ("POST", "/v1/models", "GET"),
        ("DELETE", "/v1/models/fake", "GET"),
    ],
)
async def test_another_method_is_explained(launch: Launch, method: str, path: str, allowed: str) -> None:
    harness = await launch()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{harness.port}") as http:
        answer = await http.request(method, path)
        assert (answer.status_code, answer.headers["Allow"]) == (405, allowed)
        assert answer.text == f"{method} is not allowed here; use {allowed}\n"
        assert (await http.get("/v1/listen")).status_code == 426, "a websocket"
        found = await http.head("/v1/models")
        assert (found.status_code, found.content) == (200, b"")
