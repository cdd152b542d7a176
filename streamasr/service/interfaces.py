"""What the service needs of an engine: the surface of :class:`streamasr.engine.Engine`, and no more.

Tests put a small fake behind it; nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from streamasr.engine.stats import EngineStats
from streamasr.protocol.messages import HotwordSpec, Ready, ServerMessage, Start


class SessionInterface(Protocol):
    """One session; every method returns at once."""

    @property
    def id(self) -> str:
        """Unique over the life of the engine."""

    @property
    def ready(self) -> Ready:
        """The first message to the client."""

    @property
    def congested(self) -> bool:
        """Whether no more audio should be read until ``resume`` is called."""

    @property
    def backlog_ms(self) -> int:
        """Audio waiting to be recognised."""

    def feed(self, data: bytes) -> None:
        """Audio."""

    def finalize(self, finalize_id: str) -> None:
        """Flush, then answer ``finalized``."""

    def configure(self, hotwords: Iterable[HotwordSpec]) -> None:
        """Change the hotwords."""

    def stop(self) -> None:
        """Finish; ``done`` follows."""

    def abort(self) -> None:
        """Forget it."""


class EngineInterface(Protocol):
    """Many sessions on a thread of their own; sinks are called on that thread."""

    @property
    def heartbeat(self) -> float:
        """``time.monotonic()`` of the worker's last turn."""

    @property
    def alive(self) -> bool:
        """Whether the worker runs."""

    def open(
        self, start: Start, sink: Callable[[ServerMessage], None], resume: Callable[[], None] = ...
    ) -> SessionInterface:
        """A new session; raises ``OverloadedError`` or ``ProtocolError``."""

    def stats(self) -> EngineStats:
        """What it has done."""

    def close(self) -> None:
        """End the worker."""
