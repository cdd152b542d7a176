"""Serve whole recordings over HTTP: store the body, decode it, and run a native session behind live ones."""

from __future__ import annotations

import asyncio
import dataclasses
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import AbstractContextManager, aclosing
from pathlib import Path
from typing import Any

from starlette.responses import Response as HttpResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from websockets.http11 import Request

from streamasr.dialects.base import Answer, Dialect, RefusedError
from streamasr.dialects.conversation import Conversation
from streamasr.dialects.native import NativeTranslation
from streamasr.dialects.upload import PageDialect, Upload, UploadDialect
from streamasr.errors import DataError
from streamasr.media.reader import AudioReader, open_file
from streamasr.protocol.audio import encode_blocks, wire_format
from streamasr.protocol.messages import Done, Error, ServerMessage, Stop, Warning
from streamasr.protocol.serialisation import encode, parse_server_message
from streamasr.service.assets import DATA_HEADERS
from streamasr.service.config import ServerConfig
from streamasr.service.http import HttpHandler, dialect_request
from streamasr.service.interfaces import EngineInterface
from streamasr.service.transport import DisconnectedError, LocalTransport
from streamasr.service.upload_body import Body, ClientGoneError, Recording, store
from streamasr.service.web import abort, request_of, to_asgi
from streamasr.units import MS_PER_SECOND, ceil_div

BLOCK_MS = 500
"""Length of the blocks of audio that are fed to the session."""
_STATUS = {
    "bad_audio": 400,
    "bad_message": 400,
    "message_too_big": 413,
    "overloaded": 503,
    "shutting_down": 503,
}
"""Error code of a session to the HTTP status; other codes are errors of the server."""

Run = Callable[[LocalTransport, Conversation, str], Awaitable[None]]
"""Runs a connection handler for an upload: its transport, its conversation and the dialect's name."""


