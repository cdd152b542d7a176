"""Serve HTTP requests with uvicorn on connections that :mod:`streamasr.service.port` hands over."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import uvicorn
from starlette.responses import Response as HttpResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from streamasr.dialects.addresses import canonical_path
from streamasr.service.config import ServerConfig
from streamasr.service.cors import ReadableBy, is_preflight, preflight_response
from streamasr.service.http import HttpHandler, text_response

_STOP_TIMEOUT_S = 1.0
"""Longest wait for the last responses when the server closes."""


class _Connection(H11Protocol):
    """A connection that is dropped if the client does not read the end of its response in time.

    It is ``state.connection`` in the scope of its request.
    """

    def __init__(self, config: uvicorn.Config, server_state: ServerState, slow_reader_s: float) -> None:
        super().__init__(config, server_state, app_state={"connection": self})
        self._slow_reader_s = slow_reader_s

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self.loop.call_later(self._slow_reader_s, self.transport.abort)


class WebServer:
    """Runs an application on single connections. Each connection serves one request, so none waits for a second.

    Args:
        app: the ASGI application.
        config: the daemon's settings. A response whose end the client does not read within ``slow_reader_s`` is
            dropped.
    """

    def __init__(self, app: ASGIApp, config: ServerConfig) -> None:
        self._slow_reader_s = config.slow_reader_s
        self._config = uvicorn.Config(
            app,
            http=_Connection,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            h11_max_incomplete_event_size=config.max_header_bytes,
            headers=[("Server", "streamasr"), ("Connection", "close")],
        )
        self._config.load()
        self._state = ServerState()
        self._state.default_headers = self._config.encoded_headers

    def protocol(self) -> asyncio.Protocol:
        """Return the protocol for one connection."""
        return _Connection(self._config, self._state, self._slow_reader_s)

    async def close(self) -> None:
        """End the open connections, those in the middle of a response after at most a second."""
        for connection in list(self._state.connections):
            connection.shutdown()
        tasks = set(self._state.tasks)
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=_STOP_TIMEOUT_S)
            for task in late:
                task.cancel()
        for connection in list(self._state.connections):
            connection.transport.abort()


class WebApp:
    """Answers HTTP requests: those of dialects by path, all others with the daemon's own pages.

    Args:
        pages: answers requests that have no body.
        apps: method and path to application; a path that ends with ``*`` also serves the paths that begin with it.
    """

    def __init__(self, pages: HttpHandler, apps: Mapping[tuple[str, str], ASGIApp]) -> None:
        self._pages = pages
        self._apps = apps

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if self._methods(path := canonical_path(scope["path"])):
            raw_path = canonical_path(scope["raw_path"].decode("latin-1")).encode("latin-1")
            scope = {**scope, "path": path, "raw_path": raw_path}
        request = request_of(scope)
        app = self._app("GET" if scope["method"] == "HEAD" else scope["method"], scope["path"])
        if app is None and is_preflight(request):
            app = self._preflight(request, scope["path"])
        elif app is not None and (origin := self._pages.allowed_origin(request)):
            app = ReadableBy(app, origin)
        await (app or self._page)(scope, receive, send)

    def _methods(self, path: str) -> list[str]:
        return [method for method in ("GET", "POST") if self._app(method, path)]

    def _preflight(self, request: Request, path: str) -> ASGIApp | None:
        methods = self._methods(path)
        if not methods:
            return None
        origin = self._pages.allowed_origin(request)
        if origin is None:
            return to_asgi(text_response(403, "the origin of this page is not in allowed_origins\n"))
        return to_asgi(preflight_response(request, origin, ", ".join(methods)))

    def _app(self, method: str, path: str) -> ASGIApp | None:
        exact = self._apps.get((method, path))
        if exact is not None:
            return exact
        for (allowed, pattern), app in self._apps.items():
            if method == allowed and pattern.endswith("*") and path.startswith(pattern[:-1]):
                return app
        return None

    async def _page(self, scope: Scope, receive: Receive, send: Send) -> None:
        method, path = scope["method"], scope["path"]
        # ``None`` is an upgrade in a form that was not recognised as one.
        response = self._pages.respond(request_of(scope), scope["client"])
        response = response or text_response(400, "not a valid handshake\n")
        versioned = canonical_path(f"/v1{path}")
        if self._app(method, versioned) is not None:
            text = f"nothing at {path}, but at {versioned}: the base URL of OpenAI's clients ends with /v1\n"
            response = text_response(404, text)
        elif (methods := self._methods(path)) and (method != "GET" or response.status_code == 404):
            allowed = ", ".join(methods)
            response = text_response(405, f"{method} is not allowed here; use {allowed}\n", Allow=allowed)
        await to_asgi(response)(scope, receive, send)


def abort(scope: Scope) -> None:
    """Drop the connection of a request."""
    scope["state"]["connection"].transport.abort()


def request_of(scope: Scope) -> Request:
    """Return a request in the form in which websocket handshakes come."""
    target = scope["raw_path"].decode("latin-1")
    if scope["query_string"]:
        target += "?" + scope["query_string"].decode("latin-1")
    headers = Headers((name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"])
    return Request(target, headers, scope["method"])


def to_asgi(response: Response) -> HttpResponse:
    """Return a response to a handshake as one to a plain request."""
    named = {name: value for name, value in response.headers.raw_items() if name != "Connection"}
    return HttpResponse(response.body, response.status_code, named)
