"""Test plain HTTP requests on the daemon's port."""

import asyncio
import json
import time
from email.message import Message
from email.parser import BytesParser

import pytest
from websockets.exceptions import InvalidStatus

from streamasr.protocol.messages import Start
from streamasr.service.assets import load_assets
from tests.service.conftest import Harness, Launch
from tests.service.fake import FakeEngine

SECRET = "a-secret-of-some-length"


async def request(
    harness: Harness, path: str, method: str = "GET", **headers: str
) -> tuple[int, Message, bytes]:
    """Send one request on its own connection; return status, headers and body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", harness.port)
    lines = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{harness.port}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    writer.write("\r\n".join([*lines, "", ""]).encode())
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    status, _, rest = head.partition(b"\r\n")
    return int(status.split()[1]), BytesParser().parsebytes(rest), body


async def test_the_page_and_its_files_are_served(launch: Launch) -> None:
    harness = await launch()
    status, headers, body = await request(harness, "/")
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert body.startswith(b"<!doctype html>")
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "http" not in policy
    assert "*" not in policy
    for path, asset in load_assets().items():
        status, headers, body = await request(harness, path)
        assert (status, headers["Content-Type"], body) == (200, asset.content_type, asset.body)
    status, headers, body = await request(harness, "/", If_None_Match=load_assets()["/"].etag)
    assert (status, body) == (304, b"")


async def test_a_browser_runs_nothing_but_the_page_and_nobody_frames_it(launch: Launch) -> None:
    harness = await launch(token=SECRET)
    for path in (
        "/",
        "/main.js",
        "/health",
        "/ready",
        "/metrics",
        "/v1/stream",
        "/v1/token",
        "/nothing",
        "/v1/models",
    ):
        _, headers, _ = await request(harness, path)
        policy = headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'")
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
    _, headers, _ = await request(harness, "/")
    assert "microphone=(self), camera=()" in headers["Permissions-Policy"]
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"


@pytest.mark.parametrize(
    "path",
    ["/../config.py", "/__init__.py", "/%2e%2e/x", "/web/index.html", "//", "/v2/stream", "/?/x/../y/.."],
)
async def test_nothing_else_is_served(launch: Launch, path: str) -> None:
    status, _, body = await request(await launch(), path)
    if path.startswith("/?"):
        assert status == 200
    else:
        assert (status, body[:10]) == (404, b"nothing at")


async def test_only_get_and_head_are_allowed(launch: Launch) -> None:
    harness = await launch()
    status, headers, body = await request(harness, "/health", "HEAD")
    assert (status, body) == (200, b"")
    assert int(headers["Content-Length"]) > 0
    status, headers, _ = await request(harness, "/health", "DELETE")
    assert (status, headers["Allow"]) == (405, "GET, HEAD")
    status, headers, _ = await request(harness, "/v1/stream")
    assert (status, headers["Upgrade"]) == (426, "websocket")


async def test_health_depends_on_the_engine(launch: Launch) -> None:
    engine = FakeEngine()
    harness = await launch(engine)
    assert (await request(harness, "/health"))[0] == 200
    engine.last_heartbeat = time.monotonic() - 31
    assert (await request(harness, "/health"))[0] == 503
    engine.last_heartbeat, engine.alive = time.monotonic(), False
    assert (await request(harness, "/health"))[0] == 503
    assert (await request(harness, "/ready"))[0] == 503


async def test_a_draining_server_is_not_ready(launch: Launch) -> None:
    harness = await launch()
    status, _, body = await request(harness, "/ready")
    assert status == 200
    assert json.loads(body) == {"ready": True, "draining": False, "sessions": 0, "max_sessions": 256}
    await harness.server.drain()
    status, _, body = await request(harness, "/ready")
    assert (status, json.loads(body)["draining"]) == (503, True)
    assert (await request(harness, "/health"))[0] == 200


async def test_metrics_require_the_token(launch: Launch) -> None:
    harness = await launch(token=SECRET)
    status, headers, _ = await request(harness, "/metrics")
    assert (status, headers["WWW-Authenticate"]) == (401, "Bearer")
    status, headers, body = await request(harness, "/metrics", Authorization=f"Bearer {SECRET}")
    assert (status, headers["Content-Type"].partition(";")[0]) == (200, "text/plain")
    assert b"streamasr_sessions 0.0" in body


async def test_only_the_master_token_can_mint_browser_tokens(launch: Launch) -> None:
    harness = await launch(token=SECRET)
    assert (await request(harness, "/v1/token", "POST"))[0] == 401
    assert (await request(harness, f"/v1/token?token={SECRET}", "POST"))[0] == 401
    assert (await request(harness, "/v1/token", Authorization=f"Bearer {SECRET}"))[0] == 405
    status, _, body = await request(harness, "/v1/token", "POST", Authorization=f"Bearer {SECRET}")
    minted = json.loads(body)
    assert status == 200
    assert 0 < minted["expires_at"] - time.time() <= 900
    await harness.session(Start(token=minted["token"]))
    again = await request(harness, "/v1/token", "POST", Authorization=f"Bearer {minted['token']}")
    assert again[0] == 401
    assert harness.server.browser_url().startswith(f"{harness.server.page_url}#token=b2.")


async def test_without_a_token_no_browser_tokens_are_minted(launch: Launch) -> None:
    harness = await launch()
    assert (await request(harness, "/v1/token", "POST"))[0] == 404
    assert harness.server.browser_url() == harness.server.page_url


async def test_pages_of_other_origins_are_refused(launch: Launch) -> None:
    harness = await launch(allowed_origins=("https://partner.example",))
    await harness.session(origin=harness.server.page_url.rstrip("/"))
    await harness.session(origin="https://partner.example")
    with pytest.raises(InvalidStatus, match="403"):
        await harness.connect(origin="https://evil.example")


async def test_a_refused_origin_is_logged_and_told_what_to_set(
    launch: Launch, caplog: pytest.LogCaptureFixture
) -> None:
    harness = await launch()
    with pytest.raises(InvalidStatus) as caught:
        await harness.connect(origin="https://captions.example:8443")
    body = (caught.value.response.body or b"").decode()
    assert "origin https://captions.example:8443 may not connect" in body
    assert "allowed_origins" in body
    assert "Host header" in body
    (record,) = [record for record in caplog.records if record.getMessage() == "origin_refused"]
    fields = {"origin": "https://captions.example:8443", "host": f"127.0.0.1:{harness.port}"}
    assert getattr(record, "fields", None) == fields


async def test_garbage_instead_of_http_affects_no_other_client(launch: Launch) -> None:
    harness = await launch(start_timeout_s=2.0)
    other = await harness.session()
    for garbage in (
        b"\x16\x03\x01\x02\x00\x01\xff" * 100,
        b"GET\r\n\r\n",
        b"\0" * 20_000,
        b"GET / HTTP/1.1\r\n",
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", harness.port)
        writer.write(garbage)
        if garbage.endswith(b"1.1\r\n"):
            writer.write_eof()
        await reader.read()
        writer.close()
    await other.send(b"ab")
    pong = await other.socket.ping()
    await pong
    assert harness.engine.sessions[0].audio == b"ab"


async def test_a_page_can_ask_why_its_websocket_is_refused(launch: Launch) -> None:
    harness = await launch(max_connections=1)
    own = f"http://127.0.0.1:{harness.port}"
    status, _, body = await request(harness, "/v1/check", "POST", Origin=own, Content_Length="0")
    assert (status, json.loads(body)) == (200, {"accepted": True})
    origin = "https://example.org"
    status, headers, body = await request(harness, "/v1/check", "POST", Origin=origin, Content_Length="0")
    answer = json.loads(body)
    assert (status, answer["accepted"], answer["code"]) == (200, False, "bad_origin")
    assert f"origin {origin} may not connect to host 127.0.0.1:{harness.port}" in answer["message"]
    assert "Access-Control-Allow-Origin" not in headers, "other sites must not read it"
    await harness.session()
    _, _, body = await request(harness, "/v1/check", "POST", Origin=own, Content_Length="0")
    answer = json.loads(body)
    assert (answer["code"], answer["retry_after_ms"]) == ("overloaded", 2_000)
    status, headers, _ = await request(harness, "/v1/check")
    assert (status, headers["Allow"]) == (405, "POST")
