"""A script read aloud into a folder of sound files with a manifest; an interrupted reading goes on where it was.

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
from streamasr.synthesis.voices import Manner, Voice
from streamasr.text import normalise_english

SAMPLE_RATE = 16_000
"""Hz of the files: what models hear."""
MANIFEST_FILE = "manifest.jsonl"
SETTINGS_FILE = "synthesis.json"
_SHORTEST_SECONDS = 0.3
_CONTAINERS = {"flac": ("FLAC", "PCM_16"), "opus": ("OGG", "OPUS")}
_HEADROOM = 0.9


@dataclass(frozen=True, kw_only=True)
class SpeakConfig:
    """How a script is read, and for how long."""

    voice: str
    source: str = ""
    """What the script was made of, in words; remembered, so that two scripts are not mixed in one folder."""
    hours: float = 1.0
    """Audio to make, earlier parts of the same folder included."""
    seed: int = 1
    format: Literal["flac", "opus"] = "opus"
    speeds: tuple[float, float] = (0.85, 1.2)
    """Slowest and fastest."""
    liveliness: tuple[float, float] = (0.5, 0.9)
    rhythm: tuple[float, float] = (0.6, 1.0)

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
class Spoken:
    """How far the reading is."""

    sentences: int
    seconds: float


def speak(
    lines: Iterable[str],
    voice: Voice,
    out: Path,
    config: SpeakConfig,
    progress: Callable[[Spoken], None] = lambda _: None,
) -> Spoken:
    """Read lines until the hours are full, or the lines are over.

    Line ``i`` always becomes ``audio/i`` in the manner that the seed draws for it; lines that the manifest has
    already are not said again.

    Raises:
        DataError: the folder holds speech that was made in another way.
    """
    (out / "audio").mkdir(parents=True, exist_ok=True)
    _check_settings(out / SETTINGS_FILE, config)
    said, done = _resume(out / MANIFEST_FILE)
    container, subtype = _CONTAINERS[config.format]
    with (out / MANIFEST_FILE).open("a", encoding="utf-8") as manifest:
        for index, line in enumerate(lines):
            if done.seconds >= config.hours * 3600:
                break
            if index <= said:
                continue
            samples_S = _at_model_rate(voice.say(line, _manner(config, index)), voice.sample_rate)
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
            done = Spoken(done.sentences + 1, done.seconds + seconds)
            progress(done)
    return done


def _manner(config: SpeakConfig, index: int) -> Manner:
    draw = np.random.default_rng((config.seed, index))
    return Manner(
        speed=draw.uniform(*config.speeds),
        liveliness=draw.uniform(*config.liveliness),
        rhythm=draw.uniform(*config.rhythm),
    )


def _at_model_rate(samples_S: Samples, sample_rate: int) -> Samples:
    resampler = Resampler(sample_rate, SAMPLE_RATE)
    resampled_S = np.concatenate((resampler.feed(samples_S), resampler.flush()))
    peak = float(np.abs(resampled_S).max(initial=0.0))
    return resampled_S * np.float32(_HEADROOM / peak) if peak > _HEADROOM else resampled_S


def _check_settings(path: Path, config: SpeakConfig) -> None:
    """Refuse to mix two ways of making in one folder; only ``hours`` may change."""
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
            f"{path.parent}: holds speech of other settings ({', '.join(different)}); use a folder of its own"
        )


def _resume(path: Path) -> tuple[int, Spoken]:
    """Index of the last line said (-1 for none) and how much there is; a line torn by a crash is cut off."""
    if not path.exists():
        return -1, Spoken(0, 0.0)
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        path.write_text(whole, encoding="utf-8")
    rows = [json.loads(line) for line in whole.splitlines()]
    last = int(Path(rows[-1]["audio_filepath"]).stem) if rows else -1
    return last, Spoken(len(rows), sum(row["duration"] for row in rows))
