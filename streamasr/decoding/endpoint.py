"""Decide after each encoder frame whether an utterance ends.

The rules are those of Kaldi's ``online-endpoint.h``, with limits in encoder frames. The native core applies them
after every frame, so that results do not depend on how the audio is cut into chunks.
"""

from __future__ import annotations

from streamasr.config import EndpointConfig
from streamasr.decoding import _native

EndpointDecision = _native.EndpointDecision
"""What happens to the utterance after a frame.

* ``CONTINUE``: it goes on.
* ``END``: its words are final and its sentence ends.
* ``SPLIT``: it is too long. Its words are final, but the sentence goes on in the next utterance.
* ``RESET``: there was no speech for long enough. The decoder starts over without a final.
"""
EndpointRules = _native.EndpointRules
"""The limits of :class:`EndpointConfig` in encoder frames; ``decide`` applies them to one frame."""


def endpoint_rules(config: EndpointConfig, frame_ms: float) -> EndpointRules:
    """Convert ``config`` to encoder frames of ``frame_ms`` milliseconds; each limit is at least one frame."""

    def frames(ms: int) -> int:
        return max(1, round(ms / frame_ms))

    return EndpointRules(
        silence_frames=frames(config.silence_ms),
        start_silence_frames=frames(config.start_silence_ms),
        max_utterance_frames=frames(config.max_utterance_ms),
        max_overrun_frames=frames(config.max_overrun_ms),
        pause_frames=frames(config.pause_ms),
    )
