"""Answer plain HTTP requests, and decide which requests may be upgraded to a websocket."""

from __future__ import annotations

import datetime
import http
import json
import logging
import math
import time
import uuid
from collections.abc import Callable, Mapping
from urllib.parse import parse_qs, unquote, urlsplit

from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from streamasr.dialects.base import Dialect, LiveDialect, Refusal
from streamasr.dialects.base import Request as DialectRequest
from streamasr.dialects.native import PATH as STREAM_PATH
from streamasr.errors import StreamasrError
from streamasr.protocol.model_info import ModelInfo
from streamasr.service import metrics as exposition
from streamasr.service.access import AccessControl, Client
from streamasr.service.assets import DATA_HEADERS, SECURITY_HEADERS, Asset
from streamasr.service.auth import (
    TokenAuth,
    bearer_token,
    normalized_origin,
    origin_allowed,
    presented_token,
)
from streamasr.service.config import ServerConfig
from streamasr.service.interfaces import EngineInterface
from streamasr.service.logs import StrangersLog
from streamasr.service.metrics import Metrics
from streamasr.units import MS_PER_SECOND

TOKEN_PATH = "/v1/token"
CHECK_PATH = "/v1/check"
"""Where a browser page asks why its websocket was refused, which browsers do not tell."""


class HttpHandler:
    """Answers requests without blocking.

    Args:
        config: the daemon's settings.
        auth: makes browser tokens.
        access: checks tokens.
        engine: reports its health and counters.
        metrics: served at ``/metrics``.
        log: logs refused origins.
        assets: request path to file of the captions page.
        streams: request path of a websocket to its dialect; ``None`` for the native protocol.
        connections: returns the number of open websockets.
        draining: returns whether the daemon is shutting down.
    """

    def __init__(
        self,
        *,
        config: ServerConfig,
        auth: TokenAuth,
        access: AccessControl,
        engine: EngineInterface,
        metrics: Metrics,
        log: StrangersLog,
        assets: Mapping[str, Asset],
        streams: Mapping[str, LiveDialect | None],
        connections: Callable[[], int],
        draining: Callable[[], bool],
    ) -> None:
        self._config = config
        self._auth = auth
        self._access = access
        self._engine = engine
        self._metrics = metrics
        self._log = log
        self._assets = assets
        self._streams = streams
        self._connections = connections
        self._draining = draining

    def respond(self, request: Request, peer: object) -> Response | None:
        """Return the response to ``request``; ``None`` if it may be upgraded to a websocket.

        ``peer`` is the remote address of its socket.
        """
        path = urlsplit(request.path).path
        client = self.client(request, peer)
        if path in self._streams:
            return self._check_upgrade(path, request, client)
        if path == TOKEN_PATH:
            return self._mint_token(request, client)
        if path == CHECK_PATH:
            return self._explain(request, client)
        if request.method not in ("GET", "HEAD"):
            return text_response(405, f"{request.method} is not allowed here; use GET\n", Allow="GET, HEAD")
        response = self._route(path, request, client)
        if request.method == "HEAD":
            response.body = b""
        return response

    def client(self, request: Request, peer: object) -> Client:
        """Return who sent a request over a socket with the remote address ``peer``."""
        return self._access.client(
            peer, request.headers.get("Origin"), request.headers.get_all("X-Forwarded-For")
        )

    def allowed_origin(self, request: Request) -> str | None:
        """Return the origin of the page that sent a request, if its pages may use the daemon; else ``None``."""
        origin, host = request.headers.get("Origin"), request.headers.get("Host")
        allowed = self._config.allowed_origins
        is_allowed = origin_allowed(origin, host, allowed, token_required=self._auth.required)
        return origin if is_allowed else None

    def presented_token(self, request: Request) -> str | None:
        """Return the token that a request presents in a header or in its query, if any."""
        return presented_token(headers_of(request), parse_qs(urlsplit(request.path).query))

    def later(self, code: str, message: str) -> Refusal:
        """Return a refusal after which the client should try again."""
        seconds = math.ceil(self._config.engine.retry_after_ms / MS_PER_SECOND)
        return Refusal(status=503, code=code, message=message, headers={"Retry-After": str(seconds)})

    def refused(self, refusal: Refusal, dialect: Dialect | None = None) -> Response:
        """Count a refusal, and return the response in the shape of ``dialect``."""
        self._metrics.refused.labels(refusal.code).inc()
        if dialect is None:
            named = {name.replace("-", "_"): value for name, value in refusal.headers.items()}
            return text_response(refusal.status, f"{refusal.message}\n", **named)
        answer = dialect.refuse(refusal)
        return _response(
            answer.status, answer.body, answer.content_type, {**refusal.headers, **answer.headers}
        )

    def healthy(self) -> bool:
        """Whether the engine's worker is running and has sent a heartbeat within ``stalled_s``."""
        silent_s = time.monotonic() - self._engine.last_heartbeat
        return self._engine.alive and silent_s < self._config.stalled_s

    def _route(self, path: str, request: Request, client: Client) -> Response:
        if path == "/health":
            return self._health()
        if path == "/ready":
            return self._ready()
        if path == "/metrics":
            error = self._access.refuse_master(client, self.presented_token(request))
            if error is not None:
                return _refused_token(error)
            return _response(200, self._metrics.exposition(), exposition.CONTENT_TYPE)
        if path in self._assets:
            return _asset_response(self._assets[path], request)
        return text_response(
            404, f"nothing at {path}; the stream is at {STREAM_PATH} and the captions page at /\n"
        )

    def _health(self) -> Response:
        healthy = self.healthy()
        return _json_response(
            200 if healthy else 503, {"status": "ok" if healthy else "the engine is not responding"}
        )

    def _ready(self) -> Response:
        ready = self.healthy() and not self._draining()
        stats = self._engine.stats()
        return _json_response(
            200 if ready else 503,
            {
                "ready": ready,
                "draining": self._draining(),
                "sessions": stats.sessions,
                "max_sessions": stats.max_sessions or self._config.engine.slots,
            },
        )

    def _check_upgrade(self, path: str, request: Request, client: Client) -> Response | None:
        if request.headers.get("Upgrade", "").lower() != "websocket":
            return text_response(426, f"{path} accepts only websocket connections\n", Upgrade="websocket")
        dialect = self._streams[path]
        refusal = self.check(request, client, dialect)
        return None if refusal is None else self.refused(refusal, dialect)

    def check_room(self) -> Refusal | None:
        """Return why no client can open a session now; ``None`` if clients can."""
        if self._draining():
            return self.later("shutting_down", "the server is shutting down; connect again later")
        if self._connections() >= self._config.max_connections:
            return self.later("overloaded", "too many connections; connect again later")
        return None

    def check(self, request: Request, client: Client, dialect: Dialect | None) -> Refusal | None:
        """Return why a request for a session is refused; ``None`` if it is not."""
        refusal = self.check_room()
        if refusal is not None:
            return refusal
        origin, host = client.origin, request.headers.get("Host")
        if not origin_allowed(origin, host, self._config.allowed_origins, token_required=self._auth.required):
            self._log.event("origin_refused", level=logging.WARNING, origin=origin, host=host)
            text = (
                f"origin {origin} may not connect to host {host}; to allow its pages, add it to allowed_origins, "
                "or set a token and let the reverse proxy pass the Host header on with its port"
            )
            return Refusal(status=403, code="bad_origin", message=text)
        token = self.presented_token(request)
        # The native protocol's token may also come in `start`.
        error = self._access.refuse(client, token) if token is not None or dialect is not None else None
        return None if error is None else token_refusal(error)

    def _explain(self, request: Request, client: Client) -> Response:
        if request.method != "POST":  # browsers send the origin of a page with POST, but not with GET
            return text_response(405, "use POST, with an empty body\n", Allow="POST")
        refusal = self.check(request, client, None)
        if refusal is None:
            return _json_response(200, {"accepted": True})
        answer: dict[str, object] = {"accepted": False, "code": refusal.code, "message": refusal.message}
        if refusal.status == 503:
            answer["retry_after_ms"] = self._config.engine.retry_after_ms
        elif "Retry-After" in refusal.headers:
            answer["retry_after_ms"] = int(refusal.headers["Retry-After"]) * MS_PER_SECOND
        return _json_response(200, answer)

    def _mint_token(self, request: Request, client: Client) -> Response:
        if request.method != "POST":
            return text_response(405, "use POST, with an empty body\n", Allow="POST")
        if not self._auth.required:
            return text_response(404, "this server has no token, so clients need none\n")
        error = self._access.refuse_master(client, bearer_token(request.headers.get("Authorization")))
        if error is not None:
            return _refused_token(error)
        wanted = parse_qs(urlsplit(request.path).query).get("origin", [client.origin])[0]
        origin = None if wanted is None else normalized_origin(wanted)
        if wanted is not None and origin is None:
            return text_response(400, f"{wanted!r} is not an origin; an example is https://example.org\n")
        token, expiry = self._auth.mint(time.time(), self._config.browser_token_ttl_s, origin)
        return _json_response(200, {"token": token, "expires_at": expiry, "origin": origin})


