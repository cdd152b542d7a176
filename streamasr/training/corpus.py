"""Transcribed speech in memory: decoded once into a cache file, then read as one long array of int16 samples."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from streamasr.errors import DataError

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
    rows = [row for manifest in manifests for row in _read_manifest(manifest)]
    if not rows:
        raise DataError(f"no utterance in {', '.join(map(str, manifests))}")
    key = hashlib.sha256(json.dumps([sample_rate, *map(str, rows)]).encode()).hexdigest()[:16]
    samples_file, offsets_file = cache / f"{key}.i16", cache / f"{key}.offsets.npy"
    if not (samples_file.exists() and offsets_file.exists()):
        cache.mkdir(parents=True, exist_ok=True)
        _decode_all([path for path, _ in rows], samples_file, offsets_file, sample_rate, progress)
    samples = np.memmap(samples_file, dtype=np.int16, mode="r")
    return Corpus(samples, np.load(offsets_file), tuple(text for _, text in rows))


def _read_manifest(manifest: Path) -> Iterator[tuple[Path, str]]:
    try:
        lines = manifest.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise DataError(f"{manifest}: no such manifest") from None
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            yield manifest.parent / row["audio_filepath"], row.get("text", "")
        except (json.JSONDecodeError, KeyError, TypeError):
            raise DataError(
                f"{manifest}:{number}: expected a JSON object with audio_filepath and text"
            ) from None


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
    try:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (OSError, soundfile.LibsndfileError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from None
    mono = samples.mean(axis=1)
    if rate != sample_rate:
        mono = soxr.resample(mono, rate, sample_rate)
    scaled = np.clip(np.round(mono * _INT16_SCALE), -_INT16_SCALE, _INT16_SCALE - 1)
    return np.asarray(scaled, dtype=np.int16)
