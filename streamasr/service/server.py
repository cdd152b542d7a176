"""Serve websockets and HTTP on one listening socket, and keep track of the open connections."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, cast
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol

from streamasr.dialects.base import Dialect, LiveDialect, RefusedError, Translation
from streamasr.dialects.conversation import Conversation
from streamasr.dialects.native import PATH as STREAM_PATH
from streamasr.dialects.native import NativeTranslation
from streamasr.dialects.registry import load_dialects
from streamasr.errors import ConfigError
from streamasr.service.assets import load_assets
from streamasr.service.auth import TokenAuth
from streamasr.service.config import ServerConfig
from streamasr.service.connection_handler import ConnectionHandler
from streamasr.service.http import HttpHandler, dialect_request
from streamasr.service.interfaces import EngineInterface
from streamasr.service.logs import log_event
from streamasr.service.metrics import Metrics
from streamasr.service.port import HeadReader
from streamasr.service.resumption import ResumableSessions
from streamasr.service.transport import LocalTransport, WebsocketTransport

logger = logging.getLogger(__name__)

_HARD_SIZE_FACTOR = 4
"""A message up to this many times the limit gets an error message; the websocket layer rejects longer ones."""
_QUEUED_FRAMES = 4
"""Frames read ahead of the handler. Times the frame size, this bounds the memory of a client's input."""


