"""Define every limit of the native protocol. A test compares the reference in ``docs/`` with it."""

from __future__ import annotations

from dataclasses import dataclass

from streamasr.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Range:
    """An inclusive range of numbers. NaN is in no range."""

    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a client may send. A message beyond a limit is refused with an error; no value is clipped."""

    message_bytes: int = 65_536
    """Longest text message, in bytes of UTF-8."""
    audio_bytes: int = 1_048_576
    """Longest binary message: 32 s of 16 kHz ``pcm_s16le``."""
    sample_rate: Range = Range(8_000, 48_000)
    """Hz."""
    channels: Range = Range(1, 2)
    """Two channels are mixed down to one."""
    latency_ms: Range = Range(20, 10_000)
    """``start.latency_ms``; ``ready.latency_ms`` is the latency that the model offers."""
    alternatives: Range = Range(1, 10)
    """``start.alternatives``: hypotheses of a final, the best one included."""
    hotwords: int = 256
    """Hotwords of one session."""
    hotword_chars: int = 64
    """Characters of one hotword."""
    boost: Range = Range(-20, 20)
    """Boost of one hotword, natural log; a negative one makes the word less likely."""
    commit_margin: Range = Range(1, 100)
    """``stability.commit_margin``, natural log."""
    hold_words: Range = Range(0, 20)
    """``stability.hold_words``."""
    token_chars: int = 512
    """Characters of ``token``."""
    finalize_id_chars: int = 128
    """Characters of ``finalize.id``."""
    silence_ms: Range = Range(100, 10_000)
    """``endpointing.silence_ms``."""
    min_silence_ms: Range = Range(100, 10_000)
    """``endpointing.min_silence_ms``."""
    max_silence_ms: Range = Range(100, 10_000)
    """``endpointing.max_silence_ms``."""
    start_silence_ms: Range = Range(500, 60_000)
    """``endpointing.start_silence_ms``."""
    max_utterance_ms: Range = Range(1_000, 60_000)
    """``endpointing.max_utterance_ms``."""
    ending_threshold: Range = Range(0.1, 0.95)
    """``start.ending_threshold``, a probability."""

    def __post_init__(self) -> None:
        for name in ("message_bytes", "audio_bytes"):
            if getattr(self, name) < 1_024:
                raise ConfigError(f"{name} must be at least 1024, got {getattr(self, name)}")


DEFAULT_LIMITS = Limits()
