"""Check that the sample rate of a session's audio is not higher than its ``start`` message stated."""

from __future__ import annotations

import numpy as np

from streamasr.frontend.pcm import Samples
from streamasr.frontend.slow_speech import (
    FRAME_MS,
    HOP_MS,
    FrameFeatures,
    frame_count,
    frame_features,
    is_audible,
    join_features,
    sounds_slow,
)

_WINDOW_FRAMES = 800
"""Frames of one look: 12.8 s. As speech of 48 kHz at the stated rate of 16 kHz, it is 4.3 s of talk."""
_WINDOWS = 2
"""How many such looks are taken, one after the other."""
_GROUP_FRAMES = 16
"""Frames that are analysed together, a quarter of a second: one message at a time would take twice the time."""
_BLOCK_S = 2
"""Seconds that are analysed at a time, so that a long message takes little memory."""
_HIGHEST_RATE = 24_000
"""No device records at three times a higher rate."""
_NO_SAMPLES: Samples = np.zeros(0, dtype=np.float32)


class RateCheck:
    """Looks at the first 26 s that a session has sound, and only at them.

    It keeps less than a frame and a group of frames of samples (32 KiB), and five numbers for each frame of a look
    (32 KiB).

    Args:
        sample_rate: the stated rate, in Hz.
    """

    def __init__(self, sample_rate: int) -> None:
        self._sample_rate = sample_rate
        self._block = _BLOCK_S * sample_rate
        self._rest_S = _NO_SAMPLES
        self._parts: list[FrameFeatures] = []
        self._frames = 0
        self._windows_left = _WINDOWS if sample_rate <= _HIGHEST_RATE else 0

    def check(self, samples_S: Samples) -> str | None:
        """Look at more mono samples. Return the text of a warning if they sound too slow; at most once."""
        for begin in range(0, len(samples_S), self._block):
            if not self._windows_left:
                break
            if self._look_at(samples_S[begin : begin + self._block]):
                return (
                    f"start stated {self._sample_rate} Hz, but this sounds like speech of about three times that "
                    'rate, such as 48000 Hz, played slowly; set "sample_rate" to the rate of the audio'
                )
        return None

    def _look_at(self, samples_S: Samples) -> bool:
        samples_S = np.concatenate((self._rest_S, samples_S))
        frames = frame_count(len(samples_S), self._sample_rate)
        frames -= frames % _GROUP_FRAMES
        if not frames:
            self._rest_S = samples_S
            return False
        end_ms = (frames - 1) * HOP_MS + FRAME_MS
        features, _ = frame_features(samples_S[: end_ms * self._sample_rate // 1_000], self._sample_rate)
        self._rest_S = samples_S[frames * (HOP_MS * self._sample_rate // 1_000) :]
        if not self._frames:
            audible = is_audible(features)
            features = _slice(features, int(audible.argmax()) if audible.any() else len(audible), None)
        missing = _WINDOW_FRAMES - self._frames
        self._parts.append(_slice(features, 0, missing))
        self._frames += len(self._parts[-1].power_N)
        if self._frames < _WINDOW_FRAMES:
            return False
        slow = sounds_slow(join_features(self._parts))
        self._windows_left = 0 if slow else self._windows_left - 1
        self._parts = [_slice(features, missing, None)]
        self._frames = len(self._parts[0].power_N)
        return slow


def _slice(features: FrameFeatures, start: int, stop: int | None) -> FrameFeatures:
    return FrameFeatures(*(values[start:stop] for values in features))
