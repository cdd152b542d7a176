"""Serve websockets and HTTP on one listening socket, and keep track of the open connections."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, cast
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol

from streamasr.dialects.addresses import canonical_path
from streamasr.dialects.base import Dialect, LiveDialect, Refusal, RefusedError, TcpDialect, Translation
from streamasr.dialects.base import Request as DialectRequest
from streamasr.dialects.conversation import Conversation
from streamasr.dialects.native import PATH as STREAM_PATH
from streamasr.dialects.native import NativeTranslation
from streamasr.dialects.registry import load_dialects
from streamasr.dialects.vosk import PATH as VOSK_PATH
from streamasr.errors import StreamasrError
from streamasr.service.access import AccessControl, parse_networks
from streamasr.service.addresses import from_here, with_port
from streamasr.service.assets import load_assets
from streamasr.service.auth import TokenAuth, normalized_origin
from streamasr.service.config import ServerConfig
from streamasr.service.connection_handler import ConnectionHandler
from streamasr.service.http import HttpHandler, dialect_request
from streamasr.service.interfaces import EngineInterface
from streamasr.service.listeners import VOSK, address
from streamasr.service.logs import StrangersLog, log_event
from streamasr.service.metrics import Metrics
from streamasr.service.port import HeadReader
from streamasr.service.resumption import ResumableSessions
from streamasr.service.tcp import TcpServer
from streamasr.service.tls import Certificate
from streamasr.service.transport import LocalTransport, TcpTransport, Transport, WebsocketTransport

logger = logging.getLogger(__name__)

_HARD_SIZE_FACTOR = 4
"""A message up to this many times the limit gets an error message; the websocket layer rejects longer ones."""
_LAST_HEADS_S = 1.0
"""Longest wait for the first requests of connections that are open when the server closes."""
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
        self._log = StrangersLog(config.max_log_per_minute)
        self._access = AccessControl(
            self._auth, config.max_failed_tokens, parse_networks(config.trusted_proxies), log=self._log
        )
        self._handlers: set[ConnectionHandler] = set()
        self._draining = False
        self._servers: dict[str, Server] = {}
        """The native port's by ``native``, others by the name of the dialect at their root."""
        self._waiting: set[HeadReader] = set()
        served = load_dialects() if dialects is None else tuple(dialects)
        self._streams: dict[str, LiveDialect | None] = {STREAM_PATH: None}
        self._streams |= {path: d for d in served if isinstance(d, LiveDialect) for path in d.paths}
        self._subprotocols = [
            name for dialect in self._streams.values() if dialect for name in dialect.subprotocols
        ]
        self._translations: WeakKeyDictionary[ServerConnection, Translation] = WeakKeyDictionary()
        self._tcp_dialects = {d.name: d for d in served if isinstance(d, TcpDialect)}
        self._tcp: dict[str, TcpServer] = {}
        """The running servers of dialects without HTTP, by name."""
        self._certificate: Certificate | None = None
        self._watching: asyncio.Task[None] | None = None
        self._shared = False
        self._busy = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self.metrics = Metrics(engine.stats)
        """The daemon's metrics, served at ``/metrics``."""
        self._sessions = (
            ResumableSessions(config.resume_for_ms, config.max_connections, self.metrics)
            if config.resume_for_ms
            else None
        )
        self.http = HttpHandler(
            config=config,
            auth=self._auth,
            access=self._access,
            engine=engine,
            metrics=self.metrics,
            log=self._log,
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
        self._web = WebServer(WebApp(self.http, self._uploads.apps(served)), config)

    async def start(
        self,
        listener: socket.socket,
        dialect_listeners: Mapping[str, socket.socket] | None = None,
        *,
        shared: bool = False,
    ) -> None:
        """Accept connections from now on. The server closes the sockets.

        Args:
            listener: the daemon's own port.
            dialect_listeners: the further ports, by the name of the dialect.
            shared: whether another process has ``listener``, too, from which a successor will get it. Then a server
                that drains accepts no more connections, so that they wait for the successor.

        Raises:
            ConfigError: the certificate or its key cannot be loaded.
        """
        self._shared = shared
        if self._config.tls_cert is not None and self._config.tls_key is not None:
            self._certificate = Certificate(self._config.tls_cert, self._config.tls_key)
            self._note_validity(self._certificate)
            self._watching = asyncio.create_task(self._watch(self._certificate))
        tls = None if self._certificate is None else self._certificate.context
        self._servers["native"] = await self._serve(listener, tls, STREAM_PATH)
        for name, further in (dialect_listeners or {}).items():
            if name == VOSK:
                self._servers[name] = await self._serve(further, tls, VOSK_PATH)
            else:
                self._tcp[name] = self._tcp_server(name)
                await self._tcp[name].start(further)

    def reload_certificate(self) -> None:
        """Load the certificate and its key again, for new connections; does nothing without TLS."""
        if self._certificate is not None:
            self._certificate.reload()
            self._note_validity(self._certificate)

    async def _watch(self, certificate: Certificate) -> None:
        while True:
            await asyncio.sleep(self._config.tls_reload_s)
            certificate.reload_if_changed()
            self._note_validity(certificate)

    def _note_validity(self, certificate: Certificate) -> None:
        certificate.remind(time.time())
        if certificate.validity is not None:
            end = self.metrics.certificate_end.labels(self._config.tls_cert)
            end.set(certificate.validity.end_s)

    def _tcp_server(self, name: str) -> TcpServer:
        def refusal() -> Refusal | None:
            found = self.http.check_room()
            if found is not None:
                self.metrics.refused.labels(found.code).inc()
            return found

        return TcpServer(
            self._tcp_dialects[name],
            self._engine.info,
            close_timeout_s=self._config.close_timeout_s,
            refusal=refusal,
            run=self._run_tcp,
        )

    async def _serve(self, listener: socket.socket, tls: ssl.SSLContext | None, root: str) -> Server:
        """Serve websockets and HTTP; a further port's websockets at paths that do not exist are those at ``root``.

        Servers with a port for one dialect, such as vosk-server, do not look at the path.
        """

        def process_request(connection: ServerConnection, request: Request) -> Response | None:
            path, mark, query = request.path.partition("?")
            if (canonical := canonical_path(path)) in self._streams:
                path = canonical
            elif root != STREAM_PATH:
                path = root
            request.path = path + mark + query
            return self._process_request(connection, request)

        tls_limits: dict[str, Any] = {}
        if tls is not None:  # asyncio's own limits are longer, and unknown to the operator
            tls_limits["ssl_handshake_timeout"] = self._config.start_timeout_s
            tls_limits["ssl_shutdown_timeout"] = self._config.close_timeout_s
        return await serve(
            self._handle,
            sock=listener,
            ssl=tls,
            **tls_limits,
            create_connection=cast(type[ServerConnection], self._head_reader),
            process_request=process_request,
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
        return f"{self._address('ws')}{STREAM_PATH}"

    @property
    def page_url(self) -> str:
        """The URL of the captions page, for a browser on this machine."""
        listener = self._servers["native"].sockets[0]
        if listener.family == socket.AF_UNIX:
            return f"{self._address('http')}/"
        host, port = listener.getsockname()[:2]
        scheme = "http" if self._config.tls_cert is None else "https"
        return f"{scheme}://{with_port(from_here(host), port)}/"

    @property
    def dialect_urls(self) -> dict[str, str]:
        """The URLs of the further ports, by the name of the dialect."""
        websockets = {name: f"{self._address('ws', name)}/" for name in self._servers if name != "native"}
        return websockets | {name: address("tcp", server.listener) for name, server in self._tcp.items()}

    def _address(self, scheme: str, name: str = "native") -> str:
        assert self._servers, "not started"
        return address(scheme, self._servers[name].sockets[0], secure=self._config.tls_cert is not None)

    def browser_url(self) -> str:
        """Return the captions page's URL for a browser on this machine, with a browser token if one is required."""
        if not self._auth.required:
            return self.page_url
        origin = normalized_origin(self.page_url)
        token, _ = self._auth.mint(time.time(), self._config.browser_token_ttl_s, origin)
        return f"{self.page_url}#token={token}"

    async def drain(self) -> bool:
        """Refuse new sessions and finish the open ones; false if ``drain_timeout_s`` ran out first.

        HTTP requests are answered meanwhile, ``/ready`` with 503. New connections to a shared listener are not.
        """
        self._draining = True
        if self._shared:
            self._servers["native"].server.close()
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
        """Close the ports, and the remaining connections with code 1001."""
        self._end_parked()
        if self._watching is not None:
            self._watching.cancel()
        if self._servers:
            for server in self._servers.values():
                server.server.close()
            if self._waiting:
                # Connections that were accepted a moment ago still get their answer.
                await asyncio.wait([reader.ended for reader in self._waiting], timeout=_LAST_HEADS_S)
            for server in self._servers.values():
                server.close()
            for reader in list(self._waiting):
                reader.abort()
            self._uploads.close()
            await self._web.close()
            for tcp_server in self._tcp.values():
                await tcp_server.close()
            for server in self._servers.values():
                await server.wait_closed()

    def _end_parked(self) -> None:
        if self._sessions is not None:
            self._sessions.end_all()

    def _head_reader(self, protocol: ServerProtocol, server: Server, **options: Any) -> HeadReader:
        return HeadReader(
            websocket=lambda: ServerConnection(protocol, server, **options),
            http=self._web.protocol,
            waiting=self._waiting,
            timeout_s=self._config.start_timeout_s,
            max_bytes=self._config.max_header_bytes,
            max_headers=self._config.max_headers,
            protocol=protocol,
        )

    def _process_request(self, connection: ServerConnection, request: Request) -> Response | None:
        response = self.http.respond(request, connection.remote_address)
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
        client = self.http.client(connection.request, connection.remote_address)
        presented = self.http.presented_token(connection.request)
        dialect = self._streams[urlsplit(connection.request.path).path]
        translation = self._translations.pop(connection, None) or NativeTranslation(self._config.limits)
        await self._run_live(
            WebsocketTransport(connection, client.peer),
            translation,
            "native" if dialect is None else dialect.name,
            # A handshake that presents an invalid token is refused.
            None if presented is not None else partial(self._access.refuse, client),
        )

    async def _run_tcp(self, transport: TcpTransport, dialect: TcpDialect, request: DialectRequest) -> None:
        # Its clients have no tokens: the address that it listens on decides who may connect.
        await self._run_live(transport, dialect.open(request), dialect.name, None)

    async def _run_live(
        self,
        transport: Transport,
        translation: Translation,
        dialect: str,
        refuse: Callable[[str | None], StreamasrError | None] | None,
    ) -> None:
        handler = ConnectionHandler(
            transport,
            Conversation(translation, self._config.limits),
            dialect=dialect,
            config=self._config,
            engine=self._engine,
            refuse=refuse,
            metrics=self.metrics,
            log=self._log,
            sessions=self._sessions if isinstance(translation, NativeTranslation) else None,
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
            refuse=None,
            metrics=self.metrics,
            log=self._log,
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
