"""Test three daemons behind HAProxy, with the configuration of ``deploy/haproxy/cluster.cfg``."""

from __future__ import annotations

import asyncio
import re
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from websockets.asyncio.client import connect

from streamasr.protocol.messages import Done, Ready, Start
from streamasr_client.connection import Backoff, Session, open_session, resume_session
from streamasr_client.errors import DaemonError
from streamasr_client.live import LiveEvent, LiveStream
from tests.client.scripted import ListSource
from tests.service.conftest import Harness, Launch
from tests.service.fake import FakeEngine
from tests.service.test_proxies import DEPLOY, START_S, find_program, free_port, wait_until_open

CONFIGURATION = DEPLOY / "haproxy" / "cluster.cfg"
NAMES = ("a", "b", "c")
DAEMONS = len(NAMES)
TRIES = 20
BLOCKS = [bytes([number]) * 3_200 for number in (1, 2)]
"""100 ms each."""


@dataclass(frozen=True)
class Cluster:
    """The daemons and the address of the proxy in front of them."""

    daemons: list[Harness]
    url: str
    context: ssl.SSLContext

    def of(self, session: str) -> Harness:
        """The daemon that opened a session."""
        (daemon,) = (d for d in self.daemons if session in {s.id for s in d.engine.sessions})
        return daemon


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(START_S):
        while not condition():  # noqa: ASYNC110 - other processes give no event
            await asyncio.sleep(0.02)


@pytest.fixture
def start_haproxy(tmp_path: Path, certificate: Path) -> Iterator[Callable[[list[int]], int]]:
    """Starts the shipped configuration, in which only addresses and the certificate are replaced."""
    program = find_program("haproxy")
    with ExitStack() as stack:

        def start(daemon_ports: list[int]) -> int:
            port = free_port()
            text = CONFIGURATION.read_text(encoding="utf-8")
            for pattern, value in (
                (r"bind :443\b", f"bind 127.0.0.1:{port}"),
                (r"/etc/ssl/captions\.pem", str(certificate)),
                *((rf"192\.0\.2\.{n}:8765\b", f"127.0.0.1:{p}") for n, p in enumerate(daemon_ports, 1)),
            ):
                text, count = re.subn(pattern, value, text)
                assert count == 1, pattern
            (tmp_path / "haproxy.cfg").write_text(text)
            command = [program, "-db", "-f", str(tmp_path / "haproxy.cfg")]
            process = stack.enter_context(subprocess.Popen(command, stderr=subprocess.PIPE, text=True))
            stack.callback(process.terminate)
            wait_until_open(process, port)
            return port

        yield start


@pytest.fixture
async def cluster(
    launch: Launch,
    start_haproxy: Callable[[list[int]], int],
    certificate: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Cluster:
    """Three daemons behind HAProxy; clients trust its certificate."""
    daemons = [await launch(FakeEngine(name=name)) for name in NAMES]
    port = await asyncio.to_thread(start_haproxy, [daemon.port for daemon in daemons])
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    context = ssl.create_default_context(cafile=str(certificate))
    return Cluster(daemons, f"wss://127.0.0.1:{port}/v1/stream", context)


async def open_and_break(cluster: Cluster) -> Session:
    """Return a session whose connection is broken."""
    async with open_session(cluster.url, Start()) as session:
        session.abort()
    return session


async def resume_and_break(cluster: Cluster, broken: Session) -> Session:
    async with resume_session(cluster.url, broken) as session:
        session.abort()
    return session


async def test_sessions_are_spread_and_each_is_resumed_by_its_own_daemon(cluster: Cluster) -> None:
    served = set()
    for _ in range(2 * DAEMONS):
        session = await open_and_break(cluster)
        served.add(cluster.of(session.ready.session).port)
        for _ in range(3):
            session = await resume_and_break(cluster, session)
            assert session.resumed is not None
            assert session.resumed.session == session.ready.session
    assert len(served) == DAEMONS


async def test_without_its_cookie_a_session_is_not_always_found(cluster: Cluster) -> None:
    """So the test above shows that cookies lead to the daemon."""

    async def resume_without_cookies() -> None:
        for _ in range(TRIES):
            session = await open_and_break(cluster)
            session.cookies = ""
            await resume_and_break(cluster, session)

    with pytest.raises(DaemonError) as caught:
        await resume_without_cookies()
    assert caught.value.code == "unknown_session"


async def test_the_cookie_names_no_address_and_is_kept_from_scripts(cluster: Cluster) -> None:
    async with connect(cluster.url, ssl=cluster.context, proxy=None) as socket:
        assert socket.response is not None
        cookie = socket.response.headers["Set-Cookie"]
    name, *attributes = cookie.split("; ")
    assert name in {f"streamasr_daemon={each}" for each in NAMES}
    assert {"HttpOnly", "Secure", "SameSite=None"} <= set(attributes)


async def test_new_sessions_pass_by_a_daemon_that_drains(cluster: Cluster) -> None:
    """Even before the health check notices it."""
    drained = cluster.daemons[0]
    await drained.server.drain()
    for _ in range(2 * DAEMONS):
        async with open_session(cluster.url, Start()) as session:
            assert cluster.of(session.ready.session) is not drained


async def test_a_stream_goes_on_at_another_daemon(cluster: Cluster) -> None:
    source = ListSource(BLOCKS[0])
    events: list[LiveEvent] = []

    async def listen() -> None:
        stream = LiveStream(cluster.url, Start(), source, backoff=Backoff(first_ms=10))
        async for event in stream.events():
            events.append(event)

    def readies() -> list[Ready]:
        return [event for event in events if isinstance(event, Ready)]

    listening = asyncio.create_task(listen())
    await until(lambda: len(readies()) == 1)
    first = cluster.of(readies()[0].session)
    await until(lambda: first.engine.sessions[0].audio == BLOCKS[0])
    await asyncio.gather(first.server.drain(), until(lambda: len(readies()) == 2))
    second = cluster.of(readies()[1].session)
    assert second is not first
    await second.server.close()
    source.give(BLOCKS[1])
    await until(lambda: len(readies()) == 3)
    third = cluster.of(readies()[2].session)
    assert third not in (first, second)
    source.stop()
    await asyncio.wait_for(listening, START_S)
    assert third.engine.sessions[-1].audio == BLOCKS[1]
    assert events[-1] == Done(audio_ms=200)