class Uploads:
    """Serves the recordings and documents of dialects.

    Args:
        config: the daemon's settings.
        engine: describes the model.
        pages: checks requests, and counts and shapes refusals.
        run: runs the session of an upload.
        working: returns a context in which the daemon counts as busy.
    """

    def __init__(
        self,
        *,
        config: ServerConfig,
        engine: EngineInterface,
        pages: HttpHandler,
        run: Run,
        working: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._config = config
        self._engine = engine
        self._pages = pages
        self._run = run
        self._working = working
        self._open: set[asyncio.Task[Any]] = set()
        self._closing = False

    def apps(self, dialects: Iterable[Dialect]) -> dict[tuple[str, str], ASGIApp]:
        """Return the applications of the dialects by method and path."""
        apps: dict[tuple[str, str], ASGIApp] = {}
        for dialect in dialects:
            if isinstance(dialect, UploadDialect):
                apps |= {("POST", path): _Bound(self._serve, dialect) for path in dialect.paths}
            elif isinstance(dialect, PageDialect):
                app = _Bound(self._serve_page, dialect)
                apps |= {("GET", dialect.prefix): app, ("GET", f"{dialect.prefix}/*"): app}
        return apps

    def close(self) -> None:
        """Answer the open uploads with 503."""
        self._closing = True
        for task in list(self._open):
            task.cancel()

    async def _serve_page(self, dialect: PageDialect, scope: Scope, receive: Receive, send: Send) -> None:
        request = request_of(scope)
        refusal = self._pages.check(request, self._pages.client(request, scope["client"]), dialect)
        if refusal is None:
            try:
                answer = dialect.page(dialect_request(request, self._engine.info))
                await _http(answer)(scope, receive, send)
                return
            except RefusedError as error:
                refusal = error.refusal
        await to_asgi(self._pages.refused(refusal, dialect))(scope, receive, send)

    async def _serve(self, dialect: UploadDialect, scope: Scope, receive: Receive, send: Send) -> None:
        task = asyncio.current_task()
        assert task is not None
        request = request_of(scope)
        body = Body(receive, scope, self._config)
        response = _Response(send, scope, self._config.slow_reader_s)
        try:
            client = self._pages.client(request, scope["client"])
            refusal = self._pages.check(request, client, dialect)
            if refusal is None and len(self._open) >= self._config.max_uploads:
                text = f"{self._config.max_uploads} uploads are being recognised already; try again later"
                refusal = self._pages.later("overloaded", text)
            if refusal is not None:
                raise RefusedError.of(refusal)
            self._open.add(task)
            with self._working():
                await self._answer(dialect, request, scope, body, response.send)
        except RefusedError as error:
            await body.discard()
            await to_asgi(self._pages.refused(error.refusal, dialect))(scope, receive, send)
        except ClientGoneError:
            pass
        except asyncio.CancelledError:
            if not self._closing:
                raise
            refusal = self._pages.later("shutting_down", "the server is shutting down; upload again later")
            if not response.started:
                await to_asgi(self._pages.refused(refusal, dialect))(scope, receive, send)
        finally:
            self._open.discard(task)

    async def _answer(
        self, dialect: UploadDialect, request: Request, scope: Scope, body: Body, send: Send
    ) -> None:
        if not dialect.file_fields:
            dialect.open(dialect_request(request, self._engine.info))  # before the body is read
        async with store(dialect.file_fields, body) as recording:
            upload = dialect.open(dialect_request(request, self._engine.info, recording.form))
            upload.sha256 = recording.sha256
            peer = self._pages.client(request, scope["client"]).peer
            messages = self._recognise(dialect, upload, recording, peer)
            working = asyncio.ensure_future(_reply(upload, messages, scope, body.receive, send))
            leaving = asyncio.ensure_future(body.disconnected())
            try:
                await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
                if not working.done():
                    raise ClientGoneError
                working.result()
            finally:
                working.cancel()
                leaving.cancel()
                await _ended(working, leaving)

    async def _recognise(
        self, dialect: UploadDialect, upload: Upload, recording: Recording, peer: str
    ) -> AsyncGenerator[ServerMessage, None]:
        """Yield the messages of the session, up to ``done``.

        Raises:
            RefusedError: the file cannot be read, or the session failed.
        """
        # By the process's number, because a child such as ffmpeg reads it, too.
        path = Path(f"/proc/{os.getpid()}/fd/{recording.file.fileno()}")
        try:
            reader = await asyncio.to_thread(open_file, path, name=recording.name, raw=upload.raw)
        except DataError as error:
            raise RefusedError(error.message, code="bad_data", param="file") from None
        transport = LocalTransport(peer)
        conversation = Conversation(NativeTranslation(self._config.limits), self._config.limits)
        with reader:
            running = asyncio.ensure_future(self._run(transport, conversation, dialect.name))
            feeding = asyncio.ensure_future(_feed(transport, upload, reader))
            try:
                while True:
                    message = parse_server_message(str(await transport.fetch()))
                    if isinstance(message, Error):
                        raise _failed(message)
                    if isinstance(message, Done):
                        for text in reader.warnings:
                            yield Warning(code="suspicious_audio", message=text)
                    yield message
                    if isinstance(message, Done):
                        return
            except DisconnectedError:
                failure = feeding.exception() if feeding.done() and not feeding.cancelled() else None
                if isinstance(failure, DataError):
                    raise RefusedError(failure.message, code="bad_data", param="file") from None
                text = "internal server error; upload again"
                raise RefusedError(text, status=500, code="internal") from failure
            finally:
                transport.abort()
                feeding.cancel()
                await _ended(running, feeding)


class _Response:
    """A response that the client has to read, and of which it is known whether it has begun."""

    def __init__(self, send: Send, scope: Scope, slow_reader_s: float) -> None:
        self._send = send
        self._scope = scope
        self._slow_reader_s = slow_reader_s
        self.started = False

    async def send(self, message: Message) -> None:
        self.started = True
        try:
            async with asyncio.timeout(self._slow_reader_s):
                await self._send(message)
        except TimeoutError:
            abort(self._scope)
            await asyncio.sleep(0)  # so that the HTTP server notices it
            raise ClientGoneError from None


class _Bound:
    """A method that serves one dialect, as an application."""

    def __init__(
        self, serve: Callable[[Any, Scope, Receive, Send], Awaitable[None]], dialect: Dialect
    ) -> None:
        self._serve = serve
        self._dialect = dialect

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._serve(self._dialect, scope, receive, send)


async def _feed(transport: LocalTransport, upload: Upload, reader: AudioReader) -> None:
    """Send the session's messages and the file's audio; close the connection if the file cannot be read."""
    audio = wire_format(reader, mixed=True)
    start = dataclasses.replace(
        upload.start, sample_rate=audio.sample_rate, encoding=audio.encoding, channels=audio.channels
    )
    blocks = iter(encode_blocks(reader.mono_blocks(audio.sample_rate), audio, BLOCK_MS))
    try:
        await transport.feed(encode(start))
        while (block := await _in_thread(lambda: next(blocks, None))) is not None:
            await transport.feed(block)
        await transport.feed(encode(Stop()))
    except DisconnectedError:
        pass
    except DataError:
        transport.abort()
        raise


async def _in_thread(read: Callable[[], bytes | None]) -> bytes | None:
    """Return what ``read`` returns in a thread. A cancelled caller waits for it, because it uses an open file."""
    reading = asyncio.ensure_future(asyncio.to_thread(read))
    try:
        return await asyncio.shield(reading)
    except asyncio.CancelledError:
        await _ended(reading)
        raise


async def _ended(*tasks: asyncio.Future[Any]) -> None:
    """Wait for tasks that end soon, and pass a cancellation on only then: they free sessions and use open files."""
    cancelled: asyncio.CancelledError | None = None
    while running := [task for task in tasks if not task.done()]:
        try:
            await asyncio.wait(running)
        except asyncio.CancelledError as error:
            cancelled = error
    for task in tasks:
        if not task.cancelled():
            task.exception()  # so that asyncio does not report it as unseen
    if cancelled is not None:
        raise cancelled


async def _reply(
    upload: Upload,
    messages: AsyncGenerator[ServerMessage, None],
    scope: Scope,
    receive: Receive,
    send: Send,
) -> None:
    """Send the answer: at the end, or, if it is streamed, from the session's first message on."""
    async with aclosing(messages):
        if upload.stream_type is None:
            async for message in messages:
                for _ in upload.send(message):
                    pass
            await _http(upload.answer())(scope, receive, send)
            return
        await _stream(upload, upload.stream_type, messages, send)


async def _stream(
    upload: Upload, content_type: str, messages: AsyncGenerator[ServerMessage, None], send: Send
) -> None:
    first = await anext(messages)  # an error before it still gets a status of its own
    headers = [(b"content-type", content_type.encode()), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})

    async def pass_on(parts: Iterable[bytes]) -> None:
        for part in parts:
            await send({"type": "http.response.body", "body": part, "more_body": True})

    try:
        await pass_on(upload.send(first))
        async for message in messages:
            await pass_on(upload.send(message))
    except RefusedError as error:
        await pass_on(upload.fail(error.refusal))
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def _http(answer: Answer) -> HttpResponse:
    headers = {
        "Content-Type": answer.content_type,
        "Cache-Control": "no-store",
        **DATA_HEADERS,
        **answer.headers,
    }
    return HttpResponse(answer.body, answer.status, headers)


def _failed(error: Error) -> RefusedError:
    """Return the session's error as an answer."""
    headers = {}
    if error.retry_after_ms is not None:
        headers["Retry-After"] = str(ceil_div(error.retry_after_ms, MS_PER_SECOND))
    status = _STATUS.get(error.code, 500)
    return RefusedError(error.message, status=status, code=error.code, headers=headers)
