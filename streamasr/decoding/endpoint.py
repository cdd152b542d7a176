"""Decide after each encoder frame whether an utterance ends.

The rules are those of Kaldi's ``online-endpoint.h``, with limits in encoder frames. The silence that ends an
utterance may depend on its words: it then ends as soon as its end is probable, by a logistic regression over the
length of the silence and the language model's probability that the sentence ends. The native core applies the rules
after every frame, so that results do not depend on how the audio is cut into chunks.
"""

from __future__ import annotations

from math import log

from streamasr.config import EndpointConfig
from streamasr.decoding import _native
from streamasr.units import MS_PER_SECOND

EndpointDecision = _native.EndpointDecision
"""What happens to the utterance after a frame.

* ``CONTINUE``: it goes on.
* ``END``: its words are final and its sentence ends.
* ``SPLIT``: it is too long. Its words are final, but the sentence goes on in the next utterance.
* ``RESET``: there was no speech for long enough. The decoder starts over without a final.
"""
EndpointRules = _native.EndpointRules
"""The limits of :class:`EndpointConfig` in encoder frames; ``decide`` applies them to one frame.

``end_odds.log_odds(trailing_silence, sentence_end_log_prob)`` are the log-odds that an utterance ends in a pause that
has lasted ``trailing_silence`` frames, if the sentence ends after its words with that log-prob.
"""


def endpoint_rules(config: EndpointConfig, frame_ms: float) -> EndpointRules:
    """Convert ``config`` to encoder frames of ``frame_ms`` milliseconds; each limit is at least one frame."""

    def frames(ms: int) -> int:
        return max(1, round(ms / frame_ms))

    shortest_ms, longest_ms = config.silence_bounds_ms
    return EndpointRules(
        min_silence_frames=frames(shortest_ms),
        max_silence_frames=frames(longest_ms),
        start_silence_frames=frames(config.start_silence_ms),
        max_utterance_frames=frames(config.max_utterance_ms),
        max_overrun_frames=frames(config.max_overrun_ms),
        pause_frames=frames(config.pause_ms),
        end_odds=_native.EndOdds(
            bias=config.end_bias + config.end_silence * log(frame_ms / MS_PER_SECOND),
            silence=config.end_silence,
            sentence=config.end_sentence,
        ),
        min_log_odds=log(config.end_threshold / (1 - config.end_threshold)),
    )
