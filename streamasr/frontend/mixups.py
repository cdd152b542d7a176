"""Estimate which encoding a stream of bytes really has, from how smooth its samples are.

Neighbouring samples of sound are alike. Read in a wrong encoding they differ as much as those of noise. So the
power of the first difference is smallest in the true encoding, by far: on speech at least 14 times smaller than in
any wrong one. Shape suffixes: B blocks, S samples of a block.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamasr.frontend.pcm import G711_TABLES, MAX_FLOAT_LEVEL, Encoding

Reading = Literal["pcm_s16le", "pcm_s16be", "pcm_f32le", "mulaw", "alaw"]
"""An encoding that bytes may have; a session can ask for all but ``pcm_s16be``."""

BLOCK_BYTES = 1_600
"""Bytes that vote together: 50 ms of 16 kHz ``pcm_s16le``. Whole frames of every encoding."""
MIN_VOTES = 20
"""Fewest blocks with sound for a judgement."""

_READINGS: tuple[Reading, ...] = ("pcm_s16le", "pcm_s16be", "pcm_f32le", "mulaw", "alaw")
_DTYPES = {"pcm_s16le": "<i2", "pcm_s16be": ">i2", "pcm_f32le": "<f4"}
_MIN_RATIO = 14.0
"""How many times smoother another reading must be."""
_MIN_SHARE = 0.5
"""Share of the blocks with sound that must agree. Of speech, fricatives do not."""
_MIN_VARIANCE = 1e-5
"""Blocks that their smoothest reading puts below -50 dB of full scale do not vote."""
_MIN_VARIANCE_BIG_ENDIAN = 1e-4
"""The same of big-endian samples: below, samples of 8 bits in 16 would look like them."""
_MAX_ROUGHNESS = 0.8
"""Power of the first difference over twice the variance: 1 for white noise, far below for speech."""
_MIN_DISTINCT = 24
"""Values that sound takes in a block, at least; a square wave takes two."""
_FLOAT_LEVELS = (1e-7, 4.0)
"""Between these lie the absolute values of float samples that are not zero."""
_MIN_USUAL_FLOATS = 0.9
"""Share of a block's samples that must be zero or in that range."""


class _Statistics(NamedTuple):
    power_B: NDArray[np.float64]
    """Half the mean square of the first difference."""
    variance_B: NDArray[np.float64]
    plausible_B: NDArray[np.bool_]
    """Whether the values can be samples of sound."""


def likely_encoding(
    data: bytes, stated: Encoding, channels: int, min_votes: int = MIN_VOTES
) -> Reading | None:
    """Return the encoding that ``data`` has instead of the ``stated`` one; ``None`` if there is no sign of another.

    Args:
        data: audio from the beginning of a frame; whole blocks of :data:`BLOCK_BYTES` a channel are read,
            or one shorter block.
        stated: the encoding that it should have.
        channels: interleaved channels; the first one is judged.
        min_votes: fewest blocks with sound for a judgement.
    """
    blocks = _blocks(data, channels)
    if not len(blocks):
        return None
    believed = _statistics(blocks, stated, channels)
    smoothest_B, audible_B = believed.power_B, believed.variance_B > _MIN_VARIANCE
    winner_B = np.full(len(blocks), -1)
    for index, reading in enumerate(_READINGS):
        if reading == stated:
            continue
        power_B, variance_B, plausible_B = _statistics(blocks, reading, channels)
        better_B = plausible_B & (power_B < _MAX_ROUGHNESS * variance_B)
        better_B &= power_B < np.minimum(smoothest_B, believed.power_B / _MIN_RATIO)
        smoothest_B = np.where(better_B, power_B, smoothest_B)
        least = _MIN_VARIANCE_BIG_ENDIAN if reading == "pcm_s16be" else _MIN_VARIANCE
        audible_B = np.where(better_B, variance_B > least, audible_B)
        winner_B[better_B] = index
    votes = Counter(winner_B[audible_B].tolist())
    if votes.total() < max(min_votes, 1):
        return None
    winner, count = votes.most_common(1)[0]
    return _READINGS[winner] if winner >= 0 and count >= _MIN_SHARE * votes.total() else None


def _blocks(data: bytes, channels: int) -> NDArray[np.uint8]:
    size = min(BLOCK_BYTES, len(data) // (4 * channels) * 4) * channels
    if not size:
        return np.zeros((0, 4 * channels), dtype=np.uint8)
    return np.frombuffer(data[: len(data) // size * size], dtype=np.uint8).reshape(-1, size)


def _statistics(blocks: NDArray[np.uint8], reading: Reading, channels: int) -> _Statistics:
    if reading in ("mulaw", "alaw"):
        return _of_samples(G711_TABLES[reading][blocks[:, ::channels]])
    values_BS = blocks.view(_DTYPES[reading])[:, ::channels]
    if reading == "pcm_f32le":
        low, high = _FLOAT_LEVELS
        level_BS = np.abs(values_BS)
        sane_B = (level_BS <= MAX_FLOAT_LEVEL).all(axis=1)  # false for NaN, too
        usual_BS = (level_BS == 0) | ((level_BS > low) & (level_BS < high))
        found = _of_samples(np.where(sane_B[:, None], values_BS, 0.0))
        return _Statistics(
            np.where(sane_B, found.power_B, np.inf),
            np.where(sane_B, found.variance_B, np.inf),
            found.plausible_B & sane_B & (usual_BS.mean(axis=1) >= _MIN_USUAL_FLOATS),
        )
    return _of_samples(values_BS / np.float32(32_768))


def _of_samples(samples_BS: NDArray[np.floating[Any]]) -> _Statistics:
    power_B = np.square(np.diff(samples_BS.astype(np.float64), axis=1)).mean(axis=1) / 2
    return _Statistics(
        power_B, samples_BS.var(axis=1, dtype=np.float64), _distinct(samples_BS) >= _MIN_DISTINCT
    )


def _distinct(values_BS: NDArray[Any]) -> NDArray[np.int64]:
    steps_BS = np.diff(np.sort(values_BS, axis=1), axis=1) != 0
    distinct_B: NDArray[np.int64] = 1 + steps_BS.sum(axis=1, dtype=np.int64)
    return distinct_B
