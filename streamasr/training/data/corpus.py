"""Transcribed speech in memory: decoded once into a cache file, then read as one long array of int16 samples."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from streamasr.frontend.files import read_audio
from streamasr.manifest import read_manifest
from streamasr.training.data.denoise import denoise

Progress = Callable[[int, int], None]
INT16_SCALE = 32768
"""What a sample of 1.0 is as an integer."""


@dataclass(frozen=True, slots=True)
class Corpus:
    """Utterance ``i`` is ``samples[offsets[i]:offsets[i + 1]]`` with the transcript ``texts[i]``."""

    samples: npt.NDArray[np.int16]
    offsets: npt.NDArray[np.int64]
    texts: tuple[str, ...]
    names: tuple[str, ...]
    """Where each utterance comes from, for messages."""

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Samples in each utterance."""
        return np.diff(self.offsets)


def load_corpus(
    manifests: Sequence[Path],
    cache: Path,
    sample_rate: int,
    *,
    clean: bool = False,
    progress: Progress | None = None,
) -> Corpus:
    """Decode every file of the manifests to mono at ``sample_rate`` Hz, or map what an earlier run decoded.

    The cache is keyed by the manifests' content, so a changed manifest is decoded anew. ``clean`` takes steady noise
    out of every recording on the way.

    Raises:
        DataError: a manifest line or an audio file is not usable; the message names it.
    """
    rows = [utterance for manifest in manifests for utterance in read_manifest(manifest)]
    key = hashlib.sha256(
        json.dumps([sample_rate, *(["clean"] if clean else []), *map(str, rows)]).encode()
    ).hexdigest()[:16]
    samples_file, offsets_file = cache / f"{key}.i16", cache / f"{key}.offsets.npy"
    if not (samples_file.exists() and offsets_file.exists()):
        cache.mkdir(parents=True, exist_ok=True)
        _decode_all(
            [row.audio for row in rows],
            (samples_file, offsets_file),
            partial(_decode, sample_rate=sample_rate, clean=clean),
            progress,
        )
    samples = np.memmap(samples_file, dtype=np.int16, mode="r")
    return Corpus(
        samples, np.load(offsets_file), tuple(row.text for row in rows), tuple(str(row.audio) for row in rows)
    )


def _decode_all(
    paths: Sequence[Path],
    files: tuple[Path, Path],
    decode: Callable[[Path], npt.NDArray[np.int16]],
    progress: Progress | None,
) -> None:
    samples_file, offsets_file = files
    offsets = [0]
    unfinished = samples_file.with_suffix(".partial")
    with ProcessPoolExecutor(os.cpu_count()) as pool, unfinished.open("wb") as out:
        decoded = pool.map(decode, paths, chunksize=16)
        for done, samples in enumerate(decoded, 1):
            out.write(samples.tobytes())
            offsets.append(offsets[-1] + len(samples))
            if progress:
                progress(done, len(paths))
    np.save(offsets_file, np.asarray(offsets, dtype=np.int64))
    unfinished.replace(samples_file)


def _decode(path: Path, sample_rate: int, clean: bool) -> npt.NDArray[np.int16]:
    pcm_S = read_audio(path, sample_rate)
    if clean:
        pcm_S = denoise(pcm_S, sample_rate)
    scaled = np.clip(np.round(pcm_S * INT16_SCALE), -INT16_SCALE, INT16_SCALE - 1)
    return np.asarray(scaled, dtype=np.int16)
