"""Check tokens and origins: the daemon's own token, short-lived browser tokens, and the pages that may connect.

The functions do no I/O. The current time is an argument.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal
from urllib.parse import urlsplit

_ANY_ORIGIN, _ONE_ORIGIN = "b1", "b2"
"""Kinds of browser tokens."""
_ORIGIN_TAG_CHARS = 32
_IMPLIED_PORTS = {"http": 80, "https": 443}
_NONCE_BYTES = 9
_OPENAI_KEY = "openai-insecure-api-key."
"""Begins the subprotocol in which OpenAI's clients in browsers send their key."""


Verdict = Literal["accepted", "expired", "foreign", "wrong"]


class TokenAuth:
    """Compares tokens with the daemon's own in constant time. Without a token, every client is accepted.

    A browser token is ``b1.<expiry>.<nonce>.<mac>``, or ``b2.<expiry>.<nonce>.<origin>.<mac>`` if only pages of one
    origin may use it: the expiry in seconds since 1970, a random nonce, an HMAC of the origin, and the HMAC-SHA256 of
    the text before it, all keyed with the daemon's token. The daemon does not store browser tokens: they survive a
    restart, and a new daemon token invalidates them all.

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

    def verdict(self, token: str | None, now_s: float, origin: str | None = None) -> Verdict:
        """Judge a token that a client has sent.

        Args:
            token: the token; ``None`` if there is none.
            now_s: the time, in seconds since 1970.
            origin: the ``Origin`` header of the request.

        Returns:
            ``accepted`` for the daemon's own token and for valid browser tokens; ``expired`` or ``foreign`` for a
            browser token of this daemon whose time is over, or that was made for another origin; else ``wrong``.
        """
        if self.is_master(token):
            return "accepted"
        return "wrong" if token is None else self._verdict_on_browser_token(token, now_s, origin)

    def mint(self, now_s: float, ttl_s: int, origin: str | None = None) -> tuple[str, int]:
        """Return a new browser token and its expiry, in seconds since 1970.

        Args:
            now_s: the time, in seconds since 1970.
            ttl_s: the token's lifetime in seconds.
            origin: the only origin whose pages may use it, as :func:`normalized_origin` returns it; ``None`` for any.
        """
        assert self._token is not None, "browser tokens are made from the daemon's token"
        expiry = int(now_s) + ttl_s
        nonce = secrets.token_urlsafe(_NONCE_BYTES)
        body = f"{_ANY_ORIGIN}.{expiry}.{nonce}"
        if origin is not None:
            body = f"{_ONE_ORIGIN}.{expiry}.{nonce}.{self._origin_tag(origin)}"
        return f"{body}.{self._mac(body)}", expiry

    def _verdict_on_browser_token(self, token: str, now_s: float, origin: str | None) -> Verdict:
        body, _, mac = token.rpartition(".")
        if not hmac.compare_digest(_bytes(mac), _bytes(self._mac(body))):
            return "wrong"
        kind, expiry, _, *tag = body.split(".")
        if kind == _ONE_ORIGIN and not hmac.compare_digest(tag[0], self._origin_tag(origin or "")):
            return "foreign"
        return "accepted" if now_s < int(expiry) else "expired"

    def _origin_tag(self, origin: str) -> str:
        return self._mac(origin, b"streamasr browser origin\n")[:_ORIGIN_TAG_CHARS]

    def _mac(self, text: str, purpose: bytes = b"streamasr browser token\n") -> str:
        return hmac.new(_bytes(self._token or ""), purpose + _bytes(text), hashlib.sha256).hexdigest()


def normalized_origin(text: str) -> str | None:
    """Return an origin as browsers send it, for example ``https://example.org``; ``None`` if it is none.

    The scheme and the host are in lower case, and a port that the scheme implies is left out.
    """
    try:
        parts = urlsplit(text.strip())
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    if not parts.scheme or not host or parts.username is not None or parts.path not in ("", "/"):
        return None
    if parts.query or parts.fragment or not all("!" <= char <= "~" for char in host):
        return None
    host = f"[{host}]" if ":" in host else host
    shown = "" if port is None or port == _IMPLIED_PORTS.get(parts.scheme) else f":{port}"
    return f"{parts.scheme}://{host}{shown}"


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
