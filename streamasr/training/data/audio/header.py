"""What an audio file is and how loud it is, without resampling it. Light to import, for worker processes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from streamasr.errors import DataError

_BLOCK_FRAMES = 65_536
_CLIPPED_LEVEL = 0.999
"""Share of full scale from which a sample counts as clipped: 16-bit samples of 32,735 and more."""
_SILENCE_DB = -120.0
"""What digital silence is said to have; quieter than any 16-bit sound."""


@dataclass(frozen=True, slots=True)
class Header:
    """What the file says of itself."""

    frames: int
    """Samples of each channel."""
    sample_rate: int
    """Hz."""
    channels: int

    @property
    def duration_s(self) -> float:
        """Seconds."""
        return self.frames / self.sample_rate


@dataclass(frozen=True, slots=True)
class Levels:
    """What decoding the file showed."""

    header: Header
    """With the frames that could really be decoded."""
    peak_db: float
    """Loudest sample, in dB of full scale."""
    rms_db: float
    """Root mean square of the whole, in dB of full scale."""
    clipped_share: float
    """Share of samples at full scale."""


def read_header(path: Path) -> Header:
    """The file's header; no sound is decoded.

    Raises:
        DataError: no such file, or not audio; the message names it.
    """
    try:
        info = soundfile.info(path)
    except soundfile.LibsndfileError as error:
        raise _unreadable(path, error) from None
    return Header(info.frames, info.samplerate, info.channels)


def read_levels(path: Path) -> Levels:
    """Decode the whole file and measure it.

    Raises:
        DataError: no such file, not audio, or broken inside; the message names it.
    """
    frames, peak, power, clipped = 0, 0.0, 0.0, 0
    try:
        with soundfile.SoundFile(path) as file:
            for block_SC in file.blocks(blocksize=_BLOCK_FRAMES, dtype="float32", always_2d=True):
                level_SC = np.abs(block_SC)
                frames += len(block_SC)
                peak = max(peak, float(level_SC.max(initial=0.0)))
                power += float(np.square(block_SC, dtype=np.float64).sum())
                clipped += int((level_SC >= _CLIPPED_LEVEL).sum())
            header = Header(frames, file.samplerate, file.channels)
    except soundfile.LibsndfileError as error:
        raise _unreadable(path, error) from None
    samples = max(1, frames * header.channels)
    rms = math.sqrt(power / samples)
    return Levels(header, _to_db(peak), _to_db(rms), clipped / samples)


def _unreadable(path: Path, error: soundfile.LibsndfileError) -> DataError:
    if not path.exists():
        return DataError(f"{path}: no such file")
    return DataError(f"{path}: not an audio file that libsndfile reads: {error}")


def _to_db(level: float) -> float:
    return max(_SILENCE_DB, 20 * math.log10(level)) if level > 0 else _SILENCE_DB
