"""Test that a daemon whose device fails for good ends, so that its supervisor can start another one."""

import asyncio
from typing import Any

import numpy as np
import pytest
from websockets.asyncio.client import connect

from streamasr.engine import Engine, EngineConfig
from streamasr.protocol.messages import Error, Start
from streamasr.protocol.serialisation import encode, parse_server_message
from streamasr.recognition.batch import BatchStep
from streamasr.service.config import ServerConfig
from streamasr.service.daemon import EXIT_ENGINE_LOST, run_daemon
from streamasr.service.server import CaptionServer
from tests.recognition.tiny import tiny_model

LIMIT = 3


async def test_the_exit_status_is_3(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(BatchStep, "run", broken)
    config = ServerConfig(port=0, engine=EngineConfig(max_failed_steps=LIMIT))
    ready: asyncio.Future[CaptionServer] = asyncio.get_running_loop().create_future()
    daemon = asyncio.create_task(
        run_daemon(config, lambda: Engine(tiny_model(), config.engine), ready.set_result, {})
    )
    url = (await ready).stream_url
    for _ in range(LIMIT):
        async with connect(url, proxy=None) as client:
            await client.send(encode(Start()))
            await client.recv()
            await client.send(np.ones(16_000, dtype="<i2").tobytes())
            error = parse_server_message(str(await client.recv()))
            assert isinstance(error, Error)
            assert error.code == "engine_failed"
            await client.wait_closed()
            assert client.close_code == 1011
    async with asyncio.timeout(30):
        assert await daemon == EXIT_ENGINE_LOST == 3
    assert caplog.text.count("a step with 1 sessions failed") == LIMIT
    assert f"{LIMIT} steps in a row failed" in caplog.text
    assert "engine_lost" in caplog.text
