"""Test tokens and origins."""

import pytest

from streamasr.service.auth import TokenAuth, bearer_token, origin_allowed

MASTER = "the-master-token-of-the-daemon"


def test_without_a_token_every_client_is_accepted() -> None:
    auth = TokenAuth(None)
    assert not auth.required
    assert auth.accepts(None, 0)
    assert auth.accepts("anything", 0)


def test_only_the_master_token_itself_is_accepted() -> None:
    auth = TokenAuth(MASTER)
    assert auth.accepts(MASTER, 0)
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
        assert not auth.accepts(token, 0)


def test_a_browser_token_expires_and_is_no_master_token() -> None:
    auth = TokenAuth(MASTER)
    token, expiry = auth.mint(1_000.7, 60)
    assert expiry == 1_060
    assert MASTER not in token
    assert auth.accepts(token, 1_059.9)
    assert not auth.accepts(token, 1_060)
    assert not auth.is_master(token)


def test_a_browser_token_cannot_be_forged() -> None:
    auth = TokenAuth(MASTER)
    token, expiry = auth.mint(1_000, 60)
    assert not auth.accepts(token.replace(str(expiry), str(expiry + 1_000)), 1_001)
    assert not TokenAuth(MASTER + "!").accepts(token, 1_001)
    assert auth.mint(1_000, 60)[0] != token


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
