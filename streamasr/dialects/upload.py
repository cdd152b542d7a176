"""Define what a dialect for whole recordings is: a request over HTTP becomes a native session, finals an answer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import ClassVar

from streamasr.dialects.base import Answer, Dialect, Refusal, Request
from streamasr.media.pcm import RawFormat
from streamasr.protocol.messages import ServerMessage, Start


class Upload(ABC):
    """One uploaded recording in a dialect.

    Attributes:
        start: the options of its native session. The format of the recording replaces its audio fields.
        raw: the format of a recording without a header; ``None`` for an audio file.
        sha256: the digest of the request's body, in hexadecimal, if the body is the recording; set by the service.
        stream_type: the content type of an answer that is sent while the recording is recognised; ``None`` for one
            answer at the end.
    """

    start: Start
    raw: RawFormat | None = None
    sha256: str = ""
    stream_type: str | None = None

    @abstractmethod
    def send(self, message: ServerMessage) -> Iterable[bytes]:
        """Note a message of the session, and return what a streamed answer sends for it. ``done`` comes last."""

    @abstractmethod
    def answer(self) -> Answer:
        """Return the answer at the end, if it is not streamed."""

    def fail(self, refusal: Refusal) -> Iterable[bytes]:  # noqa: ARG002
        """Return what a streamed answer sends if recognition fails after it began."""
        return ()


class UploadDialect(Dialect):
    """A protocol for whole recordings over HTTP."""

    paths: ClassVar[tuple[str, ...]]
    """The paths that accept ``POST``."""
    file_fields: ClassVar[tuple[str, ...]] = ()
    """The fields of a multipart form that may hold the recording; empty if the body is the recording."""

    @abstractmethod
    def open(self, request: Request) -> Upload:
        """Return the translation of an upload.

        Raises:
            RefusedError: the request asks for something that is not supported.
        """


class PageDialect(Dialect):
    """A protocol's documents, such as its list of models."""

    prefix: ClassVar[str]
    """The path that accepts ``GET``, and begins the paths of its other documents."""

    @abstractmethod
    def page(self, request: Request) -> Answer:
        """Return the document at ``request.path``.

        Raises:
            RefusedError: there is none.
        """
