"""Test the daemon behind nginx, HAProxy and Caddy, with the configurations of ``deploy/`` and TLS at the proxy."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from streamasr.protocol.messages import Start, Stop
from streamasr.service.assets import load_assets
from tests.service.conftest import Client, Harness, Launch

DEPLOY = Path(__file__).parents[2] / "deploy"
SECRET = "a-secret-of-some-length"
START_S = 20

NGINX = """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/site.conf;
}}
"""

CADDY = """
{
	admin off
	auto_https disable_redirects
	log {
		output discard
	}
}
"""


@dataclass(frozen=True)
class Proxy:
    """A proxy in front of a server, at a path that ends with a slash."""

    name: str
    port: int
    path: str
    context: ssl.SSLContext

    @property
    def origin(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def stream(self) -> str:
        return f"wss://127.0.0.1:{self.port}{self.path}v1/stream"

    def http(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.origin, verify=self.context, trust_env=False, timeout=START_S)


def find_program(name: str) -> str:
    """Return the path of a proxy; the test is skipped if there is none."""
    program = shutil.which(name, path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
    if program is None:
        pytest.skip(f"{name} is not installed (Debian: apt install {name})")
    return program


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_open(process: subprocess.Popen[str], port: int) -> None:
    while process.poll() is None:
        with socket.socket() as probe:
            probe.settimeout(START_S)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
    pytest.fail(f"the proxy did not start:\n{process.communicate()[1]}")


StartProxy = Callable[[Harness], Proxy]


@pytest.fixture(
    params=[
        "nginx/site.conf",
        "nginx/prefix.conf",
        "haproxy/site.cfg",
        "haproxy/prefix.cfg",
        "haproxy/compose.cfg",
        "caddy/site.Caddyfile",
        "caddy/prefix.Caddyfile",
    ]
)
def start_proxy(request: pytest.FixtureRequest, tmp_path: Path, certificate: Path) -> Iterator[StartProxy]:
    """Starts a proxy with a file of ``deploy/``, in which only ports and the certificate are replaced."""
    name, _, _ = request.param.partition("/")
    program = find_program(name)
    with ExitStack() as stack:

        def start(harness: Harness) -> Proxy:
            port = free_port()
            text = (DEPLOY / request.param).read_text(encoding="utf-8")
            changes = [(r"(127\.0\.0\.1|streamasr):8765\b", f"127.0.0.1:{harness.port}")]
            if name == "caddy":  # which would get a certificate of its own
                site = f":{port} {{\n\ttls {certificate} {certificate}"
                changes += [(r"(?m)^\w+\.example\.org \{", site)]
            else:
                changes += [(r"(listen |bind :)443\b", rf"\g<1>{port}")]
                changes += [(r"/etc/ssl/captions\.(pem|key)", str(certificate))]
            for pattern, value in changes:
                text, count = re.subn(pattern, value, text)
                assert count, pattern
            if name == "nginx":
                (tmp_path / "site.conf").write_text(text)
                (tmp_path / "main").write_text(NGINX.format(folder=tmp_path))
                command = [
                    program,
                    "-p",
                    str(tmp_path),
                    "-e",
                    str(tmp_path / "error.log"),
                    "-c",
                    str(tmp_path / "main"),
                ]
            elif name == "haproxy":
                (tmp_path / "main").write_text(text)
                command = [program, "-db", "-f", str(tmp_path / "main")]
            else:
                (tmp_path / "main").write_text(CADDY + text)
                command = [program, "run", "--adapter", "caddyfile", "--config", str(tmp_path / "main")]
            environment = {**os.environ, "HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path)}
            process = stack.enter_context(
                subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
            )
            stack.callback(process.terminate)
            wait_until_open(process, port)
            path = "/captions/" if "prefix" in request.param else "/"
            return Proxy(name, port, path, ssl.create_default_context(cafile=str(certificate)))

        yield start


def test_the_documentation_quotes_the_files_that_are_tested() -> None:
    page = (DEPLOY.parent / "docs" / "proxies.md").read_text(encoding="utf-8")
    quoted = re.findall(r"`deploy/(\S+)`:\n\n```\w+\n(.*?)```", page, re.DOTALL)
    folders = (DEPLOY / "haproxy", DEPLOY / "nginx", DEPLOY / "caddy")
    files = {
        str(path.relative_to(DEPLOY)): path.read_text(encoding="utf-8")
        for folder in folders
        for path in folder.iterdir()
        if path.name not in ("cluster.cfg", "compose.cfg")  # docs/deployment.md explains them
    }
    assert dict(quoted) == files
    assert len(files) == 6


def test_compose_has_the_configuration_of_the_documentation() -> None:
    site, compose = (
        (DEPLOY / "haproxy" / name).read_text(encoding="utf-8").partition("\n")[2]
        for name in ("site.cfg", "compose.cfg")
    )
    assert compose == site.replace("127.0.0.1:8765", "streamasr:8765")


@pytest.mark.parametrize(
    ("folder", "setting"), [("haproxy", "timeout server"), ("nginx", "proxy_read_timeout")]
)
def test_proxies_wait_for_the_answer_to_a_long_upload(folder: str, setting: str) -> None:
    """It comes when the recording has been recognised: minutes after the last byte. Caddy waits without a limit."""
    for path in (DEPLOY / folder).iterdir():
        assert re.findall(rf"{setting} (\w+)", path.read_text(encoding="utf-8")) == ["1h"], path


async def test_the_page_and_its_files(launch: Launch, start_proxy: StartProxy) -> None:
    proxy = start_proxy(await launch())
    async with proxy.http() as client:
        bare = await client.get(proxy.path.rstrip("/") or "/")
        if proxy.path != "/":
            assert (bare.status_code, bare.headers["Location"]) == (301, proxy.path)
        for path, asset in load_assets().items():
            answer = await client.get(proxy.path + path.removeprefix("/"))
            assert (answer.status_code, answer.content) == (200, asset.body), path


async def test_a_session_of_a_page(launch: Launch, start_proxy: StartProxy) -> None:
    proxy = start_proxy(await launch())
    origin = {"Origin": proxy.origin}
    async with proxy.http() as http:
        check = await http.post(f"{proxy.path}v1/check", headers=origin)
        assert check.json() == {"accepted": True}
    async with connect(proxy.stream, ssl=proxy.context, proxy=None, additional_headers=origin) as socket_:
        client = Client(socket_)
        await client.send(Start())
        assert (await client.receive()).type == "ready"
        await client.send(bytes(320_000))
        await client.send(Stop())
        (done,) = await client.rest()
        assert (done.type, await client.close_code()) == ("done", 1000)


async def test_a_public_name_needs_a_token_and_its_port_is_passed_on(
    launch: Launch, start_proxy: StartProxy
) -> None:
    harness = await launch(token=SECRET)
    proxy = start_proxy(harness)
    host = f"captions.example.org:{proxy.port}"
    async with proxy.http() as http:
        for origin, accepted in ((f"https://{host}", True), ("https://captions.example.org", False)):
            headers = {"Host": host, "Origin": origin}
            check = await http.post(f"{proxy.path}v1/check", headers=headers)
            assert check.json()["accepted"] is accepted
        minted = await http.post(f"{proxy.path}v1/token", headers={"Authorization": f"Bearer {SECRET}"})
        token = minted.json()["token"]
    async with connect(f"{proxy.stream}?token={token}", ssl=proxy.context, proxy=None) as socket_:
        await socket_.send(json.dumps({"type": "start"}))
        assert json.loads(await socket_.recv())["type"] == "ready"
    with pytest.raises(InvalidStatus, match="401"):
        await connect(f"{proxy.stream}?token=wrong", ssl=proxy.context, proxy=None)


async def test_the_clients_address_is_passed_on(launch: Launch, start_proxy: StartProxy) -> None:
    """The clients of the test are at a trusted address, too, so what they say about themselves counts.

    Caddy drops it.
    """
    harness = await launch(token=SECRET, max_failed_tokens=1, trusted_proxies=("127.0.0.1",))
    proxy = start_proxy(harness)

    async def connect_from(address: str, token: str) -> None:
        forwarded = {"X-Forwarded-For": address}
        url = f"{proxy.stream}?token={token}"
        async with connect(url, ssl=proxy.context, proxy=None, additional_headers=forwarded):
            pass

    for status in ("401", "429"):
        with pytest.raises(InvalidStatus, match=status):
            await connect_from("203.0.113.9", "wrong")
    if proxy.name == "caddy":
        with pytest.raises(InvalidStatus, match="429"):
            await connect_from("203.0.113.10", SECRET)
    else:
        await connect_from("203.0.113.10", SECRET)


async def test_a_large_upload_reaches_the_daemon(launch: Launch, start_proxy: StartProxy) -> None:
    """nginx refuses more than 1 MB by default."""
    proxy = start_proxy(await launch(token=SECRET))
    async with proxy.http() as http:
        answer = await http.post(f"{proxy.path}transcribe", content=bytes(3_000_000))
    assert answer.status_code == 401


async def test_a_client_that_leaves_is_noticed(launch: Launch, start_proxy: StartProxy) -> None:
    harness = await launch()
    proxy = start_proxy(harness)
    async with connect(proxy.stream, ssl=proxy.context, proxy=None) as socket_:
        await socket_.send(json.dumps({"type": "start"}))
        await socket_.recv()
        socket_.transport.abort()
    async with asyncio.timeout(START_S):
        await harness.server.drain()
    assert harness.engine.sessions[0].aborted
