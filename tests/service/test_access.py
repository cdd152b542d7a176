"""Test the limit on wrong tokens, and which address of a request counts."""

import itertools

import pytest
from websockets.exceptions import InvalidStatus

from streamasr.errors import ConfigError, StreamasrError
from streamasr.protocol.messages import Error, Start
from streamasr.service.access import (
    AccessControl,
    Client,
    FailureLimiter,
    forwarded_address,
    parse_networks,
)
from streamasr.service.auth import TokenAuth
from streamasr.service.config import ServerConfig
from streamasr.service.logs import StrangersLog
from tests.service.conftest import Harness, Launch
from tests.service.test_http import request

SECRET = "a-secret-of-some-length"
WRONG = "a-wrong-secret-of-some-length"


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def control(limit: int, clock: Clock, proxies: tuple[str, ...] = ()) -> AccessControl:
    log = StrangersLog(0, clock)
    networks = parse_networks(proxies)
    return AccessControl(TokenAuth(SECRET), limit, networks, log=log, clock=clock, wall_clock=clock)


def code(error: StreamasrError | None) -> str | None:
    return None if error is None else error.code


def test_so_many_wrong_tokens_are_compared_in_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    access = control(3, clock)
    guesser, other = Client("192.0.2.1"), Client("192.0.2.2")
    assert [code(access.refuse(guesser, WRONG)) for _ in range(5)] == ["unauthorized"] * 3 + [
        "rate_limited"
    ] * 2
    assert [vars(record)["fields"] for record in caplog.records] == [{"address": "192.0.2.1"}]
    error = access.refuse(guesser, SECRET)
    assert error is not None, "not even the right token is compared"
    assert (error.code, error.fault, error.retry_after_ms) == ("rate_limited", "server", 20_000)
    assert access.refuse(other, SECRET) is None
    assert code(access.refuse_master(guesser, SECRET)) == "rate_limited"
    clock.now += 20
    assert access.refuse(guesser, SECRET) is None
    assert code(access.refuse(guesser, WRONG)) == "unauthorized"
    assert code(access.refuse(guesser, WRONG)) == "rate_limited"
    clock.now += 60
    assert [code(access.refuse(guesser, WRONG)) for _ in range(4)] == ["unauthorized"] * 3 + ["rate_limited"]


def test_what_nobody_guessed_does_not_count() -> None:
    clock = Clock()
    auth = TokenAuth(SECRET)
    access = control(1, clock)
    client = Client("192.0.2.1", origin="https://app.example")
    expired, _ = auth.mint(clock.now - 100, 60)
    foreign, _ = auth.mint(clock.now, 60, "https://other.example")
    for token, words in ((None, "missing"), (expired, "expired"), (foreign, "another origin")):
        for _ in range(3):
            error = access.refuse(client, token)
            assert error is not None
            assert error.code == "unauthorized"
            assert words in error.message
    browser, _ = auth.mint(clock.now, 60)
    for _ in range(3):
        assert code(access.refuse_master(client, browser)) == "unauthorized"
    assert access.refuse(client, SECRET) is None


def test_without_a_token_limit_or_address_nobody_waits() -> None:
    clock = Clock()
    unlimited = control(0, clock)
    local = control(1, clock)
    for _ in range(100):
        assert code(unlimited.refuse(Client("192.0.2.1"), WRONG)) == "unauthorized"
        assert code(local.refuse(local.client("/run/streamasr.sock"), WRONG)) == "unauthorized"
    no_token = AccessControl(TokenAuth(None), 1, log=StrangersLog(0), clock=clock)
    assert no_token.refuse(Client("192.0.2.1"), WRONG) is None


def test_a_network_of_ipv6_addresses_counts_as_one() -> None:
    access = control(1, Clock())
    access.refuse(Client("2001:db8:0:1::5"), WRONG)
    assert code(access.refuse(Client("2001:db8:0:1:ffff::9"), SECRET)) == "rate_limited"
    assert access.refuse(Client("2001:db8:0:2::5"), SECRET) is None


def test_the_memory_of_addresses_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamasr.service.access._MAX_ADDRESSES", 10)
    limiter = FailureLimiter(1)
    for number in range(50):
        limiter.fail(f"192.0.2.{number}", 1_000.0)
    assert len(limiter._paid_until) == 10
    assert limiter.wait_s("192.0.2.49", 1_000.0) == 60
    limiter.fail("192.0.2.99", 2_000.0)
    assert list(limiter._paid_until) == ["192.0.2.99"], "addresses whose time is over are forgotten"


