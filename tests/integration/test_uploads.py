"""Test uploads to a real daemon: their memory, and live sessions beside them."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import soundfile

from streamasr.service.loadtest import LoadPlan, run_load
from tests.integration.conftest import Daemon, run_daemon
from tests.integration.streams import voice

UPLOAD_BYTES = 64 << 20
PIECE_BYTES = 1 << 16
GROWTH_KB = 24 << 10
"""The buffers of an upload are those of one connection: pieces of 64 KiB, and blocks of 65,536 samples."""


def wav_head(size: int) -> bytes:
    """Return the header of a WAV file with ``size`` bytes of stereo floats at 48 kHz."""
    file = io.BytesIO()
    soundfile.write(file, np.zeros((1, 2), dtype=np.float32), 48_000, format="WAV", subtype="FLOAT")
    head = file.getvalue()[:-8]
    return head[:4] + (len(head) + size - 8).to_bytes(4, "little") + head[8:-4] + size.to_bytes(4, "little")


def wav(pcm: bytes) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.frombuffer(pcm, dtype="<i2"), 16_000, format="WAV")
    return file.getvalue()


async def upload(daemon: Daemon, content: bytes | AsyncIterator[bytes], path: str = "/v1/listen") -> str:
    async with httpx.AsyncClient(timeout=600) as http:
        answer = await http.post(f"http://127.0.0.1:{daemon.port}{path}", content=content)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["results"]["channels"][0]["alternatives"][0]["transcript"])


def peak_kb(daemon: Daemon) -> int:
    """Return the daemon's largest resident memory so far."""
    status = Path(f"/proc/{daemon.process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


async def test_an_upload_is_never_whole_in_memory(daemon: Daemon) -> None:
    await upload(daemon, wav(voice(1, 2.0)))  # so that everything is loaded
    before = peak_kb(daemon)

    async def pieces() -> AsyncIterator[bytes]:
        yield wav_head(UPLOAD_BYTES)
        for _ in range(UPLOAD_BYTES // PIECE_BYTES):
            yield bytes(PIECE_BYTES)

    await upload(daemon, pieces())
    assert peak_kb(daemon) - before < GROWTH_KB


async def test_uploads_and_live_sessions_do_not_change_each_others_text(daemon: Daemon) -> None:
    voices, recording = [voice(seed) for seed in range(3)], wav(voice(9, 30.0))
    alone = [await daemon.transcribe(pcm) for pcm in voices]
    uploaded = await upload(daemon, recording)
    assert uploaded
    texts: list[str] = []

    async def disturbance() -> None:
        texts.append(await upload(daemon, recording))

    assert await daemon.transcribe_during(voices, disturbance) == alone
    assert texts == [uploaded]


@pytest.fixture
def busy_daemon(tiny_folder: Path) -> Iterator[Daemon]:
    """A daemon with room for eight live streams and uploads."""
    with run_daemon("--model", str(tiny_folder), "--max-sessions", "10") as running:
        yield running


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_an_hour_uploaded_does_not_delay_eight_live_streams(busy_daemon: Daemon) -> None:
    plan = LoadPlan(url=busy_daemon.url, pcm=voice(1), streams=8, latency_ms=160, duration_s=20.0)
    alone = await run_load(plan)
    hour = asyncio.create_task(upload(busy_daemon, wav(voice(2, 60.0) * 60)))
    beside = await run_load(plan)
    assert not hour.done()
    hour.cancel()
    assert (alone.failed, beside.failed) == (0, 0)
    before, after = alone.partial_lag_ms["p95"], beside.partial_lag_ms["p95"]
    assert before is not None
    assert after is not None
    # A chunk of the upload that runs already is finished first; it is as long as one of the live streams.
    assert after < before + plan.latency_ms
