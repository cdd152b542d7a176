"""Load recordings as one long array of int16 samples, which is decoded once into a cache file and memory-mapped."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from streamasr.manifest import Utterance
from streamasr.media.reader import read_audio
from streamasr.training.data.audio.denoise import denoise
from streamasr.training.data.audio.processes import map_in_processes

DecodingProgress = Callable[[int, int, float], None]
"""Called with the number of decoded utterances, the number of all utterances, and the decoded hours."""
INT16_SCALE = 32768
"""Integer value of the sample 1.0."""


@dataclass(frozen=True, slots=True)
class AudioCorpus:
    """Recordings; utterance ``i`` is ``samples[offsets[i]:offsets[i + 1]]`` with the transcript ``texts[i]``."""

    samples: npt.NDArray[np.int16]
    offsets: npt.NDArray[np.int64]
    texts: tuple[str, ...]
    names: tuple[str, ...]
    """Path of each utterance's audio file, for messages."""

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Number of samples in each utterance."""
        return np.diff(self.offsets)


def load_corpus(
    utterances: Sequence[Utterance],
    cache: Path,
    sample_rate: int,
    *,
    clean: bool = False,
    workers: int | None = None,
    progress: DecodingProgress | None = None,
) -> AudioCorpus:
    """Decode all utterances to mono at ``sample_rate``, or map the samples that an earlier call decoded.

    The cache file depends on the utterances, so a changed manifest is decoded again. If decoding is interrupted, it
    leaves no file.

    Args:
        utterances: lines of manifests.
        cache: folder of the cache files.
        sample_rate: rate of the samples in Hz.
        clean: whether to remove noise from the recordings (see :mod:`~streamasr.training.data.audio.denoise`).
        workers: processes that decode; by default one for each CPU that this process may use.
        progress: called after each decoded utterance; not called if the samples are in the cache.

    Raises:
        DataError: an audio file cannot be used; the message names it.
    """
    key = hashlib.sha256(
        json.dumps([sample_rate, *(["clean"] if clean else []), *map(str, utterances)]).encode()
    ).hexdigest()[:16]
    samples_file, offsets_file = cache / f"{key}.i16", cache / f"{key}.offsets.npy"
    if not (samples_file.exists() and offsets_file.exists()):
        cache.mkdir(parents=True, exist_ok=True)
        _decode_all(
            [utterance.audio for utterance in utterances],
            (samples_file, offsets_file),
            partial(_decode, sample_rate=sample_rate, clean=clean),
            workers,
            partial(_report_hours, progress, sample_rate) if progress else None,
        )
    return AudioCorpus(
        np.memmap(samples_file, dtype=np.int16, mode="r"),
        np.load(offsets_file),
        tuple(utterance.text for utterance in utterances),
        tuple(str(utterance.audio) for utterance in utterances),
    )


def _decode_all(
    paths: Sequence[Path],
    files: tuple[Path, Path],
    decode: Callable[[Path], npt.NDArray[np.int16]],
    workers: int | None,
    progress: Callable[[int, int, int], None] | None,
) -> None:
    """Write the samples of all files and their offsets; ``progress`` gets files done, all files, and samples."""
    samples_file, offsets_file = files
    offsets = [0]
    # The name has the process id, because two runs that share a cache may decode the same speech at the same time.
    unfinished = samples_file.with_suffix(f".{os.getpid()}.partial")
    if progress:
        progress(0, len(paths), 0)
    try:
        with unfinished.open("wb") as out:
            for samples in map_in_processes(decode, paths, workers=workers):
                out.write(samples.tobytes())
                offsets.append(offsets[-1] + len(samples))
                if progress:
                    progress(len(offsets) - 1, len(paths), offsets[-1])
        np.save(offsets_file, np.asarray(offsets, dtype=np.int64))
        unfinished.replace(samples_file)
    finally:
        unfinished.unlink(missing_ok=True)


def _report_hours(progress: DecodingProgress, sample_rate: int, done: int, total: int, samples: int) -> None:
    progress(done, total, samples / sample_rate / 3600)


def _decode(path: Path, sample_rate: int, clean: bool) -> npt.NDArray[np.int16]:
    pcm_S = read_audio(path, sample_rate)
    if clean:
        pcm_S = denoise(pcm_S, sample_rate)
    scaled = np.clip(np.round(pcm_S * INT16_SCALE), -INT16_SCALE, INT16_SCALE - 1)
    return np.asarray(scaled, dtype=np.int16)
