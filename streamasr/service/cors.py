"""Let web pages of allowed origins use an application (CORS, https://fetch.spec.whatwg.org/#http-cors-protocol)."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

_MAX_AGE_S = 600
"""How long a browser may remember the answer to a preflight."""


def is_preflight(request: Request) -> bool:
    """Whether a browser asks if a page may send a request."""
    return request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers


def preflight_response(request: Request, origin: str, methods: str) -> Response:
    """Return the answer to a preflight of a page that may send its request.

    Args:
        request: the preflight.
        origin: the page's origin.
        methods: the methods that its path has, separated by commas.
    """
    headers = {
        "Access-Control-Allow-Origin": origin,
        "Access-Control-Allow-Methods": methods,
        "Access-Control-Max-Age": str(_MAX_AGE_S),
        "Vary": "Origin",
    }
    if wanted := request.headers.get("Access-Control-Request-Headers"):
        headers["Access-Control-Allow-Headers"] = wanted
    if request.headers.get("Access-Control-Request-Private-Network") == "true":
        headers["Access-Control-Allow-Private-Network"] = "true"
    return Response(204, "No Content", Headers(headers))


class ReadableBy:
    """An application whose responses the pages of ``origin`` may read."""

    def __init__(self, app: ASGIApp, origin: str) -> None:
        self._app = app
        self._origin = origin

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""

        async def send_readable(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Access-Control-Allow-Origin"] = self._origin
                headers["Access-Control-Expose-Headers"] = "*"
                headers.add_vary_header("Origin")
            await send(message)

        await self._app(scope, receive, send_readable)
