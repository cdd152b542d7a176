"""Test the daemon's process with a fake engine: readiness, watchdog and signals."""

import asyncio
import errno
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect

from streamasr.errors import ConfigError, ModelError
from streamasr.protocol.messages import Done, Start
from streamasr.protocol.serialisation import encode, parse_server_message
from streamasr.service import daemon
from streamasr.service.config import ServerConfig
from streamasr.service.daemon import EXIT_ENGINE_LOST, run_daemon
from streamasr.service.server import CaptionServer
from tests.service.fake import FakeEngine


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """The service manager's end of the notify socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(str(tmp_path / "notify"))
        end.setblocking(False)
        yield end


def received_lines(manager: socket.socket) -> list[str]:
    """Return all lines that the manager has received."""
    lines: list[str] = []
    while True:
        try:
            lines += manager.recv(4_096).decode().splitlines()
        except BlockingIOError:
            return lines


class Run:
    """A daemon that runs in this process."""

    def __init__(
        self,
        config: ServerConfig,
        engine: FakeEngine,
        environment: dict[str, str],
        load: Callable[[], FakeEngine] | None = None,
    ) -> None:
        self._announced: asyncio.Future[CaptionServer] = asyncio.get_running_loop().create_future()
        running = run_daemon(config, load or (lambda: engine), self._announced.set_result, environment)
        self.task = asyncio.create_task(running)

    async def ready(self) -> CaptionServer:
        ended_or_ready: list[asyncio.Future[Any]] = [self.task, self._announced]
        await asyncio.wait(ended_or_ready, return_when=asyncio.FIRST_COMPLETED)
        return self._announced.result()


async def test_the_daemon_reports_its_states_to_systemd(manager: socket.socket) -> None:
    environment = {"NOTIFY_SOCKET": str(manager.getsockname()), "WATCHDOG_USEC": "600000000"}
    engine = FakeEngine()
    run = Run(ServerConfig(port=0), engine, environment)
    server = await run.ready()
    async with connect(server.stream_url, proxy=None) as client:
        await client.send(encode(Start()))
        await client.recv()
        os.kill(os.getpid(), signal.SIGTERM)
        types = [parse_server_message(str(text)).type async for text in client]
    assert types == ["warning", "done"]
    assert await run.task == 0
    assert engine.closed
    lines = received_lines(manager)
    order = ["STATUS=loading the model", "READY=1", "WATCHDOG=1", "STOPPING=1"]
    assert [line for line in lines if line in order] == order


async def test_a_stalled_engine_gets_no_watchdog_pings(manager: socket.socket) -> None:
    environment = {"NOTIFY_SOCKET": str(manager.getsockname()), "WATCHDOG_USEC": "1000000"}
    engine = FakeEngine()
    engine.last_heartbeat -= 2
    run = Run(ServerConfig(port=0), engine, environment)
    server = await run.ready()
    async with connect(server.stream_url, proxy=None):
        os.kill(os.getpid(), signal.SIGTERM)
        await run.task
    lines = received_lines(manager)
    assert "STATUS=0 sessions" in lines
    assert "WATCHDOG=1" not in lines


async def test_the_process_ends_when_the_engine_has_ended(
    manager: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    engine = FakeEngine()
    run = Run(ServerConfig(port=0), engine, {"NOTIFY_SOCKET": str(manager.getsockname())})
    server = await run.ready()
    async with connect(server.stream_url, proxy=None) as client:
        await client.send(encode(Start()))
        await client.recv()
        engine.alive = False
        await client.wait_closed()
        assert client.close_code == 1001
    assert await run.task == EXIT_ENGINE_LOST == 3
    assert engine.closed
    assert "engine_lost" in caplog.text
    assert "STOPPING=1" in received_lines(manager)


async def test_an_engine_that_hangs_ends_the_process(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As with a device that never answers: neither a step nor the end of the engine comes."""
    monkeypatch.setattr(daemon, "_ENGINE_CHECK_S", 0.01)
    monkeypatch.setattr(daemon, "_ENGINE_STOP_S", 0.01)
    engine, released = FakeEngine(), threading.Event()
    engine.close = released.wait  # type: ignore[method-assign, assignment]
    run = Run(ServerConfig(port=0, lost_s=60), engine, {})
    server = await run.ready()
    async with connect(server.stream_url, proxy=None) as client:
        engine.last_heartbeat -= 61
        await client.wait_closed()
        assert client.close_code == 1001
    assert await run.task == EXIT_ENGINE_LOST
    assert [each for each in ("engine_lost", "engine_hangs") if each not in caplog.text] == []
    released.set()


