"""Check tokens and origins: the daemon's own token, short-lived browser tokens, and the pages that may connect.

The functions do no I/O. The current time is an argument.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import urlsplit

_BROWSER_PREFIX = "b1"
_NONCE_BYTES = 9
_OPENAI_KEY = "openai-insecure-api-key."
"""Begins the subprotocol in which OpenAI's clients in browsers send their key."""


class TokenAuth:
    """Compares tokens with the daemon's own in constant time. Without a token, every client is accepted.

    A browser token is ``b1.<expiry>.<nonce>.<mac>``: the expiry in seconds since 1970, a random nonce, and the
    HMAC-SHA256 of the text before it, keyed with the daemon's token. The daemon does not store browser tokens:
    they survive a restart, and a new daemon token invalidates them all.

    Args:
        token: the daemon's token; ``None`` accepts every client.
    """

    def __init__(self, token: str | None) -> None:
        self._token = token

    @property
    def required(self) -> bool:
        """Whether clients must send a token."""
        return self._token is not None

    def is_master(self, token: str | None) -> bool:
        """Whether ``token`` is the daemon's own; true for any if the daemon has none."""
        if self._token is None:
            return True
        return token is not None and hmac.compare_digest(_bytes(token), _bytes(self._token))

    def accepts(self, token: str | None, now_s: float) -> bool:
        """Whether ``token`` is the daemon's own, or a browser token that has not expired at ``now_s``."""
        return self.is_master(token) or (token is not None and self._is_valid_browser_token(token, now_s))

    def mint(self, now_s: float, ttl_s: int) -> tuple[str, int]:
        """Return a new browser token and its expiry, in seconds since 1970."""
        assert self._token is not None, "browser tokens are made from the daemon's token"
        expiry = int(now_s) + ttl_s
        body = f"{_BROWSER_PREFIX}.{expiry}.{secrets.token_urlsafe(_NONCE_BYTES)}"
        return f"{body}.{self._mac(body)}", expiry

    def _is_valid_browser_token(self, token: str, now_s: float) -> bool:
        body, _, mac = token.rpartition(".")
        if not hmac.compare_digest(_bytes(mac), _bytes(self._mac(body))):
            return False
        prefix, expiry, _ = body.split(".")
        return prefix == _BROWSER_PREFIX and now_s < int(expiry)

    def _mac(self, body: str) -> str:
        text = b"streamasr browser token\n" + _bytes(body)
        return hmac.new(_bytes(self._token or ""), text, hashlib.sha256).hexdigest()


def bearer_token(header: str | None) -> str | None:
    """Return the token of an ``Authorization: Bearer …`` header."""
    scheme, _, token = (header or "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


def presented_token(headers: Mapping[str, str], query: Mapping[str, Sequence[str]]) -> str | None:
    """Return the token that a request presents in any of the places where clients put one.

    These are ``Authorization`` with ``Bearer`` or ``Token``, the header ``api-key``, the query's ``token``, and the
    websocket subprotocols of clients in browsers, which can set no header: ``token, TOKEN``, ``bearer, TOKEN`` and
    ``openai-insecure-api-key.TOKEN``.

    Args:
        headers: by name in lower case.
        query: values by name.
    """
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() in ("bearer", "token") and token.strip():
        return token.strip()
    if headers.get("api-key"):
        return headers["api-key"]
    if query.get("token"):
        return query["token"][0]
    offered = [part.strip() for part in headers.get("sec-websocket-protocol", "").split(",")]
    if len(offered) > 1 and offered[0].lower() in ("token", "bearer"):
        return offered[1]
    keys = [part.removeprefix(_OPENAI_KEY) for part in offered if part.startswith(_OPENAI_KEY)]
    return keys[0] if keys else None


def origin_allowed(
    origin: str | None, host: str | None, allowed: Iterable[str], *, token_required: bool
) -> bool:
    """Whether a page of ``origin`` may open a websocket.

    Clients other than browsers send no origin and are allowed. A page is allowed if it was served by the daemon
    itself (its origin is ``host``) or if its origin is in ``allowed``. Without a token, ``host`` must also be
    ``localhost`` or an IP address: this prevents DNS rebinding, where a foreign name resolves to this machine.

    Args:
        origin: the request's ``Origin`` header.
        host: the request's ``Host`` header.
        allowed: origins whose pages may connect, such as ``https://example.org``.
        token_required: whether clients must send a token.
    """
    if origin is None or origin in allowed:
        return True
    if host is None or urlsplit(origin).netloc.lower() != host.lower():
        return False
    return token_required or _is_safe_from_rebinding(urlsplit(f"//{host}").hostname or "")


def _is_safe_from_rebinding(hostname: str) -> bool:
    try:
        ipaddress.ip_address(hostname)
    except ValueError:
        return hostname == "localhost"
    return True


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
