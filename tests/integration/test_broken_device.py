"""Test that a daemon whose device fails for good ends, so that its supervisor can start another one."""

import asyncio
import sys
from asyncio.subprocess import PIPE
from contextlib import suppress
from pathlib import Path

import numpy as np
from websockets.asyncio.client import connect

from streamasr.protocol.messages import Error, Start
from streamasr.protocol.serialisation import encode, parse_server_message
from streamasr.service.daemon import EXIT_ENGINE_LOST

FAILING = """
import sys
from streamasr.cli import main
from streamasr.recognition.batch import BatchStep

def run(step, work):
    raise RuntimeError("CUDA error: an illegal memory access was encountered")

BatchStep.run = run
sys.exit(main(sys.argv[1:]))
"""


async def test_the_process_exits_with_status_3(tiny_folder: Path) -> None:
    serve = ["serve", "--port", "0", "--device", "cpu", "--threads", "1", "--model", str(tiny_folder)]
    second_of_audio = np.ones(16_000, dtype="<i2").tobytes()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", FAILING, *serve, stdout=PIPE, stderr=PIPE, limit=1 << 20
    )
    try:
        assert process.stdout is not None
        url = (await process.stdout.readline()).decode().removeprefix("ready ").strip()
        for _ in range(5):
            async with connect(url, proxy=None) as client:
                await client.send(encode(Start()))
                await client.recv()
                await client.send(second_of_audio)
                error = parse_server_message(str(await client.recv()))
                assert isinstance(error, Error)
                assert error.code == "engine_failed"
        async with asyncio.timeout(30):
            _, log = await process.communicate()
    finally:
        with suppress(ProcessLookupError):
            process.kill()
    assert process.returncode == EXIT_ENGINE_LOST
    assert log.count(b"a step with 1 sessions failed") == 5
    assert b"engine_lost" in log
