"""Transcribed speech in memory: decoded once into a cache file, then read as one long array of int16 samples."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from streamasr.frontend.files import read_audio
from streamasr.manifest import read_manifest

Progress = Callable[[int, int], None]
_INT16_SCALE = 32768


@dataclass(frozen=True, slots=True)
class Corpus:
    """Utterance ``i`` is ``samples[offsets[i]:offsets[i + 1]]`` with the transcript ``texts[i]``."""

    samples: npt.NDArray[np.int16]
    offsets: npt.NDArray[np.int64]
    texts: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Samples in each utterance."""
        return np.diff(self.offsets)


def load_corpus(
    manifests: Sequence[Path], cache: Path, sample_rate: int, progress: Progress | None = None
) -> Corpus:
    """Decode every file of the manifests to mono at ``sample_rate`` Hz, or map what an earlier run decoded.

    The cache is keyed by the manifests' content, so a changed manifest is decoded anew.

    Raises:
        DataError: a manifest line or an audio file is not usable; the message names it.
    """
    rows = [utterance for manifest in manifests for utterance in read_manifest(manifest)]
    key = hashlib.sha256(json.dumps([sample_rate, *map(str, rows)]).encode()).hexdigest()[:16]
    samples_file, offsets_file = cache / f"{key}.i16", cache / f"{key}.offsets.npy"
    if not (samples_file.exists() and offsets_file.exists()):
        cache.mkdir(parents=True, exist_ok=True)
        _decode_all([row.audio for row in rows], samples_file, offsets_file, sample_rate, progress)
    samples = np.memmap(samples_file, dtype=np.int16, mode="r")
    return Corpus(samples, np.load(offsets_file), tuple(row.text for row in rows))


def _decode_all(
    paths: Sequence[Path], samples_file: Path, offsets_file: Path, sample_rate: int, progress: Progress | None
) -> None:
    offsets = [0]
    partial = samples_file.with_suffix(".partial")
    with ProcessPoolExecutor(os.cpu_count()) as pool, partial.open("wb") as out:
        decoded = pool.map(_decode, paths, [sample_rate] * len(paths), chunksize=16)
        for done, samples in enumerate(decoded, 1):
            out.write(samples.tobytes())
            offsets.append(offsets[-1] + len(samples))
            if progress:
                progress(done, len(paths))
    np.save(offsets_file, np.asarray(offsets, dtype=np.int64))
    partial.replace(samples_file)


def _decode(path: Path, sample_rate: int) -> npt.NDArray[np.int16]:
    scaled = np.clip(np.round(read_audio(path, sample_rate) * _INT16_SCALE), -_INT16_SCALE, _INT16_SCALE - 1)
    return np.asarray(scaled, dtype=np.int16)
