"""Declare the part of :class:`streamasr.engine.Engine` that the service uses.

The service imports these interfaces instead of the engine, so it starts without torch, and tests can use a fake.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from streamasr.engine.stats import EngineStats
from streamasr.protocol.messages import HotwordSpec, Ready, ServerMessage, Start
from streamasr.protocol.model_info import ModelInfo


class SessionInterface(Protocol):
    """One session. No method blocks."""

    @property
    def id(self) -> str:
        """Unique over the life of the engine."""

    @property
    def ready(self) -> Ready:
        """The first message for the client."""

    @property
    def congested(self) -> bool:
        """Whether no more audio should be read until ``resume`` is called."""

    @property
    def is_live(self) -> bool:
        """Whether it counts as live load: its end makes room for another live session."""

    @property
    def backlog_ms(self) -> int:
        """Audio that waits to be recognised, in milliseconds."""

    def feed(self, data: bytes) -> None:
        """Queue audio. Raises ``AudioError`` or ``OverloadedError``."""

    def drop_partial_frame(self) -> None:
        """Drop the bytes of an incomplete frame; the client sends the whole frame again."""

    def finalize(self, finalize_id: str) -> None:
        """Finish the audio so far, then emit ``finalized``."""

    def configure(self, hotwords: Iterable[HotwordSpec]) -> None:
        """Replace the hotwords."""

    def stop(self) -> None:
        """End the audio. The last finals and ``done`` follow."""

    def abort(self) -> None:
        """Drop the session and all queued audio."""


class EngineInterface(Protocol):
    """Sessions that share one worker thread, which calls their sinks."""

    @property
    def info(self) -> ModelInfo:
        """The name and language of the model."""

    @property
    def last_heartbeat(self) -> float:
        """``time.monotonic()`` when the worker last asked for work."""

    @property
    def alive(self) -> bool:
        """Whether the worker thread is running; once it has ended, no session can be opened."""

    def open(
        self,
        start: Start,
        sink: Callable[[ServerMessage], None],
        resume: Callable[[], None] = ...,
        *,
        bulk: bool = ...,
    ) -> SessionInterface:
        """Open a session; ``bulk`` ones give way to live ones. Raises ``OverloadedError`` or ``ProtocolError``."""

    def stats(self) -> EngineStats:
        """Return the engine's counters."""

    def close(self) -> None:
        """Stop the worker thread."""
