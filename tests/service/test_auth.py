"""Test tokens and origins."""

import pytest

from streamasr.service.auth import TokenAuth, bearer_token, normalized_origin, origin_allowed

MASTER = "the-master-token-of-the-daemon"


def test_without_a_token_every_client_is_accepted() -> None:
    auth = TokenAuth(None)
    assert not auth.required
    assert auth.verdict(None, 0) == "accepted"
    assert auth.verdict("anything", 0) == "accepted"


def test_only_the_master_token_itself_is_accepted() -> None:
    auth = TokenAuth(MASTER)
    assert auth.verdict(MASTER, 0) == "accepted"
    for token in (
        None,
        "",
        MASTER + " ",
        MASTER[:-1],
        "é",
        "\ud800",
        "b1",
        "b1.9999999999.x",
        "b1.x.y.z",
        "...",
    ):
        assert auth.verdict(token, 0) == "wrong"


def test_a_browser_token_expires_and_is_no_master_token() -> None:
    auth = TokenAuth(MASTER)
    token, expiry = auth.mint(1_000.7, 60)
    assert expiry == 1_060
    assert MASTER not in token
    assert auth.verdict(token, 1_059.9) == "accepted"
    assert auth.verdict(token, 1_060) == "expired"
    assert not auth.is_master(token)


def test_a_browser_token_cannot_be_forged() -> None:
    auth = TokenAuth(MASTER)
    token, expiry = auth.mint(1_000, 60)
    assert auth.verdict(token.replace(str(expiry), str(expiry + 1_000)), 1_001) == "wrong"
    assert TokenAuth(MASTER + "!").verdict(token, 1_001) == "wrong"
    assert auth.mint(1_000, 60)[0] != token


def test_a_browser_token_for_one_origin_is_valid_for_no_other() -> None:
    auth = TokenAuth(MASTER)
    token, expiry = auth.mint(1_000, 60, "https://app.example")
    assert auth.verdict(token, 1_001, "https://app.example") == "accepted"
    for origin in (
        None,
        "",
        "null",
        "https://evil.example",
        "http://app.example",
        "https://app.example:8443",
    ):
        assert auth.verdict(token, 1_001, origin) == "foreign"
    assert auth.verdict(token, expiry, "https://app.example") == "expired"
    kind, *rest = token.split(".")
    other = auth.mint(1_000, 60, "https://evil.example")[0].split(".")
    for forged in (
        ".".join(["b1", *rest]),
        ".".join(["b1", *rest[:2], rest[3]]),
        ".".join([kind, *rest[:2], other[3], rest[3]]),
        token.replace(str(expiry), str(expiry + 60)),
    ):
        assert auth.verdict(forged, 1_001, "https://evil.example") == "wrong"
    assert "app.example" not in token


def test_every_comparison_of_a_token_takes_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []

    def compare(left: object, right: object) -> bool:
        compared.append((left, right))
        return left == right

    auth = TokenAuth(MASTER)
    token, _ = auth.mint(1_000, 60, "https://app.example")
    monkeypatch.setattr("hmac.compare_digest", compare)
    auth.is_master("a guess")
    assert compared == [(b"a guess", MASTER.encode())]
    compared.clear()
    auth.verdict(token, 1_001, "https://evil.example")
    assert len(compared) == 3, "the daemon's token, the signature and the origin"
    compared.clear()
    auth.verdict("b2.9999999999.x.y.z", 1_001)
    assert len(compared) == 2, "no origin is compared without a signature"


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("https://app.example", "https://app.example"),
        ("HTTPS://App.Example/", "https://app.example"),
        ("https://app.example:443", "https://app.example"),
        ("http://app.example:80", "http://app.example"),
        ("http://app.example:8080", "http://app.example:8080"),
        ("http://[::1]:8765", "http://[::1]:8765"),
        ("chrome-extension://abcdef", "chrome-extension://abcdef"),
        ("", None),
        ("null", None),
        ("*", None),
        ("app.example", None),
        ("https://app.example/page", None),
        ("https://user@app.example", None),
        ("https://app.example?x", None),
        ("https://app.example:port", None),
        ("https://b\u00fccher.example", None),
        ("https://[::1", None),
    ],
)
def test_origins_are_read_as_browsers_send_them(text: str, origin: str | None) -> None:
    assert normalized_origin(text) == origin


@pytest.mark.parametrize(
    ("header", "token"),
    [(None, None), ("", None), ("Basic abc", None), ("Bearer", None), ("Bearer  x ", "x"), ("bearer x", "x")],
)
def test_bearer_token(header: str | None, token: str | None) -> None:
    assert bearer_token(header) == token


@pytest.mark.parametrize(
    ("origin", "host", "token_required", "allowed"),
    [
        (None, "127.0.0.1:8765", False, True),
        ("http://127.0.0.1:8765", "127.0.0.1:8765", False, True),
        ("http://localhost:8765", "LOCALHOST:8765", False, True),
        ("http://[::1]:8765", "[::1]:8765", False, True),
        ("http://evil.example", "127.0.0.1:8765", False, False),
        ("http://127.0.0.1:9999", "127.0.0.1:8765", False, False),
        ("http://rebound.example:8765", "rebound.example:8765", False, False),
        ("https://captions.example", "captions.example", True, True),
        ("http://evil.example", "captions.example", True, False),
        ("https://partner.example", "captions.example", False, True),
        ("null", "127.0.0.1:8765", False, False),
        ("http://127.0.0.1:8765", None, False, False),
    ],
)
def test_origins(origin: str | None, host: str | None, token_required: bool, allowed: bool) -> None:
    assert (
        origin_allowed(origin, host, ("https://partner.example",), token_required=token_required) is allowed
    )