async def test_an_engine_that_was_silent_for_a_moment_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """As after SIGSTOP and SIGCONT, when the check may come before the engine's next heartbeat."""
    monkeypatch.setattr(daemon, "_ENGINE_CHECK_S", 0.01)
    stop = asyncio.Event()

    class Engine(FakeEngine):
        checks = 0

        @property
        def last_heartbeat(self) -> float:
            self.checks += 1
            if self.checks == 40:
                stop.set()
            return time.monotonic() - (0 if self.checks % daemon._SILENT_CHECKS == 0 else 1_000)

        @last_heartbeat.setter
        def last_heartbeat(self, _: float) -> None:
            pass

    assert await daemon._stopped_before_the_engine(stop, Engine(), lost_s=60)


class SlowLoading:
    """Makes an engine, but only when ``released`` is set."""

    def __init__(self) -> None:
        self.begun, self.released = threading.Event(), threading.Event()

    def __call__(self) -> FakeEngine:
        self.begun.set()
        self.released.wait()
        return FakeEngine()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_while_the_model_is_loaded_ends_the_daemon_at_once(number: signal.Signals) -> None:
    """Also as the first process of a container, for which the kernel has no default action."""
    loading = SlowLoading()
    run = Run(ServerConfig(port=0), FakeEngine(), {}, loading)
    await asyncio.to_thread(loading.begun.wait)
    os.kill(os.getpid(), number)
    async with asyncio.timeout(60):
        assert await run.task == 0
    loading.released.set()


async def test_sighup_while_the_model_is_loaded_ends_no_service(manager: socket.socket) -> None:
    loading = SlowLoading()
    run = Run(ServerConfig(port=0), FakeEngine(), {"NOTIFY_SOCKET": str(manager.getsockname())}, loading)
    await asyncio.to_thread(loading.begun.wait)
    os.kill(os.getpid(), signal.SIGHUP)
    loading.released.set()
    await run.ready()
    os.kill(os.getpid(), signal.SIGTERM)
    assert await run.task == 0


