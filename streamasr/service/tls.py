"""Hold the daemon's certificate, and exchange it while the daemon runs."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path

from streamasr.errors import ConfigError
from streamasr.service.logs import log_event

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
        log_event("certificate_reloaded", cert=self._cert)
        return True

    def reload_if_changed(self) -> None:
        """Load the files again if they are not those of the last attempt."""
        if self._read_signature() != self._signature:
            self.reload()

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

    def _read_signature(self) -> Signature:
        return tuple(_signature_of(path) for path in (self._cert, self._key))


def _signature_of(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
