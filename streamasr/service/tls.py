"""Hold the daemon's certificate, and exchange it while the daemon runs."""

from __future__ import annotations

import datetime
import logging
import ssl
from pathlib import Path

from streamasr.errors import ConfigError
from streamasr.service.logs import log_event
from streamasr.service.validity import Validity, read_validity

_REMINDER_S = 86_400.0
"""Time between two log records that the certificate should be renewed."""

Signature = tuple[tuple[int, int, int] | None, ...]


class Certificate:
    """A certificate chain and its private key. Connections keep what they began with; new ones get the newest.

    Args:
        cert: the chain, as PEM.
        key: the private key, as PEM.

    Raises:
        ConfigError: they cannot be loaded, or do not belong together.
    """

    def __init__(self, cert: Path, key: Path) -> None:
        self._cert = cert
        self._key = key
        self._signature = self._read_signature()
        self._current = self._load()
        self.validity: Validity | None = self._read_validity()
        """When the present certificate is valid; ``None`` if that cannot be read."""
        self._reminded_at_s: float | None = None
        self.context = self._load()
        """The context of the listening sockets."""
        self.context.sni_callback = self._use_current

    def reload(self) -> bool:
        """Load the files again, and log the result. If they cannot be used, keep the present certificate."""
        self._signature = self._read_signature()
        try:
            self._current = self._load()
        except ConfigError as error:
            log_event("certificate_refused", level=logging.ERROR, reason=error.message)
            return False
        self.validity = self._read_validity()
        log_event("certificate_reloaded", cert=self._cert, valid_until=self.valid_until)
        return True

    def reload_if_changed(self) -> None:
        """Load the files again if they are not those of the last attempt."""
        if self._read_signature() != self._signature:
            self.reload()

    @property
    def valid_until(self) -> str:
        """The end of the validity, in ISO 8601; ``unknown`` if it cannot be read."""
        if self.validity is None:
            return "unknown"
        end = datetime.datetime.fromtimestamp(self.validity.end_s, datetime.UTC)
        return f"{end:%Y-%m-%dT%H:%M:%SZ}"

    def needs_renewal(self, now_s: float) -> bool:
        """Whether a renewal is overdue at ``now_s``, in seconds since 1970."""
        return self.validity is not None and now_s >= self.validity.renew_by_s

    def remind(self, now_s: float) -> None:
        """Log once a day that a renewal is overdue. ``now_s`` is the time in seconds since 1970; it may jump."""
        if not self.needs_renewal(now_s):
            self._reminded_at_s = None
        elif self._reminded_at_s is None or abs(now_s - self._reminded_at_s) >= _REMINDER_S:
            self._reminded_at_s = now_s
            log_event(
                "certificate_expires", level=logging.WARNING, cert=self._cert, valid_until=self.valid_until
            )

    def _use_current(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        # OpenSSL calls this in every handshake, whether the client names a host or not.
        connection.context = self._current

    def _load(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        try:
            context.load_cert_chain(self._cert, self._key)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"tls_cert {self._cert}, tls_key {self._key}: {error}") from None
        return context

    def _read_validity(self) -> Validity | None:
        try:
            return read_validity(self._cert.read_text(encoding="ascii", errors="replace"))
        except OSError:  # it was there a moment ago
            return None

    def _read_signature(self) -> Signature:
        return tuple(_signature_of(path) for path in (self._cert, self._key))


def _signature_of(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
