"""Who may connect: the daemon's token, short-lived tokens made from it, and the pages a browser comes from.

Knows no socket; the time is an argument.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
from collections.abc import Iterable
from urllib.parse import urlsplit

_BROWSER_PREFIX = "b1"
_NONCE_BYTES = 9


class TokenAuth:
    """Checks tokens against the daemon's own, in constant time. Without one everybody may pass.

    A browser token is ``b1.<expiry>.<nonce>.<mac>``: seconds since 1970, random text, and the HMAC-SHA256 of
    what stands before it under the daemon's token. The daemon keeps no list: restarting it changes
    nothing, changing its token ends them all.
    """

    def __init__(self, token: str | None) -> None:
        self._token = token

    @property
    def required(self) -> bool:
        """Whether clients must send a token."""
        return self._token is not None

    def is_master(self, token: str | None) -> bool:
        """Whether ``token`` is the daemon's own."""
        if self._token is None:
            return True
        return token is not None and hmac.compare_digest(_bytes(token), _bytes(self._token))

    def accepts(self, token: str | None, now_s: float) -> bool:
        """Whether ``token`` is the daemon's own, or a browser token made from it that still lives."""
        return self.is_master(token) or (token is not None and self._is_valid_browser_token(token, now_s))

    def mint(self, now_s: float, ttl_s: int) -> tuple[str, int]:
        """A new browser token and the second since 1970 at which it ends."""
        assert self._token is not None, "without a token there is nothing to mint from"
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
    """The token of an ``Authorization: Bearer …`` header."""
    scheme, _, token = (header or "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


def origin_allowed(
    origin: str | None, host: str | None, allowed: Iterable[str], *, token_required: bool
) -> bool:
    """Whether a page of ``origin`` may open a socket.

    Programs send no origin and may. A browser's page may if it comes from the daemon itself (``host``, the
    request's own ``Host`` header) or from one of ``allowed``. Where no token is asked for, the daemon's own
    name must be ``localhost`` or a bare address: any other could be a stranger's name for this machine.
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
