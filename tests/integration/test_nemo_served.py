"""Test that an imported NeMo checkpoint returns the same text when served as in this process, at each latency."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from streamasr.engine import Engine, EngineConfig
from streamasr.frontend.pcm import Samples
from streamasr.media.reader import read_audio
from streamasr.nemo.convert import import_nemo
from streamasr.protocol.messages import Start
from streamasr.recognition.model import LoadedModel, load_model
from tests.integration.conftest import run_daemon
from tests.integration.streams import open_stream
from tests.recognition.tiny import Inbox, final_text, messages_of, s16

pytestmark = pytest.mark.timeout(300)
LATENCIES = (80, 560, 1_120)


@pytest.fixture(scope="module")
def folder(nemo_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return import_nemo(nemo_dir / "B.nemo", tmp_path_factory.mktemp("nemo") / "b").folder


@pytest.fixture(scope="module")
def model(folder: Path) -> LoadedModel:
    return load_model(folder, "cpu")


@pytest.fixture(scope="module")
def sounds(nemo_dir: Path) -> list[Samples]:
    return [read_audio(nemo_dir / f"{name}.wav", 16_000) for name in ("long", "short", "short")]


@pytest.fixture(scope="module")
def expected(model: LoadedModel, sounds: list[Samples]) -> list[str]:
    texts = [
        final_text(messages_of(model, samples_S, Start(latency_ms=latency_ms)))
        for samples_S, latency_ms in zip(sounds, LATENCIES, strict=True)
    ]
    assert all(texts)
    assert texts[1] != texts[2]
    return texts


def test_sessions_of_one_engine_choose_their_latency(
    model: LoadedModel, sounds: list[Samples], expected: list[str]
) -> None:
    with Engine(model, EngineConfig(max_sessions=3)) as engine:
        inboxes = [Inbox() for _ in sounds]
        sessions = [
            engine.open(Start(latency_ms=latency_ms), inbox)
            for latency_ms, inbox in zip(LATENCIES, inboxes, strict=True)
        ]
        assert [session.ready.latency_ms for session in sessions] == list(LATENCIES)
        for session, samples_S in zip(sessions, sounds, strict=True):
            session.feed(s16(samples_S))
            session.stop()
        for inbox in inboxes:
            inbox.wait_for("done")
    assert [inbox.text() for inbox in inboxes] == expected


async def test_the_daemon_returns_the_same_text(
    folder: Path, sounds: list[Samples], expected: list[str]
) -> None:
    with run_daemon("--model", str(folder), "--precision", "float32") as daemon:

        async def stream_audio(samples_S: Samples, latency_ms: int) -> str:
            async with open_stream(daemon.url, Start(latency_ms=latency_ms)) as stream:
                return await stream.transcribe(s16(samples_S))

        texts = await asyncio.gather(*map(stream_audio, sounds, LATENCIES))
    assert texts == expected
