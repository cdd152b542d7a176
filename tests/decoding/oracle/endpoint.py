"""When an utterance ends, on audio time: pure rules over what the best beam has said so far.

The rules are those of Kaldi's ``online-endpoint.h`` in encoder frames. Knows no beams, no text and no clock;
asked once a frame, so that the answer does not depend on how the audio is cut into chunks.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from streamasr.config import EndpointConfig


class Verdict(Enum):
    """What becomes of the utterance after this frame."""

    GOES_ON = auto()
    ENDS = auto()
    """Its words are final and its sentence is over."""
    SPLITS = auto()
    """It has grown too long: its words are final, but the sentence goes on in the next utterance."""
    HEARD_NOTHING = auto()
    """Silence for long enough: start afresh and say nothing."""


@dataclass(frozen=True, slots=True)
class Hearing:
    """What the rules look at after a frame."""

    frames: int
    """Frames since the utterance began."""
    silent_frames: int | None
    """Frames since the best beam's last word token; ``None`` where it has no word."""
    between_words: bool
    """The best beam has finished its word with a separator."""
    quiet: bool
    """The frame itself is most probably blank or separator, so that nothing new is just beginning."""


@dataclass(frozen=True, slots=True)
class EndpointRules:
    """The limits of :class:`EndpointConfig` in encoder frames."""

    silence: int
    start_silence: int
    max_utterance: int
    max_overrun: int
    pause: int

    @classmethod
    def of(cls, config: EndpointConfig, frame_ms: float) -> EndpointRules:
        """``config`` for encoder frames of ``frame_ms`` milliseconds; no limit is shorter than a frame."""

        def frames(ms: int) -> int:
            return max(1, round(ms / frame_ms))

        return cls(
            silence=frames(config.silence_ms),
            start_silence=frames(config.start_silence_ms),
            max_utterance=frames(config.max_utterance_ms),
            max_overrun=frames(config.max_overrun_ms),
            pause=frames(config.pause_ms),
        )

    def judge(self, hearing: Hearing) -> Verdict:
        """The verdict on one frame.

        Limits wait for a quiet frame, so that a word which is just beginning is not cut off from its
        utterance; the overrun bounds the wait.
        """
        silent, quiet = hearing.silent_frames, hearing.quiet
        if silent is None:
            over = hearing.frames - self.start_silence
            nothing = (over >= 0 and quiet) or over >= self.max_overrun
            return Verdict.HEARD_NOTHING if nothing else Verdict.GOES_ON
        if quiet and silent >= self.silence:
            return Verdict.ENDS
        over = hearing.frames - self.max_utterance
        at_pause = quiet and (hearing.between_words or silent >= self.pause)
        too_long = (over >= 0 and at_pause) or over >= self.max_overrun
        return Verdict.SPLITS if too_long else Verdict.GOES_ON
