"""Synthesise sentences into a folder of audio files with a manifest; an interrupted run can be resumed.

Shape suffix: S samples.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import soundfile

from streamasr.errors import ConfigError, DataError
from streamasr.frontend.pcm import Samples
from streamasr.frontend.resample import Resampler
from streamasr.synthesis.voices import SpeakingStyle, Voice
from streamasr.text import normalise_english

SAMPLE_RATE = 16_000
"""Rate of the audio files in Hz; the models take the same rate."""
MANIFEST_FILE = "manifest.jsonl"
SETTINGS_FILE = "synthesis.json"
_SHORTEST_SECONDS = 0.3
_CONTAINERS = {"flac": ("FLAC", "PCM_16"), "opus": ("OGG", "OPUS")}
_HEADROOM = 0.9


@dataclass(frozen=True, kw_only=True)
class SynthesisConfig:
    """How sentences are spoken, and how much audio is made."""

    voice: str
    """Name of the voice, as :func:`~streamasr.synthesis.voices.load_voice` takes it."""
    source: str = ""
    """Description of the texts. It is stored, so that sentences of other texts are not added to the same folder."""
    hours: float = 1.0
    """Hours of audio to make, including audio that is already in the folder."""
    seed: int = 1
    """Seed of the speaking styles."""
    format: Literal["flac", "opus"] = "opus"
    speeds: tuple[float, float] = (0.85, 1.2)
    """Slowest and fastest speaking rate."""
    liveliness: tuple[float, float] = (0.5, 0.9)
    """Least and most noise in timbre and intonation."""
    rhythm: tuple[float, float] = (0.6, 1.0)
    """Least and most noise in the phoneme durations."""

    def __post_init__(self) -> None:
        if self.hours <= 0:
            raise ConfigError(f"hours must be positive, got {self.hours}")
        for name in ("speeds", "liveliness", "rhythm"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ConfigError(
                    f"{name} must be two positive numbers, the lower first, got {low} and {high}"
                )


@dataclass(frozen=True, slots=True)
class SynthesisProgress:
    """Number of sentences and seconds of audio in the folder so far."""

    sentences: int
    seconds: float


def synthesise(
    lines: Iterable[str],
    voice: Voice,
    out: Path,
    config: SynthesisConfig,
    progress: Callable[[SynthesisProgress], None] = lambda _: None,
) -> SynthesisProgress:
    """Synthesise lines until there are ``config.hours`` of audio, or no more lines.

    Line ``i`` always becomes the file ``audio/i``, in a style that depends on the seed and ``i`` only. Lines that
    are already in the manifest are not synthesised again.

    Args:
        lines: the sentences, in a fixed order.
        voice: the voice that speaks them.
        out: folder of the audio files and the manifest.
        config: the settings.
        progress: called after each sentence.

    Returns:
        The state of the folder at the end.

    Raises:
        DataError: the folder holds audio that was made with other settings.
    """
    (out / "audio").mkdir(parents=True, exist_ok=True)
    _check_settings(out / SETTINGS_FILE, config)
    last_index, done = _resume(out / MANIFEST_FILE)
    container, subtype = _CONTAINERS[config.format]
    with (out / MANIFEST_FILE).open("a", encoding="utf-8") as manifest:
        for index, line in enumerate(lines):
            if done.seconds >= config.hours * 3600:
                break
            if index <= last_index:
                continue
            samples_S = _at_model_rate(voice.synthesise(line, _style_of(config, index)), voice.sample_rate)
            seconds = len(samples_S) / SAMPLE_RATE
            if seconds < _SHORTEST_SECONDS:
                continue
            name = f"audio/{index:06d}.{config.format}"
            soundfile.write(out / name, samples_S, SAMPLE_RATE, format=container, subtype=subtype)
            row = {
                "audio_filepath": name,
                "duration": round(seconds, 4),
                "speaker": voice.name,
                "text": normalise_english(line),
            }
            manifest.write(json.dumps(row) + "\n")
            manifest.flush()
            done = SynthesisProgress(done.sentences + 1, done.seconds + seconds)
            progress(done)
    return done


def _style_of(config: SynthesisConfig, index: int) -> SpeakingStyle:
    rng = np.random.default_rng((config.seed, index))
    return SpeakingStyle(
        speed=rng.uniform(*config.speeds),
        liveliness=rng.uniform(*config.liveliness),
        rhythm=rng.uniform(*config.rhythm),
    )


def _at_model_rate(samples_S: Samples, sample_rate: int) -> Samples:
    resampler = Resampler(sample_rate, SAMPLE_RATE)
    resampled_S = np.concatenate((resampler.feed(samples_S), resampler.flush()))
    peak = float(np.abs(resampled_S).max(initial=0.0))
    return resampled_S * np.float32(_HEADROOM / peak) if peak > _HEADROOM else resampled_S


def _check_settings(path: Path, config: SynthesisConfig) -> None:
    """Refuse to add audio with other settings to the folder; only ``hours`` may differ."""
    wanted = json.loads(
        json.dumps({name: value for name, value in asdict(config).items() if name != "hours"})
    )
    if not path.exists():
        path.write_text(json.dumps(wanted, indent=2) + "\n", encoding="utf-8")
        return
    found = json.loads(path.read_text(encoding="utf-8"))
    different = [name for name in wanted if found.get(name) != wanted[name]]
    if different:
        raise DataError(
            f"{path.parent}: holds audio made with other settings ({', '.join(different)}); use another folder"
        )


def _resume(path: Path) -> tuple[int, SynthesisProgress]:
    """Return the index of the last synthesised line (-1 for none) and the progress so far.

    A half-written last line, which a crash can leave, is removed from the manifest.
    """
    if not path.exists():
        return -1, SynthesisProgress(0, 0.0)
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        path.write_text(whole, encoding="utf-8")
    rows = [json.loads(line) for line in whole.splitlines()]
    last = int(Path(rows[-1]["audio_filepath"]).stem) if rows else -1
    return last, SynthesisProgress(len(rows), sum(row["duration"] for row in rows))
