"""Write copies of recordings with reverberation, noise or codecs, to measure how robust models are.

Conditions that are random in training are fixed here, so that models can be compared.
Shape suffixes: S samples, R impulse-response samples.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

from streamasr.errors import ConfigError, DataError
from streamasr.manifest import Utterance, read_manifest
from streamasr.media.reader import read_audio
from streamasr.training.data.audio.processes import Progress, map_in_processes
from streamasr.training.data.augmentation.audio_codecs import apply_codec, check_codecs
from streamasr.training.data.augmentation.rooms import RoomOptions, load_rooms, reverberate

Samples = npt.NDArray[np.float32]

SAMPLE_RATE = 16_000
MANIFEST, CONDITION = "manifest.jsonl", "condition.json"
_ROOMS = 20
_RT60_TOLERANCE = 0.1
_SMALLEST_RMS = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """Changes of each recording, applied in this order; ``None`` leaves a change out."""

    rt60_seconds: float | None = None
    """Reverberation time (RT60) of simulated rooms."""
    snr_db: float | None = None
    """Signal-to-noise ratio of recorded noise."""
    codec: str | None = None
    """Name of a codec to encode and decode with."""
    gain_db: float = 0.0
    """Gain."""
    seed: int = 1
    """Seed of the rooms and noise segments that are drawn for the recordings."""

    def __post_init__(self) -> None:
        if self.rt60_seconds is not None and self.rt60_seconds <= 0:
            raise ConfigError(f"the reverberation time must be positive, got {self.rt60_seconds} s")
        if self.codec is not None:
            check_codecs([self.codec])
        if (self.rt60_seconds, self.snr_db, self.codec, self.gain_db) == (None, None, None, 0.0):
            raise ConfigError("no condition: give a reverberation time, noise, a codec or a gain")


@dataclass(frozen=True, slots=True)
class _Sources:
    """The impulse responses and noise files to draw from."""

    rooms: tuple[Samples, ...]
    noises: tuple[Path, ...]


def degrade(
    manifest: Path,
    out: Path,
    condition: Condition,
    *,
    noise: Path | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write a copy of each recording under a condition, as FLAC, with a manifest.

    Args:
        manifest: manifest of the clean recordings.
        out: folder to write to; files of the same names are overwritten.
        condition: the changes to apply.
        noise: manifest of noises; required with ``condition.snr_db`` and not allowed without it.
        workers: number of processes; by default one for each CPU that this process may use.
        progress: called after each recording.

    Returns:
        The path of the manifest of the copies.

    Raises:
        ConfigError: only one of noise manifest and signal-to-noise ratio is given.
        DataError: a manifest or recording cannot be used.
    """
    if (condition.snr_db is None) != (noise is None):
        raise ConfigError(
            "a signal-to-noise ratio needs a manifest of noises, and the other way round: give both or none"
        )
    utterances = read_manifest(manifest)
    noises = tuple(sound.audio for sound in read_manifest(noise)) if noise else ()
    sources = _Sources(_rooms(condition, out), noises)
    out.mkdir(parents=True, exist_ok=True)
    write = partial(_write, out=out, condition=condition, sources=sources)
    numbered = list(enumerate(utterances))
    lines = list(map_in_processes(write, numbered, workers=workers, progress=progress))
    (out / CONDITION).write_text(json.dumps(asdict(condition), indent=2) + "\n", encoding="utf-8")
    path = out / MANIFEST
    path.write_text("".join(lines), encoding="utf-8")
    return path


def _rooms(condition: Condition, cache: Path) -> tuple[Samples, ...]:
    if condition.rt60_seconds is None:
        return ()
    near = (
        condition.rt60_seconds * (1 - _RT60_TOLERANCE),
        condition.rt60_seconds * (1 + _RT60_TOLERANCE),
    )
    options = RoomOptions(rooms=_ROOMS, rt60_seconds=near, sample_rate=SAMPLE_RATE)
    bank = load_rooms(options, condition.seed, cache)
    return tuple(bank[number] for number in range(len(bank)))


def _write(numbered: tuple[int, Utterance], out: Path, condition: Condition, sources: _Sources) -> str:
    number, utterance = numbered
    generator = np.random.default_rng((condition.seed, number))
    pcm_S = apply_condition(read_audio(utterance.audio, SAMPLE_RATE), condition, sources, generator)
    name = f"{number:05d}.flac"
    soundfile.write(out / name, pcm_S, SAMPLE_RATE, subtype="PCM_16")
    line = {"audio_filepath": name, "duration": len(pcm_S) / SAMPLE_RATE, "text": utterance.text}
    if utterance.speaker:
        line["speaker"] = utterance.speaker
    return json.dumps(line, ensure_ascii=False) + "\n"


def apply_condition(
    pcm_S: Samples, condition: Condition, sources: _Sources, generator: np.random.Generator
) -> Samples:
    """Apply a condition to samples (float32, -1..1, at :data:`SAMPLE_RATE`); the length stays the same.

    If the result exceeds -1..1, it is scaled down.

    Raises:
        DataError: the noise file that was drawn is silent.
    """
    if sources.rooms:
        room = sources.rooms[int(generator.integers(len(sources.rooms)))]
        pcm_S = reverberate(pcm_S, room)
    if condition.snr_db is not None:
        path = sources.noises[int(generator.integers(len(sources.noises)))]
        noise_S = _noise_segment(read_audio(path, SAMPLE_RATE), len(pcm_S), generator)
        level = _rms(noise_S)
        if level <= _SMALLEST_RMS:
            raise DataError(f"{path}: the noise is silent, so it has no signal-to-noise ratio")
        pcm_S = pcm_S + noise_S * np.float32(_rms(pcm_S) / level * 10 ** (-condition.snr_db / 20))
    pcm_S = pcm_S * np.float32(10 ** (condition.gain_db / 20))
    if condition.codec is not None:
        pcm_S = apply_codec(pcm_S, SAMPLE_RATE, condition.codec)
    peak = float(np.abs(pcm_S).max(initial=0.0))
    return (pcm_S / max(1.0, peak)).astype(np.float32)


def _noise_segment(noise_S: Samples, samples: int, generator: np.random.Generator) -> Samples:
    """Cut a segment from a random position of the noise, which is repeated if it is too short."""
    start = int(generator.integers(len(noise_S)))
    return np.resize(np.roll(noise_S, -start), samples).astype(np.float32)


def _rms(pcm_S: Samples) -> float:
    return float(np.sqrt(np.mean(np.square(pcm_S, dtype=np.float64)))) if len(pcm_S) else 0.0
