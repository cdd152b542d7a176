"""Make one channel of several: mix them, or take one.

Two channels of opposite phase cancel each other out when they are mixed: a cable or a plug with swapped wires does
that. Such stretches are found by their correlation, and the louder channel alone is taken for them.
Shape suffixes: S samples, C channels.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from streamasr.errors import DataError
from streamasr.frontend.pcm import Samples
from streamasr.media.pcm import Samples2D

WINDOW_S = 0.5
"""Length of the stretches whose correlation is computed."""
OPPOSITE_BELOW = -0.9
"""A stretch with a correlation below this begins an opposite phase."""
ALIKE_ABOVE = 0.0
"""A stretch with a correlation above this ends it."""
QUIET_DBFS = -60.0
"""Stretches with a lower level change nothing."""

_QUIET_POWER = 10 ** (QUIET_DBFS / 10)


def channel_label(channel: int, channels: int) -> str:
    """Return what a channel, counted from 0, is called: ``left`` and ``right``, or ``channel 1`` and so on."""
    return ("left", "right")[channel] if channels == 2 else f"channel {channel + 1}"


def check_channel(name: str, channel: int | None, channels: int) -> None:
    """Check that an input has the channel, counted from 0.

    Raises:
        DataError: it has fewer channels.
    """
    if channel is not None and channel >= channels:
        wanted = "right channel" if channel == 1 else f"channel {channel + 1}"
        raise DataError(f"{name}: has no {wanted}, only {channels} channel{'s' if channels > 1 else ''}")


def correlation(stretch_SC: Samples2D) -> float | None:
    """Return the correlation of two channels, from -1 to 1; ``None`` if one of them is quiet."""
    left_S, right_S = stretch_SC[:, 0].astype(np.float64), stretch_SC[:, 1].astype(np.float64)
    left, right, both = (float(np.mean(a * b)) for a, b in ((left_S,) * 2, (right_S,) * 2, (left_S, right_S)))
    return both / float(np.sqrt(left * right)) if min(left, right) > _QUIET_POWER else None


def louder_channel(samples_SC: Samples2D) -> int:
    """Return the channel with the most power, counted from 0; the first of equal ones."""
    return int(np.argmax(np.square(samples_SC, dtype=np.float64).sum(axis=0)))


def next_taken(stretch_SC: Samples2D, taken: int | None) -> int | None:
    """Return which of two channels alone is used from a stretch on; ``None`` for both.

    Args:
        stretch_SC: the newest samples.
        taken: the result for the stretch before.
    """
    alike = correlation(stretch_SC)
    if alike is None or (taken is not None and alike <= ALIKE_ABOVE):
        return taken
    return louder_channel(stretch_SC) if alike < OPPOSITE_BELOW else None


def are_opposite(samples_SC: Samples2D) -> bool:
    """Whether two channels have opposite phases: their mean is next to silence, and they are not."""
    found = correlation(samples_SC - samples_SC.mean(axis=0)) if len(samples_SC) else None
    return found is not None and found < OPPOSITE_BELOW


class MonoMixer:
    """Makes mono samples of the blocks of one input. Any split into blocks gives the same samples.

    Args:
        name: the input's name, for messages.
        channels: channels of the input.
        sample_rate: Hz.
        channel: the channel to take, counted from 0; ``None`` mixes all of them.
        warn: called with a sentence when an opposite phase is found for the first time.

    Raises:
        DataError: the input has no such channel.
    """

    def __init__(
        self, name: str, channels: int, sample_rate: int, channel: int | None, warn: Callable[[str], None]
    ) -> None:
        check_channel(name, channel, channels)
        self._channel, self._channels, self._sample_rate = channel, channels, sample_rate
        self._window = max(1, round(WINDOW_S * sample_rate))
        self._held: list[Samples2D] = []
        self._held_samples = 0
        self._windows = 0
        self._taken: int | None = None
        self._warn: Callable[[str], None] | None = warn

    def feed(self, block_SC: Samples2D) -> Samples:
        """Return the mono samples that can be computed now."""
        if self._channel is not None:
            return np.ascontiguousarray(block_SC[:, self._channel])
        if self._channels != 2:
            return _mean(block_SC)
        self._held.append(block_SC)
        self._held_samples += len(block_SC)
        if self._held_samples < self._window:
            return np.zeros(0, dtype=np.float32)
        held_SC = np.concatenate(self._held)
        whole = len(held_SC) // self._window * self._window
        self._held = [held_SC[whole:]]
        self._held_samples = len(held_SC) - whole
        return np.concatenate(
            [self._mix(window_SC) for window_SC in np.split(held_SC[:whole], whole // self._window)]
        )

    def flush(self) -> Samples:
        """Return the rest at the end of the input."""
        held_SC = np.concatenate(self._held) if self._held else np.zeros((0, self._channels), np.float32)
        self._held, self._held_samples = [], 0
        return self._mix(held_SC) if len(held_SC) else np.zeros(0, dtype=np.float32)

    def _mix(self, window_SC: Samples2D) -> Samples:
        self._taken = next_taken(window_SC, self._taken)
        if self._taken is not None and self._warn is not None:
            at_s = self._windows * self._window / self._sample_rate
            label = channel_label(self._taken, 2)
            self._warn(
                f"its channels have opposite phases from {at_s:.1f} s on and would cancel each other out; "
                f"only the {label} one is used there"
            )
            self._warn = None
        self._windows += 1
        return _mean(window_SC) if self._taken is None else np.ascontiguousarray(window_SC[:, self._taken])


def _mean(block_SC: Samples2D) -> Samples:
    mean_S: Samples = block_SC.mean(axis=1, dtype=np.float32)
    return mean_S
