"""Test sending whole files to a daemon."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.connection import Connection

from streamasr.errors import DataError
from streamasr.protocol.messages import Done, Error, Final, Resumed, Start
from streamasr_client import transcription
from streamasr_client.audio import SoundFile
from streamasr_client.connection import Backoff
from streamasr_client.errors import ConnectionFailed, DaemonError
from streamasr_client.transcription import BLOCK_MS, transcribe_file
from tests.client.scripted import MakeFinal, ScriptedConnection, ScriptedDaemon


def quick() -> Backoff:
    """Waiting times of one or two milliseconds."""
    return Backoff(first_ms=1, max_ms=2)


@pytest.fixture
def file(tmp_path: Path) -> SoundFile:
    """Three seconds at 8 kHz."""
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(24_000, dtype=np.int16), 8_000)
    return SoundFile(path)


async def test_the_finals_of_a_file(daemon: ScriptedDaemon, file: SoundFile, final: MakeFinal) -> None:
    async def script(connection: ScriptedConnection) -> None:
        await connection.open()
        await connection.finish(final("one"), final("two", utterance=1))

    daemon.scripts = [script]
    progress: list[int] = []
    finals = await transcribe_file(daemon.url, Start(latency_ms=320), file, on_progress=progress.append)
    assert [each.text for each in finals] == ["one", "two"]
    assert progress == [500, 1_000, 1_500, 2_000, 2_500, 3_000]
    (connection,) = daemon.connections
    assert connection.received_ms == 3_000
    assert (
        connection.start["sample_rate"],
        connection.start["latency_ms"],
        connection.start["partials"],
    ) == (
        8_000,
        320,
        False,
    )


async def test_a_pipe_that_pauses_keeps_the_session_open(
    daemon: ScriptedDaemon, file: SoundFile, final: MakeFinal, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[object] = []
    goes_on = asyncio.Event()
    read = file.blocks_from_thread

    async def pausing(block_ms: int) -> AsyncGenerator[bytes, None]:
        async for block in read(block_ms):
            yield block
            await goes_on.wait()

    async def script(connection: ScriptedConnection) -> None:
        await connection.open()
        await connection.receive_audio(1)
        kept.extend([json.loads(await connection.socket.recv()) for _ in range(3)])
        goes_on.set()
        message: object = None
        while message != {"type": "stop"}:
            received = await connection.socket.recv()
            message = None if isinstance(received, bytes) else json.loads(received)
        await connection.send(final("hello"), Done(audio_ms=3_000))

    monkeypatch.setattr(transcription, "KEEPALIVE_MS", 20)
    monkeypatch.setattr(file, "blocks_from_thread", pausing)
    daemon.scripts = [script]
    assert [each.text for each in await transcribe_file(daemon.url, Start(), file)] == ["hello"]
    assert kept == [{"type": "keepalive"}] * 3


async def test_a_busy_daemon_is_retried_with_the_whole_file(
    daemon: ScriptedDaemon, file: SoundFile, final: MakeFinal
) -> None:
    async def full(connection: ScriptedConnection) -> None:
        await connection.socket.recv()
        await connection.send(Error(code="overloaded", message="full", fault="server", retry_after_ms=1))

    async def disconnects(connection: ScriptedConnection) -> None:
        await connection.open()
        connection.socket.transport.abort()

    async def accepts(connection: ScriptedConnection) -> None:
        await connection.open()
        await connection.finish(final("whole"))

    daemon.scripts = [full, disconnects, accepts]
    finals = await transcribe_file(daemon.url, Start(), file, backoff=quick())
    assert [each.text for each in finals] == ["whole"]
    assert daemon.connections[2].received_ms == 3_000


async def broken_off(connection: ScriptedConnection, *messages: Final) -> None:
    """Take a second of audio, send messages with their numbers, and break the connection."""
    await connection.open(resume="the-token", resume_for_ms=30_000)
    await connection.receive_audio(16_000)
    for message in messages:
        await connection.send(message)
    await asyncio.sleep(0.05)  # the client receives them before the end
    connection.socket.transport.abort()


async def resuming(
    connection: ScriptedConnection, daemon: ScriptedDaemon, samples: int, requests: int
) -> object:
    request: object = json.loads(await connection.socket.recv())
    connection.start = daemon.connections[0].start
    await connection.send(Resumed(session="s", audio_samples=samples, requests=requests))
    return request


@pytest.mark.parametrize("samples", [4_000, 7_777, 12_000])
async def test_after_a_lost_connection_the_daemon_gets_what_it_lacks(
    daemon: ScriptedDaemon, tmp_path: Path, final: MakeFinal, samples: int
) -> None:
    audio = np.arange(24_000, dtype=np.int16)
    path = tmp_path / "a.wav"
    soundfile.write(path, audio, 8_000)
    requests = []

    async def first(connection: ScriptedConnection) -> None:
        await broken_off(connection, final("one"))

    async def second(connection: ScriptedConnection) -> None:
        requests.append(await resuming(connection, daemon, samples, 0))
        connection.audio = audio[:samples].tobytes()
        await connection.finish(final("two", utterance=1))

    daemon.scripts = [first, second]
    finals = await transcribe_file(daemon.url, Start(), SoundFile(path), backoff=quick())
    assert [each.text for each in finals] == ["one", "two"]
    assert requests == [{"type": "resume", "token": "the-token", "seq": 2}]
    assert daemon.connections[1].audio == audio.tobytes()


async def test_stop_is_not_sent_twice(daemon: ScriptedDaemon, file: SoundFile, final: MakeFinal) -> None:
    rest: list[object] = []

    async def first(connection: ScriptedConnection) -> None:
        await connection.open(resume="the-token", resume_for_ms=30_000)
        while isinstance(await connection.socket.recv(), bytes):
            pass
        connection.socket.transport.abort()

    async def second(connection: ScriptedConnection) -> None:
        await resuming(connection, daemon, 24_000, 1)
        await connection.send(final("one"), Done(audio_ms=3_000))
        rest.extend([message async for message in connection.socket])

    daemon.scripts = [first, second]
    finals = await transcribe_file(daemon.url, Start(), file, backoff=quick())
    assert [each.text for each in finals] == ["one"]
    assert rest == []


async def test_a_session_that_is_gone_begins_anew(
    daemon: ScriptedDaemon, file: SoundFile, final: MakeFinal
) -> None:
    async def first(connection: ScriptedConnection) -> None:
        await broken_off(connection, final("one"))

    async def unknown(connection: ScriptedConnection) -> None:
        await connection.socket.recv()
        await connection.send(Error(code="unknown_session", message="none", fault="client"))

    async def whole(connection: ScriptedConnection) -> None:
        await connection.open()
        await connection.finish(final("one"), final("two", utterance=1))

    daemon.scripts = [first, unknown, whole]
    finals = await transcribe_file(daemon.url, Start(), file, backoff=quick())
    assert [each.text for each in finals] == ["one", "two"]
    assert daemon.connections[2].received_ms == 3_000


async def test_attempts_are_limited(daemon: ScriptedDaemon, file: SoundFile) -> None:
    async def full(connection: ScriptedConnection) -> None:
        await connection.socket.recv()
        await connection.send(Error(code="overloaded", message="full", fault="server", retry_after_ms=1))

    daemon.scripts = [full, full]
    with pytest.raises(DaemonError, match="full"):
        await transcribe_file(daemon.url, Start(), file, tries=2, backoff=quick())
    assert len(daemon.connections) == 2


async def test_a_client_error_is_not_retried(daemon: ScriptedDaemon, file: SoundFile) -> None:
    async def refuses(connection: ScriptedConnection) -> None:
        await connection.socket.recv()
        await connection.send(Error(code="bad_message", message="no such hotword", fault="client"))

    daemon.scripts = [refuses]
    with pytest.raises(DaemonError, match="no such hotword"):
        await transcribe_file(daemon.url, Start(), file)
    assert len(daemon.connections) == 1


async def test_a_partly_recognised_file_raises_an_error(
    daemon: ScriptedDaemon, tmp_path: Path, final: MakeFinal
) -> None:
    path = tmp_path / "long.wav"
    soundfile.write(path, np.zeros(48_000 * 300, dtype=np.int16), 48_000)

    async def drains(connection: ScriptedConnection) -> None:
        await connection.open()
        await connection.receive_audio(1)
        await connection.send(final("half"), Done(audio_ms=10))
        async for _ in connection.socket:  # a draining daemon ignores its client
            pass

    daemon.scripts = [drains]
    with pytest.raises(ConnectionFailed, match="in the middle of the file"):
        await transcribe_file(daemon.url, Start(), SoundFile(path), tries=1)


async def test_sending_waits_for_the_daemon(
    daemon: ScriptedDaemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A daemon that does not read holds the sender back: most of the file stays unread.

    How much fits into the buffers depends on the kernel, but not on time: the client's transport reports when they
    are full, and a sender that ignored it would send a block in each of the event loop's next turns.
    """
    path = tmp_path / "long.wav"
    soundfile.write(path, np.zeros(48_000 * 600, dtype=np.int16), 48_000)
    progress: list[int] = []
    full = asyncio.Event()

    def pause_writing(connection: ClientConnection) -> None:
        Connection.pause_writing(connection)
        full.set()

    monkeypatch.setattr(ClientConnection, "pause_writing", pause_writing)

    async def stops_reading(connection: ScriptedConnection) -> None:
        await connection.open()
        connection.socket.transport.pause_reading()
        await full.wait()
        for _ in range(2 * 600_000 // BLOCK_MS):
            await asyncio.sleep(0)
        connection.socket.transport.abort()

    daemon.scripts = [stops_reading]
    with pytest.raises(ConnectionFailed):
        await transcribe_file(daemon.url, Start(), SoundFile(path), tries=1, on_progress=progress.append)
    assert 0 < progress[-1] < 300_000


async def test_a_file_with_an_unusable_sample_is_reported(daemon: ScriptedDaemon, tmp_path: Path) -> None:
    async def script(connection: ScriptedConnection) -> None:
        await connection.open()
        await connection.finish()

    daemon.scripts = [script]
    samples = np.zeros(200_000, dtype=np.float32)
    samples[150_000] = np.nan
    path = tmp_path / "a.wav"
    soundfile.write(path, samples, 8_000, subtype="FLOAT")
    with pytest.raises(DataError, match=r"a\.wav: sample 150000 of channel 1 \(18\.750 s\) is nan"):
        await transcribe_file(daemon.url, Start(), SoundFile(path))


async def test_a_damaged_file_is_recognised_up_to_the_damage(
    daemon: ScriptedDaemon, tmp_path: Path, final: MakeFinal
) -> None:
    async def script(connection: ScriptedConnection) -> None:
        await connection.open()
        await connection.finish(final("half"))

    daemon.scripts = [script]
    path = tmp_path / "a.flac"
    soundfile.write(path, np.random.default_rng(1).uniform(-0.5, 0.5, 80_000), 8_000)
    path.write_bytes(path.read_bytes()[:-20_000])
    file = SoundFile(path)
    finals = await transcribe_file(daemon.url, Start(), file)
    assert [each.text for each in finals] == ["half"]
    assert file.incomplete_at_s is not None
    assert 8 < file.incomplete_at_s < 10
    assert daemon.connections[0].received_ms == round(file.incomplete_at_s * 1_000)
