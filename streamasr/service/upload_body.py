"""Read the body of an upload, within limits, into a file."""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import IO

from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.types import Receive, Scope

from streamasr.dialects.base import RefusedError
from streamasr.service.config import ServerConfig

_DISCARD_S = 10.0
"""Longest time to read the rest of a refused body. A client that still writes would not read the answer."""
_FORM_FIELDS = 100
_FIELD_BYTES = 65_536
"""Most fields of a form, and the longest value of one."""
_UNREAD_FIELDS = "known_speaker_references"
"""Begins the names of fields that nobody reads and whose values may be long: samples of the speakers' voices."""


class ClientGoneError(Exception):
    """The client closed the connection before it had the answer."""


@dataclass(frozen=True, slots=True)
class Recording:
    """An uploaded file."""

    file: IO[bytes]
    """Has a descriptor, and nothing in a buffer."""
    name: str
    form: dict[str, tuple[str, ...]]
    """The other fields of the form."""
    sha256: str = ""
    """The digest of the body, if it is the recording."""


class Body:
    """A request's body, with limits on its size and on pauses."""

    def __init__(self, receive: Receive, scope: Scope, config: ServerConfig) -> None:
        self.receive = receive
        self._limit = config.max_upload_bytes
        self._timeout_s = config.idle_timeout_s
        self._size = 0
        self._complete = False
        self._stalled = False
        self.headers = Headers(scope=scope)

    async def parts(self) -> AsyncGenerator[bytes, None]:
        """Yield the body as it arrives.

        Raises:
            RefusedError: it is too large, or it does not arrive.
        """
        stated = self.headers.get("content-length", "0")
        if stated.isdecimal() and int(stated) > self._limit:
            raise self._too_large()
        while not self._complete:
            try:
                async with asyncio.timeout(self._timeout_s):
                    message = await self.receive()
            except TimeoutError:
                self._stalled = True
                text = f"no data of the upload for {self._timeout_s:g} s"
                raise RefusedError(text, status=408, code="idle_timeout") from None
            if message["type"] == "http.disconnect":
                raise ClientGoneError
            part = message.get("body", b"")
            self._complete = not message.get("more_body", False)
            self._size += len(part)
            if self._size > self._limit:
                raise self._too_large()
            yield part

    async def discard(self) -> None:
        """Read the rest of the body, so that the client reads the answer.

        Nothing is read if the client waits for leave to send the body, or has stopped sending it.
        """
        waits = self.headers.get("expect", "").lower() == "100-continue" and not self._size
        if waits or self._stalled:
            return
        try:
            async with asyncio.timeout(_DISCARD_S):
                while not self._complete:
                    message = await self.receive()
                    self._complete = not message.get("more_body", False)
        except TimeoutError:
            pass

    async def disconnected(self) -> None:
        """Wait until the client is gone."""
        while (await self.receive())["type"] != "http.disconnect":
            pass

    def _too_large(self) -> RefusedError:
        text = f"an upload may have at most {self._limit} bytes"
        return RefusedError(text, status=413, code="message_too_big", param="file")


@asynccontextmanager
async def store(file_fields: Sequence[str], body: Body) -> AsyncIterator[Recording]:
    """Store the recording of a request in a file without a name, which vanishes when it is closed.

    Args:
        file_fields: the fields of a multipart form that may hold the recording; empty if the body is the recording.
        body: the request's body.

    Raises:
        RefusedError: the body is not what it should be, is too large, does not arrive, or cannot be stored.
    """
    if file_fields:
        async with _form_file(file_fields, body) as recording:
            yield recording
        return
    digest = hashlib.sha256()
    with _storing():
        file = tempfile.TemporaryFile()  # noqa: SIM115 - closing it may fail, too, when the disk is full
    try:
        with _storing():
            async for part in body.parts():
                digest.update(part)
                await asyncio.to_thread(file.write, part)
            await asyncio.to_thread(_settle, file)
        yield Recording(file, "audio", {}, digest.hexdigest())
    finally:
        _drop(file)


@contextmanager
def _storing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        text = f"the upload cannot be stored: {error.strerror or error}"
        raise RefusedError(text, status=507, code="internal") from None


class _FormParser(MultiPartParser):
    """Reads a form, of which the parts named ``file_fields`` are files also without a ``filename``.

    Some clients send none, or for a name beyond ASCII only ``filename*``, which RFC 7578 does not allow in forms.
    """

    def __init__(self, file_fields: Sequence[str], body: Body) -> None:
        super().__init__(
            body.headers, body.parts(), max_files=1, max_fields=_FORM_FIELDS, max_part_size=_FIELD_BYTES
        )
        self._file_names = {name.encode() for name in file_fields}

    def on_headers_finished(self) -> None:
        part = self._current_part
        _, options = parse_options_header(part.content_disposition)
        if b"filename" not in options and options.get(b"name") in self._file_names:
            part.content_disposition = (part.content_disposition or b"") + b'; filename=""'
        super().on_headers_finished()

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._current_part.file is not None or not self._current_part.field_name.startswith(
            _UNREAD_FIELDS
        ):
            super().on_part_data(data, start, end)


def _settle(file: IO[bytes]) -> None:
    """Put what is still in memory on the disk, so that others can open the file by its descriptor."""
    file.flush()
    file.fileno()  # a small one gets its descriptor only now


def _drop(file: IO[bytes]) -> None:
    with suppress(OSError):  # bytes that the disk had no room for
        file.close()


@asynccontextmanager
async def _form_file(file_fields: Sequence[str], body: Body) -> AsyncIterator[Recording]:
    fields = " or ".join(repr(name) for name in file_fields)
    kind = body.headers.get("content-type", "")
    if not kind.lower().startswith("multipart/form-data"):
        got = f"got {kind}" if kind else "got no Content-Type"
        text = f"expected multipart/form-data with the recording in the field {fields}, {got}"
        raise RefusedError(text, status=415)
    parser = _FormParser(file_fields, body)
    try:
        with _storing():
            items = (await parser.parse()).multi_items()
    except MultiPartException as error:
        raise RefusedError(f"the form cannot be read: {error.message}") from None
    files = [(name, value) for name, value in items if isinstance(value, UploadFile)]
    try:
        form: dict[str, tuple[str, ...]] = {}
        for name, value in items:
            if isinstance(value, str):
                form[name] = (*form.get(name, ()), value)
        for name, file in files:
            if name in file_fields:
                with _storing():
                    await asyncio.to_thread(_settle, file.file)
                yield Recording(file.file, file.filename or "audio", form)
                return
        text = f"the form has no file in the field {fields}"
        raise RefusedError(text, param=file_fields[0])
    finally:
        for _, file in files:
            _drop(file.file)