@pytest.mark.parametrize(
    ("peer", "headers", "trusted", "address"),
    [
        ("192.0.2.1", ["203.0.113.9"], [], "192.0.2.1"),
        ("192.0.2.1", ["203.0.113.9"], ["10.0.0.0/8"], "192.0.2.1"),
        ("10.0.0.1", [], ["10.0.0.0/8"], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.9"], ["10.0.0.0/8"], "203.0.113.9"),
        ("10.0.0.1", ["198.51.100.1, 203.0.113.9"], ["10.0.0.0/8"], "203.0.113.9"),
        ("10.0.0.1", ["198.51.100.1", "203.0.113.9, 10.0.0.2"], ["10.0.0.0/8"], "203.0.113.9"),
        ("10.0.0.1", ["203.0.113.9, junk"], ["10.0.0.0/8"], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.9:4711"], ["10.0.0.1"], "203.0.113.9"),
        ("::1", ["[2001:db8::7]:443"], ["::1"], "2001:db8::7"),
        ("::ffff:10.0.0.1", ["203.0.113.9"], ["10.0.0.1"], "203.0.113.9"),
    ],
)
def test_only_trusted_proxies_name_the_client(
    peer: str, headers: list[str], trusted: list[str], address: str
) -> None:
    assert forwarded_address(peer, headers, parse_networks(trusted)) == address


def test_the_log_names_the_client_and_its_port() -> None:
    access = control(1, Clock(), ("10.0.0.1",))
    assert access.client(("192.0.2.1", 4711)).peer == "192.0.2.1:4711"
    assert access.client(("10.0.0.1", 4711), None, ["203.0.113.9"]).peer == "203.0.113.9"
    assert access.client(None).peer == "local"


@pytest.mark.parametrize("text", ["proxy.example", "10.0.0.1/8", "10.0.0.0/40", ""])
def test_proxies_must_be_addresses(text: str) -> None:
    with pytest.raises(ConfigError, match=r"trusted_proxies: .*give addresses such as"):
        ServerConfig(trusted_proxies=(text,))


async def exhaust(harness: Harness, limit: int) -> None:
    for _ in range(limit):
        with pytest.raises(InvalidStatus, match="401"):
            await harness.connect(f"?token={WRONG}")


async def test_wrong_tokens_of_an_address_get_429(launch: Launch) -> None:
    harness = await launch(token=SECRET, max_failed_tokens=2)
    await exhaust(harness, 2)
    with pytest.raises(InvalidStatus, match="429") as caught:
        await harness.connect(f"?token={SECRET}")
    assert 0 < int(caught.value.response.headers["Retry-After"]) <= 30
    assert b"too many wrong tokens" in (caught.value.response.body or b"")
    for path, method in (("/metrics", "GET"), ("/v1/token", "POST")):
        status, headers, _ = await request(harness, path, method, Authorization=f"Bearer {SECRET}")
        assert (status, bool(headers["Retry-After"])) == (429, True)
    assert (await request(harness, "/health"))[0] == 200


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/v1/audio/transcriptions", b'"code": "rate_limit_exceeded"'),
        ("/v1/listen", b'"err_code": "TOO_MANY_REQUESTS"'),
    ],
)
async def test_other_clients_get_429_in_their_shape(launch: Launch, path: str, words: bytes) -> None:
    harness = await launch(token=SECRET, max_failed_tokens=1)
    for status, found in ((401, b""), (429, words)):
        bearer = {"Authorization": f"Bearer {WRONG}", "Content_Length": "0"}
        answered, _, body = await request(harness, path, "POST", **bearer)
        assert answered == status
        assert found.replace(b" ", b"") in body.replace(b" ", b"")


async def test_a_wrong_token_in_start_counts_too(launch: Launch) -> None:
    harness = await launch(token=SECRET, max_failed_tokens=2)
    ends = []
    for _ in range(3):
        client = await harness.connect()
        await client.send(Start(token=WRONG))
        error = await client.receive()
        assert isinstance(error, Error)
        ends.append((error.code, error.retry_after_ms is not None, await client.close_code()))
    assert ends == [("unauthorized", False, 1008)] * 2 + [("rate_limited", True, 1013)]


async def test_behind_a_trusted_proxy_each_client_has_its_own_limit(launch: Launch) -> None:
    harness = await launch(token=SECRET, max_failed_tokens=1, trusted_proxies=("127.0.0.1",))
    guesser = {"additional_headers": {"X-Forwarded-For": "203.0.113.9"}}
    for status in ("401", "429"):
        with pytest.raises(InvalidStatus, match=status):
            await harness.connect(f"?token={WRONG}", **guesser)
    await harness.session(Start(token=SECRET), additional_headers={"X-Forwarded-For": "203.0.113.10"})


async def test_others_cannot_invent_addresses(launch: Launch) -> None:
    harness = await launch(token=SECRET, max_failed_tokens=1)
    for status, last in zip(("401", "429"), itertools.count(1)):
        forged = {"X-Forwarded-For": f"203.0.113.{last}"}
        with pytest.raises(InvalidStatus, match=status):
            await harness.connect(f"?token={WRONG}", additional_headers=forged)


async def test_a_token_for_one_origin_opens_sessions_for_its_pages_only(launch: Launch) -> None:
    app, other = "https://app.example", "https://other.example"
    harness = await launch(token=SECRET, allowed_origins=(app, other))
    bearer = {"Authorization": f"Bearer {SECRET}"}
    _, _, body = await request(harness, f"/v1/token?origin={app}", "POST", **bearer)
    token = body.decode().split('"token": "')[1].split('"')[0]
    assert f'"origin": "{app}"' in body.decode()
    await harness.session(Start(token=token), origin=app)
    for origin in (other, None):
        with pytest.raises(InvalidStatus, match="401") as caught:
            await harness.connect(f"?token={token}", origin=origin)
        assert b"belongs to another origin" in (caught.value.response.body or b"")
        client = await harness.connect(origin=origin)
        await client.send(Start(token=token))
        error = await client.receive()
        assert isinstance(error, Error)
        assert error.code == "unauthorized"
    status, _, body = await request(harness, "/v1/token?origin=app.example", "POST", **bearer)
    assert (status, b"is not an origin" in body) == (400, True)
    _, _, body = await request(harness, "/v1/token", "POST", Origin=app, **bearer)
    assert f'"origin": "{app}"' in body.decode()


async def test_the_page_opened_at_the_start_gets_a_token_for_itself_only(launch: Launch) -> None:
    harness = await launch(token=SECRET, allowed_origins=("https://other.example",))
    url, _, token = harness.server.browser_url().partition("#token=")
    await harness.session(Start(token=token), origin=url.rstrip("/"))
    with pytest.raises(InvalidStatus, match="401"):
        await harness.connect(f"?token={token}", origin="https://other.example")
