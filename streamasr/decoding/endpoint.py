"""When an utterance ends, on audio time: pure rules over what the best beam has said so far.

The rules are those of Kaldi's ``online-endpoint.h`` in encoder frames; the native core asks them after every
frame, so that the answer does not depend on how the audio is cut into chunks. They know no text and no clock.
"""

from __future__ import annotations

from streamasr.config import EndpointConfig
from streamasr.decoding import _native

Verdict = _native.Verdict
"""What becomes of the utterance after a frame.

``GOES_ON``; ``ENDS``: its words are final and its sentence is over; ``SPLITS``: it has grown too long: its
words are final, but the sentence goes on in the next utterance; ``HEARD_NOTHING``: silence for long enough:
start afresh and say nothing.
"""
EndpointRules = _native.EndpointRules
"""The limits of :class:`EndpointConfig` in encoder frames. ``judge`` gives the verdict on one frame."""


def endpoint_rules(config: EndpointConfig, frame_ms: float) -> EndpointRules:
    """``config`` for encoder frames of ``frame_ms`` milliseconds; no limit is shorter than a frame."""

    def frames(ms: int) -> int:
        return max(1, round(ms / frame_ms))

    return EndpointRules(
        silence=frames(config.silence_ms),
        start_silence=frames(config.start_silence_ms),
        max_utterance=frames(config.max_utterance_ms),
        max_overrun=frames(config.max_overrun_ms),
        pause=frames(config.pause_ms),
    )
