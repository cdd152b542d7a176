"""How much the engine takes on, as one frozen dataclass. Knows no model."""

from __future__ import annotations

from dataclasses import dataclass

from streamasr.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """The engine's limits; every one of them can be set."""

    max_sessions: int = 32
    """Sessions at a time, and slots of encoder state; one more is refused as ``overloaded``."""
    max_batch: int = 8
    """Chunks in one forward pass at most. On a CPU larger batches make no chunk cheaper, and all of
    them wait for the whole batch; on a GPU use the number of sessions."""
    high_backlog_ms: int = 4_000
    """With more audio than this waiting, a session is congested: no more of it should be read."""
    low_backlog_ms: int = 2_000
    """With no more audio than this waiting, a congested session may go on."""
    hard_backlog_ms: int = 180_000
    """Audio beyond this is refused with an error: whoever feeds the session ignored ``congested``."""
    max_waiting_marks: int = 256
    """``finalize`` and ``configure`` messages of one session not yet acted on; one more is refused."""
    retry_after_ms: int = 2_000
    """When a refused client should try again."""
    threads: int = 0
    """Threads of one forward pass; 0 leaves PyTorch's own choice."""
    decoder_threads: int = 0
    """Threads that decode the chunks of one step, never more than chunks; 0 takes as many as there are cores."""
    heartbeat_interval_s: float = 1.0
    """An idle worker proves that it lives at least so often."""

    def __post_init__(self) -> None:
        for name in (
            "max_sessions",
            "max_batch",
            "low_backlog_ms",
            "max_waiting_marks",
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
        for name in ("threads", "decoder_threads"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} must be 0 (automatic) or more, got {getattr(self, name)}")
