"""Audio files to float32 mono samples at the model's rate, block by block. Knows no session and no manifest.

Shape suffix: S samples, C channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile

from streamasr.errors import DataError
from streamasr.frontend.pcm import Samples
from streamasr.frontend.resample import Resampler

BLOCK_FRAMES = 65_536
"""Frames read at a time, so that a file of hours needs no more memory than one of seconds."""


def read_blocks(path: Path, sample_rate: int) -> Iterator[Samples]:
    """Blocks of mono samples at ``sample_rate`` Hz of whatever libsndfile reads; all channels are mixed down.

    Raises:
        DataError: no such file, or not audio; the message names it.
    """
    try:
        with soundfile.SoundFile(path) as file:
            resampler = Resampler(file.samplerate, sample_rate)
            for block_SC in file.blocks(blocksize=BLOCK_FRAMES, dtype="float32", always_2d=True):
                yield resampler.feed(block_SC.mean(axis=1, dtype=np.float32))
            yield resampler.flush()
    except soundfile.LibsndfileError as error:
        if not path.exists():
            raise DataError(f"{path}: no such file") from None
        raise DataError(f"{path}: not an audio file that libsndfile reads: {error}") from None


def read_audio(path: Path, sample_rate: int) -> Samples:
    """All of a file's samples; see :func:`read_blocks`."""
    blocks = list(read_blocks(path, sample_rate))
    return np.concatenate(blocks) if blocks else np.zeros(0, dtype=np.float32)