def _asset_response(asset: Asset, request: Request) -> Response:
    headers = {"ETag": asset.etag, "Cache-Control": "no-cache", **SECURITY_HEADERS}
    if request.headers.get("If-None-Match") == asset.etag:
        return _response(304, b"", asset.content_type, headers)
    return _response(200, asset.body, asset.content_type, headers)


def headers_of(request: Request) -> dict[str, str]:
    """Return a request's headers by their names in lower case."""
    return {name.lower(): value for name, value in request.headers.raw_items()}


def dialect_request(
    request: Request, model: ModelInfo, form: Mapping[str, tuple[str, ...]] | None = None
) -> DialectRequest:
    """Return the parts of a request that dialects read; the fields of ``form`` replace those of the query."""
    parts = urlsplit(request.path)
    query = parse_qs(parts.query, keep_blank_values=True)
    return DialectRequest(
        id=str(uuid.uuid4()),
        received_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"),
        path=unquote(parts.path),
        values={name: tuple(values) for name, values in query.items()} | dict(form or {}),
        headers=headers_of(request),
        model=model,
    )


def token_refusal(error: StreamasrError) -> Refusal:
    """Return the refusal of a request whose token was refused with ``error``."""
    if error.retry_after_ms is None:
        headers = {"WWW-Authenticate": "Bearer"}
        return Refusal(status=401, code=error.code, message=error.message, headers=headers)
    seconds = math.ceil(error.retry_after_ms / MS_PER_SECOND)
    return Refusal(status=429, code=error.code, message=error.message, headers={"Retry-After": str(seconds)})


def _refused_token(error: StreamasrError) -> Response:
    refusal = token_refusal(error)
    named = {name.replace("-", "_"): value for name, value in refusal.headers.items()}
    return text_response(refusal.status, refusal.message + "\n", **named)


def _json_response(status: int, value: object) -> Response:
    return _response(status, json.dumps(value).encode() + b"\n", "application/json")


def text_response(status: int, text: str, **headers: str) -> Response:
    """Return a response of plain text."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return _response(status, text.encode("utf-8", "replace"), "text/plain; charset=utf-8", named)


def _response(
    status: int, body: bytes, content_type: str, headers: Mapping[str, str] | None = None
) -> Response:
    lines = {"Cache-Control": "no-store", **DATA_HEADERS, **(headers or {})}
    return Response(
        status,
        http.HTTPStatus(status).phrase,
        Headers(
            {"Content-Type": content_type, "Content-Length": str(len(body)), "Connection": "close", **lines}
        ),
        body,
    )
