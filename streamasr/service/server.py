"""The listening socket and everybody who is connected to it.

Knows websockets and conversations; no signal, no model, no process.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
import time

from websockets.asyncio.server import Server, ServerConnection, serve

from streamasr.errors import ConfigError
from streamasr.service.assets import load_assets
from streamasr.service.auth import TokenAuth
from streamasr.service.config import ServerConfig
from streamasr.service.connection_handler import ConnectionHandler
from streamasr.service.http import STREAM_PATH, HttpHandler
from streamasr.service.interfaces import EngineInterface
from streamasr.service.logs import log_event
from streamasr.service.metrics import Metrics

_HARD_SIZE_FACTOR = 4
"""Messages up to so many times the limit get an error message; the websocket layer ends longer ones."""
_QUEUED_FRAMES = 4
"""Frames read ahead of the handler: with their size, the bound on a client's incoming memory."""


class CaptionServer:
    """Serves websockets and HTTP on one port. Made, started, drained and closed on one event loop."""

    def __init__(self, config: ServerConfig, engine: EngineInterface) -> None:
        self._config = config
        self._engine = engine
        self._auth = TokenAuth(config.token)
        self._handlers: set[ConnectionHandler] = set()
        self._draining = False
        self._server: Server | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self.metrics = Metrics(engine.stats)
        """What is counted; served at ``/metrics``."""
        self.http = HttpHandler(
            config=config,
            auth=self._auth,
            engine=engine,
            metrics=self.metrics,
            assets=load_assets(),
            connections=lambda: len(self._handlers),
            draining=lambda: self._draining,
        )
        """Answers to plain HTTP."""

    async def start(self, listener: socket.socket) -> None:
        """Take sessions from now on; ``listener`` is the server's to close.

        Raises:
            ConfigError: the certificate is no good.
        """
        self._server = await serve(
            self._handle,
            sock=listener,
            ssl=_tls(self._config),
            process_request=lambda _, request: self.http.respond(request),
            server_header="streamasr",
            compression=None,  # speech samples hardly deflate, and each client's window would cost memory
            open_timeout=self._config.start_timeout_s,
            ping_interval=self._config.ping_interval_s,
            ping_timeout=None,  # a pong may wait behind audio not read yet; idle_timeout_s rules
            close_timeout=self._config.close_timeout_s,
            max_size=self._config.limits.audio_bytes * _HARD_SIZE_FACTOR,
            max_queue=_QUEUED_FRAMES,
        )

    @property
    def stream_url(self) -> str:
        """Where clients connect."""
        return f"ws{self._authority}{STREAM_PATH}"

    @property
    def page_url(self) -> str:
        """Where browsers find the captions page."""
        return f"http{self._authority}/"

    @property
    def _authority(self) -> str:
        assert self._server is not None, "not started"
        bound = self._server.sockets[0]
        secure = "s" if self._config.tls_cert else ""
        if bound.family == socket.AF_UNIX:
            return f"{secure}+unix://{bound.getsockname()}"
        host, port = bound.getsockname()[:2]
        return f"{secure}://{f'[{host}]' if ':' in host else host}:{port}"

    def browser_url(self) -> str:
        """The captions page for a browser on this machine, with a short-lived token where one is needed."""
        if not self._auth.required:
            return self.page_url
        token, _ = self._auth.mint(time.time(), self._config.browser_token_ttl_s)
        return f"{self.page_url}#token={token}"

    async def drain(self) -> bool:
        """Take no more sessions and finish those there are; false if ``drain_timeout_s`` was not enough.

        HTTP is answered meanwhile: ``/ready`` says 503.
        """
        self._draining = True
        log_event("draining", connections=len(self._handlers))
        for handler in list(self._handlers):
            handler.drain()
        try:
            async with asyncio.timeout(self._config.drain_timeout_s):
                await self._idle.wait()
        except TimeoutError:
            log_event("drain_timed_out", connections=len(self._handlers))
            return False
        return True

    async def close(self) -> None:
        """Close the port, and with 1001 whoever is still connected."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _handle(self, connection: ServerConnection) -> None:
        assert connection.request is not None, "the handshake is done"
        token = self.http.presented_token(connection.request)
        handler = ConnectionHandler(
            connection,
            config=self._config,
            engine=self._engine,
            auth=self._auth,
            metrics=self.metrics,
            authorized=not self._auth.required or self._auth.accepts(token, time.time()),
        )
        self._handlers.add(handler)
        self._idle.clear()
        self.metrics.connections.inc()
        try:
            if self._draining:
                handler.drain()
            await handler.run()
        finally:
            self.metrics.connections.dec()
            self._handlers.discard(handler)
            if not self._handlers:
                self._idle.set()


def open_listener(config: ServerConfig, passed: socket.socket | None = None) -> socket.socket:
    """The listening socket: the service manager's, or else one on the configured address.

    Raises:
        ConfigError: the address cannot be listened on, or not without a token.
    """
    listener = passed or _bind(config.host, config.port)
    try:
        config.check_exposure(_host_of(listener))
    except ConfigError:
        listener.close()
        raise
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, config.send_buffer_bytes)
    return listener


def _bind(host: str, port: int) -> socket.socket:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        return socket.create_server(address[:2], family=family, backlog=128)
    except OSError as error:
        hint = (
            "; is a daemon running already? --port 0 takes a free one"
            if error.errno == errno.EADDRINUSE
            else ""
        )
        raise ConfigError(f"cannot listen on {host} port {port}: {error.strerror}{hint}") from None


def _host_of(listener: socket.socket) -> str:
    """The address that a socket is bound to; a Unix socket is as private as its file."""
    if listener.family == socket.AF_UNIX:
        return "127.0.0.1"
    return str(listener.getsockname()[0])


def _tls(config: ServerConfig) -> ssl.SSLContext | None:
    if config.tls_cert is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(config.tls_cert, config.tls_key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"tls_cert {config.tls_cert}, tls_key {config.tls_key}: {error}") from None
    return context