async def test_connections_that_cannot_be_accepted_do_not_fill_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Without file descriptors, asyncio reports a hundred errors a second."""
    report, loop = daemon._LoopErrors(), asyncio.get_running_loop()
    lacking = OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    for _ in range(100):
        report(loop, {"message": "socket.accept() out of system resource", "exception": lacking})
    assert [record.getMessage() for record in caplog.records] == ["accept_failed"]
    report(loop, {"message": "Task exception was never retrieved", "exception": OSError(5, "another")})
    assert "Task exception was never retrieved" in caplog.text


async def test_a_second_signal_stops_at_once() -> None:
    engine = FakeEngine()
    run = Run(ServerConfig(port=0, drain_timeout_s=600), engine, {})
    server = await run.ready()
    async with connect(server.stream_url, proxy=None) as client:
        await client.send(encode(Start()))
        await client.recv()
        engine.sessions[0].stop = lambda: None  # type: ignore[method-assign]
        os.kill(os.getpid(), signal.SIGINT)
        assert parse_server_message(str(await client.recv())).type == "warning"
        os.kill(os.getpid(), signal.SIGINT)
        await client.wait_closed()
        assert client.close_code == 1001
    assert await run.task == 1
    assert engine.closed


async def test_a_port_in_use_is_reported_before_the_model_is_loaded() -> None:
    def never() -> FakeEngine:
        raise AssertionError("the model was loaded first")

    with socket.create_server(("127.0.0.1", 0)) as taken:
        config = ServerConfig(port=taken.getsockname()[1])
        with pytest.raises(
            ConfigError, match=r"cannot listen on 127\.0\.0\.1 port .*is a daemon running already"
        ):
            await run_daemon(config, never, lambda server: None, {})


async def test_an_error_while_loading_the_model_is_raised() -> None:
    def broken() -> FakeEngine:
        raise ModelError("no such model")

    with pytest.raises(ModelError, match="no such model"):
        await run_daemon(ServerConfig(port=0), broken, lambda server: None, {})


async def test_a_passed_socket_needs_a_token_too(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("0.0.0.0", 0)) as listener:
        fd = os.dup(listener.fileno())
        monkeypatch.setattr("streamasr.service.sdnotify._FIRST_FD", fd)
        environment = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
        with pytest.raises(ConfigError, match=r"refusing to listen on 0\.0\.0\.0 without a token"):
            await run_daemon(ServerConfig(), FakeEngine, lambda server: None, environment)


async def test_connections_wait_for_the_successor_while_a_daemon_with_a_passed_socket_drains(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As with a socket unit: the manager keeps the listener, and passes it to the next process."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        environment = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
        monkeypatch.setattr("streamasr.service.sdnotify._FIRST_FD", os.dup(listener.fileno()))
        engine = FakeEngine()
        first = Run(ServerConfig(), engine, environment)
        server = await first.ready()
        url = server.stream_url
        async with connect(url, proxy=None) as client:
            await client.send(encode(Start()))
            await client.recv()
            engine.sessions[0].stop = lambda: None  # type: ignore[method-assign]
            os.kill(os.getpid(), signal.SIGTERM)
            assert parse_server_message(str(await client.recv())).type == "warning"
            early = asyncio.create_task(health(listener.getsockname()[1]))
            await asyncio.sleep(0)
            engine.sessions[0].emit(Done(audio_ms=0))
            await client.wait_closed()
        assert await first.task == 0
        assert not early.done()
        late = asyncio.create_task(health(listener.getsockname()[1]))
        monkeypatch.setattr("streamasr.service.sdnotify._FIRST_FD", os.dup(listener.fileno()))
        second = Run(ServerConfig(), FakeEngine(), environment)
        await second.ready()
        async with asyncio.timeout(30):
            assert {await early, await late} == {"HTTP/1.1 200 OK"}
        os.kill(os.getpid(), signal.SIGTERM)
        assert await second.task == 0


async def health(port: int) -> str:
    """Ask for the health of the daemon; return the first line of the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
    line = await reader.readline()
    writer.close()
    return line.decode().strip()


async def test_a_request_that_comes_late_is_still_answered() -> None:
    run = Run(ServerConfig(port=0), FakeEngine(), {})
    server = await run.ready()
    port = int(server.page_url.rsplit(":", 1)[1].rstrip("/"))
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    async with asyncio.timeout(30):
        while True:
            await asyncio.sleep(0.01)
            if server._waiting:
                break
    closing = asyncio.create_task(server.close())
    await asyncio.sleep(0)
    writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
    assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
    writer.close()
    await closing
    os.kill(os.getpid(), signal.SIGTERM)
    assert await run.task == 0


async def test_a_passed_socket_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        monkeypatch.setattr("streamasr.service.sdnotify._FIRST_FD", os.dup(listener.fileno()))
        environment = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
        run = Run(ServerConfig(port=1), FakeEngine(), environment)
        server = await run.ready()
        assert str(listener.getsockname()[1]) in server.stream_url
        os.kill(os.getpid(), signal.SIGTERM)
        assert await run.task == 0
