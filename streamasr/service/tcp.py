"""Serve a dialect without HTTP on a TCP port of its own."""

from __future__ import annotations

import asyncio
import datetime
import logging
import socket
import uuid
from collections.abc import Awaitable, Callable

from streamasr.dialects.base import Refusal, Request, TcpDialect
from streamasr.protocol.model_info import ModelInfo
from streamasr.service.transport import TcpTransport

logger = logging.getLogger(__name__)


class TcpServer:
    """Accepts the connections of one dialect.

    Args:
        dialect: its protocol.
        model: the model that is served.
        close_timeout_s: longest wait for a client to close its side of a connection.
        refusal: returns why a new connection is refused now; ``None`` if it is not.
        run: runs a connection in the dialect until it is closed.
    """

    def __init__(
        self,
        dialect: TcpDialect,
        model: ModelInfo,
        *,
        close_timeout_s: float,
        refusal: Callable[[], Refusal | None],
        run: Callable[[TcpTransport, TcpDialect, Request], Awaitable[None]],
    ) -> None:
        self._dialect = dialect
        self._model = model
        self._close_timeout_s = close_timeout_s
        self._refusal = refusal
        self._run = run
        self._server: asyncio.Server | None = None
        self._open: set[TcpTransport] = set()

    async def start(self, listener: socket.socket) -> None:
        """Accept connections from now on. The server closes ``listener``."""
        self._server = await asyncio.start_server(self._connected, sock=listener)

    @property
    def listener(self) -> socket.socket:
        """The listening socket."""
        assert self._server is not None, "not started"
        return self._server.sockets[0]

    async def close(self) -> None:
        """Close the port and drop the remaining connections."""
        if self._server is not None:
            self._server.close()
            for transport in list(self._open):
                transport.abort()
            await self._server.wait_closed()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        transport = TcpTransport(reader, writer, self._close_timeout_s)
        self._open.add(transport)
        try:
            refusal = self._refusal()
            if refusal is not None:
                writer.write(self._dialect.refuse(refusal).body)
                await writer.drain()
                return
            request = Request(
                id=str(uuid.uuid4()),
                received_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"),
                path="",
                values={},
                headers={},
                model=self._model,
            )
            await self._run(transport, self._dialect, request)
        except OSError:
            pass  # the client is gone
        except Exception:
            logger.exception("tcp_connection_failed", extra={"fields": {"peer": transport.peer}})
        finally:
            self._open.discard(transport)
            writer.close()
