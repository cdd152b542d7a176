"""Test that the certificate can be exchanged while the daemon runs, with two real certificates."""

import asyncio
import hashlib
import os
import shutil
import signal
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection, connect

from streamasr.protocol.messages import Start
from streamasr.protocol.serialisation import encode
from streamasr.service.config import ServerConfig
from streamasr.service.server import CaptionServer
from streamasr.service.tls import Certificate
from tests.service.conftest import Launch, make_certificate
from tests.service.fake import FakeEngine
from tests.service.test_daemon import Run

DAY_S = 86_400


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """Two certificates with their keys."""
    folders = tmp_path / "first", tmp_path / "second"
    for folder in folders:
        folder.mkdir()
    return make_certificate(folders[0]), make_certificate(folders[1])


def fingerprint(file: Path) -> str:
    pem = file.read_text()
    begin = pem.index("-----BEGIN CERTIFICATE")
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem[begin:])).hexdigest()


@asynccontextmanager
async def client_of(url: str, server_name: str | None = "localhost") -> AsyncIterator[ClientConnection]:
    """Connect without a check of the certificate; ``None`` names no host in the handshake."""
    trust = ssl.create_default_context()
    trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
    # An IP address is not sent as a name.
    async with connect(url, proxy=None, ssl=trust, server_hostname=server_name or "127.0.0.1") as client:
        yield client


async def shown_to(url: str, server_name: str | None = "localhost") -> str:
    """The fingerprint of the certificate that a new connection is shown."""
    async with client_of(url, server_name) as client:
        socket = client.transport.get_extra_info("ssl_object")
        return hashlib.sha256(socket.getpeercert(binary_form=True)).hexdigest()


async def until_shown(url: str, file: Path) -> None:
    """Connect again and again until the certificate in ``file`` is shown."""
    async with asyncio.timeout(30):
        while True:
            if await shown_to(url) == fingerprint(file):
                return
            await asyncio.sleep(0.05)


def replace(target: Path, source: Path) -> None:
    """Replace a file at once, as programs that renew certificates do."""
    new = target.with_suffix(".new")
    shutil.copy(source, new)
    new.replace(target)


@pytest.mark.parametrize("server_name", ["localhost", None])
async def test_new_connections_get_the_new_certificate_and_old_ones_go_on(
    launch: Launch, files: tuple[Path, Path], tmp_path: Path, server_name: str | None
) -> None:
    served = tmp_path / "served.pem"
    replace(served, files[0])
    harness = await launch(tls_cert=served, tls_key=served)
    url = harness.server.stream_url
    assert await shown_to(url, server_name) == fingerprint(files[0])
    async with client_of(url, server_name) as client:
        await client.send(encode(Start()))
        assert "ready" in str(await client.recv())
        replace(served, files[1])
        harness.server.reload_certificate()
        assert await shown_to(url, server_name) == fingerprint(files[1]) != fingerprint(files[0])
        await client.send(b"ab")
        await (await client.ping())
        assert harness.engine.sessions[0].audio == b"ab"


async def test_a_changed_file_is_noticed_without_a_signal(
    launch: Launch, files: tuple[Path, Path], tmp_path: Path
) -> None:
    served = tmp_path / "served.pem"
    replace(served, files[0])
    harness = await launch(tls_cert=served, tls_key=served, tls_reload_s=0.05)
    replace(served, files[1])
    await until_shown(harness.server.stream_url, files[1])


async def test_an_unusable_file_leaves_the_certificate_in_use(
    launch: Launch, files: tuple[Path, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    served, key = tmp_path / "served.pem", tmp_path / "key.pem"
    replace(served, files[0])
    replace(key, files[0])
    harness = await launch(tls_cert=served, tls_key=key)
    replace(served, files[1])  # without its key: the renewal is half done
    harness.server.reload_certificate()
    assert await shown_to(harness.server.stream_url) == fingerprint(files[0])
    refused = [record for record in caplog.records if record.getMessage() == "certificate_refused"]
    assert len(refused) == 1
    assert f"tls_cert {served}, tls_key {key}" in str(vars(refused[0])["fields"]["reason"])
    replace(key, files[1])
    harness.server.reload_certificate()
    assert await shown_to(harness.server.stream_url) == fingerprint(files[1])


async def test_sighup_reloads_the_certificate(files: tuple[Path, Path], tmp_path: Path) -> None:
    served = tmp_path / "served.pem"
    replace(served, files[0])
    run = Run(ServerConfig(port=0, tls_cert=served, tls_key=served), FakeEngine(), {})
    server: CaptionServer = await run.ready()
    replace(served, files[1])
    os.kill(os.getpid(), signal.SIGHUP)
    await until_shown(server.stream_url, files[1])
    os.kill(os.getpid(), signal.SIGTERM)
    assert await run.task == 0


async def test_a_client_that_begins_no_handshake_is_dropped(launch: Launch, certificate: Path) -> None:
    harness = await launch(tls_cert=certificate, tls_key=certificate, start_timeout_s=0.2)
    reader, writer = await asyncio.open_connection("127.0.0.1", harness.port)
    async with asyncio.timeout(30):  # asyncio's own limit is 60 s
        assert await reader.read() == b""
    writer.close()


async def test_the_end_of_the_certificate_is_a_metric(
    launch: Launch, files: tuple[Path, Path], tmp_path: Path
) -> None:
    served = tmp_path / "served.pem"
    replace(served, files[0])
    harness = await launch(tls_cert=served, tls_key=served)
    registry = harness.server.metrics.registry
    name = "streamasr_certificate_expiry_timestamp_seconds"
    first = registry.get_sample_value(name, {"cert": str(served)})
    assert first == pytest.approx(time.time() + 30 * DAY_S, abs=600)
    (tmp_path / "longer").mkdir()
    replace(served, make_certificate(tmp_path / "longer", days=60))
    harness.server.reload_certificate()
    second = registry.get_sample_value(name, {"cert": str(served)})
    assert second == pytest.approx(time.time() + 60 * DAY_S, abs=600)


def test_an_overdue_renewal_is_logged_once_a_day(
    files: tuple[Path, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    served = tmp_path / "served.pem"
    replace(served, files[0])
    certificate = Certificate(served, served)
    assert certificate.validity is not None
    end = certificate.validity.end_s
    certificate.remind(end - 6 * DAY_S)  # a sixth of 30 days is 5
    assert caplog.records == []
    for now in (end - 4 * DAY_S, end - 4 * DAY_S + 60, end - 3.5 * DAY_S):
        certificate.remind(now)
    (record,) = caplog.records
    assert record.getMessage() == "certificate_expires"
    assert vars(record)["fields"] == {"cert": served, "valid_until": certificate.valid_until}
    certificate.remind(end - 2 * DAY_S)
    certificate.remind(end - 4 * DAY_S)  # the clock was set back
    certificate.remind(end + 1)
    assert len(caplog.records) == 4