class CaptionServer:
    """Serves websockets and HTTP on one port. All methods run on one event loop.

    Args:
        config: the daemon's settings.
        engine: opens the sessions.
        dialects: the protocols that are served besides the native one; by default, all that there are.
    """

    def __init__(
        self, config: ServerConfig, engine: EngineInterface, dialects: Iterable[Dialect] | None = None
    ) -> None:
        self._config = config
        self._engine = engine
        self._auth = TokenAuth(config.token)
        self._handlers: set[ConnectionHandler] = set()
        self._draining = False
        self._server: Server | None = None
        self._waiting: set[HeadReader] = set()
        served = load_dialects() if dialects is None else tuple(dialects)
        self._streams: dict[str, LiveDialect | None] = {STREAM_PATH: None}
        self._streams |= {path: d for d in served if isinstance(d, LiveDialect) for path in d.paths}
        self._subprotocols = [
            name for dialect in self._streams.values() if dialect for name in dialect.subprotocols
        ]
        self._translations: WeakKeyDictionary[ServerConnection, Translation] = WeakKeyDictionary()
        self._busy = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self.metrics = Metrics(engine.stats)
        """The daemon's metrics, served at ``/metrics``."""
        self._sessions = (
            ResumableSessions(config.resume_for_ms, self.metrics) if config.resume_for_ms else None
        )
        self.http = HttpHandler(
            config=config,
            auth=self._auth,
            engine=engine,
            metrics=self.metrics,
            assets=load_assets(),
            streams=self._streams,
            connections=lambda: len(self._handlers),
            draining=lambda: self._draining,
        )
        """Answers plain HTTP requests."""
        # Here, so that help texts need no HTTP server.
        from streamasr.service.uploads import Uploads
        from streamasr.service.web import WebApp, WebServer

        self._uploads = Uploads(
            config=config, engine=engine, pages=self.http, run=self._run_upload, working=self._working
        )
        self._web = WebServer(WebApp(self.http, self._uploads.apps(served)), config.slow_reader_s)

    async def start(self, listener: socket.socket) -> None:
        """Accept connections from now on. The server closes ``listener``.

        Raises:
            ConfigError: the certificate or its key cannot be loaded.
        """
        self._server = await serve(
            self._handle,
            sock=listener,
            ssl=_tls(self._config),
            create_connection=cast(type[ServerConnection], self._head_reader),
            process_request=self._process_request,
            process_response=self._process_response,
            select_subprotocol=lambda _, offered: next(
                filter(self._subprotocols.__contains__, offered), None
            ),
            server_header="streamasr",
            compression=None,  # speech samples hardly deflate, and each client's window would cost memory
            open_timeout=self._config.start_timeout_s,
            ping_interval=self._config.ping_interval_s,
            ping_timeout=None,  # a pong may wait behind unread audio; idle_timeout_s applies instead
            close_timeout=self._config.close_timeout_s,
            max_size=self._config.limits.audio_bytes * _HARD_SIZE_FACTOR,
            max_queue=_QUEUED_FRAMES,
        )

    @property
    def stream_url(self) -> str:
        """The websocket URL for clients."""
        return f"ws{self._authority}{STREAM_PATH}"

    @property
    def page_url(self) -> str:
        """The URL of the captions page."""
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
        """Return the captions page's URL for a browser on this machine, with a browser token if one is required."""
        if not self._auth.required:
            return self.page_url
        token, _ = self._auth.mint(time.time(), self._config.browser_token_ttl_s)
        return f"{self.page_url}#token={token}"

    async def drain(self) -> bool:
        """Refuse new sessions and finish the open ones; false if ``drain_timeout_s`` ran out first.

        HTTP requests are answered meanwhile, ``/ready`` with 503.
        """
        self._draining = True
        log_event("draining", connections=len(self._handlers))
        self._end_parked()
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
        """Close the port, and the remaining connections with code 1001."""
        self._end_parked()
        if self._server is not None:
            self._server.close()
            for reader in list(self._waiting):
                reader.abort()
            self._uploads.close()
            await self._web.close()
            await self._server.wait_closed()

    def _end_parked(self) -> None:
        if self._sessions is not None:
            self._sessions.end_all()

    def _head_reader(self, protocol: ServerProtocol, server: Server, **options: Any) -> HeadReader:
        return HeadReader(
            websocket=lambda: ServerConnection(protocol, server, **options),
            http=self._web.protocol,
            waiting=self._waiting,
            timeout_s=self._config.start_timeout_s,
            protocol=protocol,
        )

    def _process_request(self, connection: ServerConnection, request: Request) -> Response | None:
        response = self.http.respond(request)
        dialect = self._streams.get(urlsplit(request.path).path)
        if response is not None or dialect is None:
            return response
        try:
            self._translations[connection] = dialect.open(dialect_request(request, self._engine.info))
        except RefusedError as error:
            return self.http.refused(error.refusal, dialect)
        return None

    def _process_response(self, connection: ServerConnection, _: Request, response: Response) -> None:
        translation = self._translations.get(connection)
        if translation is not None:
            response.headers.update(translation.headers)

    async def _handle(self, connection: ServerConnection) -> None:
        assert connection.request is not None, "the handshake is done"
        token = self.http.presented_token(connection.request)
        dialect = self._streams[urlsplit(connection.request.path).path]
        translation = self._translations.pop(connection, None) or NativeTranslation(self._config.limits)
        handler = ConnectionHandler(
            WebsocketTransport(connection),
            Conversation(translation, self._config.limits),
            dialect="native" if dialect is None else dialect.name,
            config=self._config,
            engine=self._engine,
            auth=self._auth,
            metrics=self.metrics,
            authorized=not self._auth.required or self._auth.accepts(token, time.time()),
            sessions=self._sessions if dialect is None else None,
        )
        self._handlers.add(handler)
        self.metrics.connections.inc()
        try:
            with self._working():
                if self._draining:
                    handler.drain()
                await handler.run()
        finally:
            self.metrics.connections.dec()
            self._handlers.discard(handler)

    async def _run_upload(self, transport: LocalTransport, conversation: Conversation, dialect: str) -> None:
        handler = ConnectionHandler(
            transport,
            conversation,
            dialect=dialect,
            config=self._config,
            engine=self._engine,
            auth=self._auth,
            metrics=self.metrics,
            authorized=True,
            bulk=True,
        )
        try:
            await handler.run()
        except Exception:
            logger.exception("upload_failed")
            raise
        finally:
            transport.abort()

    @contextmanager
    def _working(self) -> Iterator[None]:
        """Count as busy, so that draining waits."""
        self._busy += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._busy -= 1
            if not self._busy:
                self._idle.set()


def open_listener(config: ServerConfig, passed: socket.socket | None = None) -> socket.socket:
    """Return the listening socket: the one ``passed`` by the service manager, or a new one.

    Raises:
        ConfigError: the address cannot be bound, or needs a token and none is set.
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
            "; is a daemon running already? --port 0 chooses a free port"
            if error.errno == errno.EADDRINUSE
            else ""
        )
        raise ConfigError(f"cannot listen on {host} port {port}: {error.strerror}{hint}") from None


def _host_of(listener: socket.socket) -> str:
    """The address that a socket is bound to. A Unix socket counts as loopback: its file's mode protects it."""
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
