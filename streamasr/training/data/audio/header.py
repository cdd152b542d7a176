"""Read the headers of audio files and measure their levels, without resampling."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from streamasr.media.channels import MonoMixer
from streamasr.media.containers import inspect
from streamasr.media.decoders import can_decode_end
from streamasr.media.reader import open_file

_CLIPPED_LEVEL = 0.999
"""Share of full scale from which a sample counts as clipped: 16-bit samples of 32,735 and more."""
_SILENCE_DB = -120.0
"""Level of digital silence; quieter than any 16-bit audio."""


@dataclass(frozen=True, slots=True)
class Header:
    """Length and format of an audio file."""

    frames: int
    """Number of samples per channel in the file; an incomplete file should have more."""
    sample_rate: int
    """Sample rate in Hz."""
    channels: int
    incomplete: str = ""
    """A sentence that names the file and the second where it was cut off; empty if it is complete."""

    @property
    def duration_s(self) -> float:
        """Duration in seconds."""
        return self.frames / self.sample_rate


@dataclass(frozen=True, slots=True)
class Levels:
    """The levels of a decoded audio file."""

    header: Header
    """The header, with the number of samples that could be decoded."""
    rms_db: float
    """Root mean square of all samples, in dB relative to full scale."""
    clipped_share: float
    """Share of clipped samples."""
    warnings: tuple[str, ...] = ()
    """Sentences about the file, each with its name."""


def read_header(path: Path) -> Header:
    """Read the header of an audio file. The file is decoded only if it seems incomplete, to find out where it ends.

    Raises:
        DataError: the file is missing or not audio; the message names it.
    """
    with open_file(path) as reader:
        frames = reader.frames
        if frames is not None and _seems_complete(path, frames):
            return Header(frames, reader.sample_rate, reader.channels)
        for _ in reader.blocks():
            pass
        incomplete = reader.warnings[-1] if reader.incomplete_at_s is not None else ""
        return Header(reader.position, reader.sample_rate, reader.channels, incomplete)


def read_levels(path: Path) -> Levels:
    """Decode an audio file and measure its levels.

    Raises:
        DataError: the file is missing, not audio, or damaged; the message names it.
    """
    power, clipped = 0.0, 0
    phases: list[str] = []
    with open_file(path) as reader:
        mixer = MonoMixer(reader.name, reader.channels, reader.sample_rate, None, phases.append)
        for block_SC in reader.blocks():
            mixer.feed(block_SC)
            level_SC = np.abs(block_SC)
            power += float(np.square(block_SC, dtype=np.float64).sum())
            clipped += int((level_SC >= _CLIPPED_LEVEL).sum())
        mixer.flush()
        warnings = [*(f"{reader.name}: {phase}" for phase in phases), *reader.warnings]
        incomplete = warnings.pop() if reader.incomplete_at_s is not None else ""
        header = Header(reader.position, reader.sample_rate, reader.channels, incomplete)
    samples = max(1, header.frames * header.channels)
    rms = math.sqrt(power / samples)
    return Levels(header, _to_db(rms), clipped / samples, tuple(warnings))


def _seems_complete(path: Path, frames: int) -> bool:
    """Whether the headers fit the size of the file and its last sample can be decoded."""
    with path.open("rb") as file:
        layout = inspect(file, count_mpeg=True)
    if layout.cut:
        return False
    return layout.mpeg is not None or bool(layout.patches) or can_decode_end(path, frames)


def _to_db(level: float) -> float:
    return max(_SILENCE_DB, 20 * math.log10(level)) if level > 0 else _SILENCE_DB
