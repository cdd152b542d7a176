"""Audio files to float32 mono samples at the model's rate, block by block. Knows no session and no manifest.

Shape suffix: S samples, C channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
import soxr

from streamasr.errors import DataError
from streamasr.frontend.pcm import Samples

BLOCK_FRAMES = 65_536
"""Frames read at a time, so that a file of hours needs no more memory than one of seconds."""


def read_blocks(path: Path, sample_rate: int) -> Iterator[Samples]:
    """Blocks of mono samples at ``sample_rate`` Hz of whatever libsndfile reads; all channels are mixed down.

    Raises:
        DataError: no such file, or not audio; the message names it.
    """
    try:
        with soundfile.SoundFile(path) as file:
            resample = None
            if file.samplerate != sample_rate:
                resample = soxr.ResampleStream(file.samplerate, sample_rate, 1, dtype="float32")
            for block_SC in file.blocks(blocksize=BLOCK_FRAMES, dtype="float32", always_2d=True):
                block_S = block_SC.mean(axis=1, dtype=np.float32)
                yield block_S if resample is None else resample.resample_chunk(block_S)
            if resample is not None:
                yield resample.resample_chunk(np.zeros(0, dtype=np.float32), last=True)
    except soundfile.LibsndfileError as error:
        if not path.exists():
            raise DataError(f"{path}: no such file") from None
        raise DataError(f"{path}: not an audio file that libsndfile reads: {error}") from None


def read_audio(path: Path, sample_rate: int) -> Samples:
    """All of a file's samples; see :func:`read_blocks`."""
    blocks = list(read_blocks(path, sample_rate))
    return np.concatenate(blocks) if blocks else np.zeros(0, dtype=np.float32)
