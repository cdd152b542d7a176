"""Keep the front end's states of all streams in slots, and compute the frames of a batch with NumPy.

Shape suffixes: B batch, S samples, T frames, M mel bands.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from streamasr.acoustic.interface import AnyArray
from streamasr.frontend.numpy_mel import NumpyLogMel


@dataclass(frozen=True, slots=True)
class PaddedSamples:
    """The next samples of the streams of a batch, padded with zeros to the same whole number of hops."""

    samples_BS: NDArray[np.float32]
    ends_B: NDArray[np.int64]
    """Valid samples of each row, left padding included."""


class FrontEndSlots(Protocol):
    """The front end's states of a fixed number of streams. A slot's content is undefined before its first reset."""

    def reset(self, slot: int) -> None:
        """Begin a new stream in ``slot``."""

    def step(self, slots: Sequence[int], first: PaddedSamples, rest: PaddedSamples | None) -> AnyArray:
        """Return the frames of ``first``, by which the streams advance, and of the look-ahead ``rest``: mel_BTM."""


class NumpyFrontEndSlots:
    """Implements :class:`FrontEndSlots` with NumPy."""

    def __init__(self, frontend: NumpyLogMel, slots: int) -> None:
        self._frontend = frontend
        self._initial_C = frontend.initial_state(1)[0]
        self._states_NC = np.empty((slots, len(self._initial_C)))

    def reset(self, slot: int) -> None:
        """See the Protocol."""
        self._states_NC[slot] = self._initial_C

    def step(
        self, slots: Sequence[int], first: PaddedSamples, rest: PaddedSamples | None
    ) -> NDArray[np.float32]:
        """See the Protocol."""
        state_BC, mel_BTM = self._frontend.step(self._states_NC[list(slots)], first.samples_BS)
        self._states_NC[list(slots)] = state_BC
        if rest is None:
            return mel_BTM
        return np.concatenate((mel_BTM, self._frontend.step(state_BC, rest.samples_BS)[1]), axis=1)
