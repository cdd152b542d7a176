"""Define the engine's limits and thread counts as one frozen dataclass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from streamasr.errors import ConfigError

AUTO_SLOTS = 256
"""Slots of an engine with ``max_sessions = "auto"``: the default ``max_connections``. A CPU allocates their memory on
first use."""


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """Limits and thread counts of the engine.

    Raises:
        ConfigError: a value is out of range; the message names it.
    """

    max_sessions: int | Literal["auto"] = "auto"
    """Sessions at the same time, each with a slot of encoder state; more are refused as ``overloaded``. ``auto``
    refuses a live session that would make the captions of all later than ``max_lag_ms``, by a forecast."""
    max_lag_ms: int = 500
    """With ``auto``: the lag of captions, beyond their chunk, that 95 % of them keep."""
    max_batch: int = 8
    """Largest number of chunks per step. On a CPU larger batches save no time per chunk, and each chunk waits
    for the whole batch; on a GPU use the number of sessions."""
    high_backlog_ms: int = 4_000
    """A session with more audio than this waiting is congested: nothing more should be read from its client."""
    low_backlog_ms: int = 2_000
    """A congested session may be fed again when no more audio than this waits."""
    hard_backlog_ms: int = 180_000
    """More waiting audio than this is an error: the caller has ignored ``congested``."""
    max_waiting_marks: int = 256
    """Waiting ``finalize`` and ``configure`` messages per session; more are refused."""
    bulk_wait_ms: int = 10_000
    """A chunk of an uploaded file waits at most this long behind live sessions."""
    burst_ms: int = 2_000
    """A session that is further ahead of real time gives way to live sessions, like an uploaded file."""
    retry_after_ms: int = 2_000
    """Time after which a refused client should try again."""
    threads: int = 0
    """Threads of one forward pass; 0 for PyTorch's default."""
    decoder_threads: int = 0
    """Threads that decode the chunks of one step, at most one per chunk; 0 for one per core."""
    heartbeat_interval_s: float = 1.0
    """Longest time between two heartbeats of an idle worker."""
    max_failed_steps: int = 5
    """So many failed steps in a row end the worker, because a device such as a GPU may fail until its process ends;
    0 for never."""

    def __post_init__(self) -> None:
        if self.max_sessions != "auto" and self.max_sessions <= 0:
            raise ConfigError(f"max_sessions must be positive, got {self.max_sessions}")
        for name in (
            "max_lag_ms",
            "max_batch",
            "low_backlog_ms",
            "max_waiting_marks",
            "bulk_wait_ms",
            "burst_ms",
            "retry_after_ms",
            "heartbeat_interval_s",
        ):
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name} must be positive, got {getattr(self, name)}")
        if not self.low_backlog_ms < self.high_backlog_ms < self.hard_backlog_ms:
            raise ConfigError(
                "low_backlog_ms, high_backlog_ms and hard_backlog_ms must rise, "
                f"got {self.low_backlog_ms}, {self.high_backlog_ms}, {self.hard_backlog_ms}"
            )
        for name, meaning in (
            ("threads", "automatic"),
            ("decoder_threads", "automatic"),
            ("max_failed_steps", "never"),
        ):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} must be 0 ({meaning}) or more, got {getattr(self, name)}")

    @property
    def slots(self) -> int:
        """The most sessions at the same time."""
        return AUTO_SLOTS if self.max_sessions == "auto" else self.max_sessions
