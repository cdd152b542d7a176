"""Decide after each encoder frame whether an utterance ends: the counterpart of ``native/endpoint.hpp``.

The rules are those of Kaldi's ``online-endpoint.h``, with limits in encoder frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from streamasr.config import EndpointConfig


class EndpointDecision(Enum):
    """What happens to the utterance after a frame."""

    CONTINUE = auto()
    END = auto()
    """Its words are final and its sentence ends."""
    SPLIT = auto()
    """It is too long. Its words are final, but the sentence goes on in the next utterance."""
    RESET = auto()
    """There was no speech for long enough. The decoder starts over without a final."""


@dataclass(frozen=True, slots=True)
class EndpointInput:
    """What the rules depend on."""

    utterance_frames: int
    """Frames since the utterance began."""
    trailing_silence: int | None
    """Frames since the last token of a word of the best beam; ``None`` before its first word."""
    at_word_boundary: bool
    """Whether the best beam has no open word."""
    silence: bool
    """Whether blank or the separator is the most probable token of the frame."""


@dataclass(frozen=True, slots=True)
class EndpointRules:
    """The limits of :class:`EndpointConfig` in encoder frames."""

    silence_frames: int
    start_silence_frames: int
    max_utterance_frames: int
    max_overrun_frames: int
    pause_frames: int

    @classmethod
    def from_config(cls, config: EndpointConfig, frame_ms: float) -> EndpointRules:
        """Convert ``config`` to frames of ``frame_ms`` milliseconds; each limit is at least one frame."""

        def frames(ms: int) -> int:
            return max(1, round(ms / frame_ms))

        return cls(
            silence_frames=frames(config.silence_ms),
            start_silence_frames=frames(config.start_silence_ms),
            max_utterance_frames=frames(config.max_utterance_ms),
            max_overrun_frames=frames(config.max_overrun_ms),
            pause_frames=frames(config.pause_ms),
        )

    def decide(self, current: EndpointInput) -> EndpointDecision:
        """Return the decision after one frame.

        Limits take effect at a frame of silence, so that a word which is just beginning is not cut off. The overrun
        bounds the wait for such a frame.
        """
        trailing_silence, silence = current.trailing_silence, current.silence
        if trailing_silence is None:
            overrun = current.utterance_frames - self.start_silence_frames
            is_over = (overrun >= 0 and silence) or overrun >= self.max_overrun_frames
            return EndpointDecision.RESET if is_over else EndpointDecision.CONTINUE
        if silence and trailing_silence >= self.silence_frames:
            return EndpointDecision.END
        overrun = current.utterance_frames - self.max_utterance_frames
        at_pause = silence and (current.at_word_boundary or trailing_silence >= self.pause_frames)
        is_over = (overrun >= 0 and at_pause) or overrun >= self.max_overrun_frames
        return EndpointDecision.SPLIT if is_over else EndpointDecision.CONTINUE
