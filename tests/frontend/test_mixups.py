"""A wrong encoding is noticed on speech; the right one raises no alarm on speech, noise, silence or tones."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from streamasr.frontend.mixups import Reading, likely_encoding
from streamasr.frontend.pcm import ENCODINGS, G711_TABLES, Encoding

TESTS = Path(__file__).parents[1]
CLIPS = sorted((TESTS / "data" / "librispeech").glob("*.flac")) + sorted(
    (TESTS / "data" / "l2").rglob("*.flac")
)
SHARED = TESTS.parents[1] / "shared" / "data"
RATE = 16_000

Wave = NDArray[np.float64]


def encoded(samples: Wave, encoding: Reading) -> bytes:
    """Samples in -1..1 as bytes."""
    if encoding == "pcm_f32le":
        return samples.astype("<f4").tobytes()
    if encoding in ("mulaw", "alaw"):
        order = np.argsort(G711_TABLES[encoding])
        levels = G711_TABLES[encoding][order].astype(np.float64)
        nearest = np.searchsorted((levels[1:] + levels[:-1]) / 2, samples)
        return order[nearest].astype(np.uint8).tobytes()
    integers: Wave = np.round(samples * 32_767).clip(-32_768, 32_767)
    return integers.astype("<i2" if encoding == "pcm_s16le" else ">i2").tobytes()


def read(path: Path, seconds: float = 4.0) -> Wave:
    samples, rate = soundfile.read(path, frames=int(seconds * RATE) * 2, always_2d=True)
    return np.asarray(samples[: int(seconds * rate), 0], dtype=np.float64)


def synthetic() -> Iterator[tuple[str, Wave]]:
    """Tones, chords, noise and silence, such as music and machines have."""
    rng = np.random.default_rng(1)
    time = np.arange(3 * RATE) / RATE
    white = rng.standard_normal(time.size)
    notes = 220 * 2 ** (np.floor(time * 4) % 12 / 12)
    melody = np.sin(2 * np.pi * np.cumsum(notes) / RATE) * np.exp(-4 * (time % 0.25))
    chord = sum(np.sin(2 * np.pi * f * time) for f in (110, 220, 277, 330, 440, 554)) / 6
    bass = np.sin(2 * np.pi * 55 * time) + 0.3 * np.sin(2 * np.pi * 110 * time)
    shapes = {
        "hum": np.sin(2 * np.pi * 50 * time),
        "tone": np.sin(2 * np.pi * 440 * time),
        "high tone": np.sin(2 * np.pi * 7_000 * time),
        "square": np.sign(np.sin(2 * np.pi * 200 * time)),
        "high square": np.sign(np.sin(2 * np.pi * 4_000 * time + 0.1)),
        "saw": (time * 110) % 1 * 2 - 1,
        "melody": melody,
        "chord": np.asarray(chord),
        "bass": bass / 1.3,
        "white": (white / 3).clip(-1, 1),
        "brown": (brown := np.cumsum(white)) / np.abs(brown).max(),
        "8 bits": np.round(127 * melody) / 128,
        "noise of 8 bits": np.round(127 * (white / 3).clip(-1, 1)) / 128,
        "clipped": (20 * melody).clip(-1, 1),
        "offset": 0.45 + 0.001 * white,
    }
    for name, shape in shapes.items():
        for level in (1.0, 0.5, 0.1, 0.01):
            yield f"{name} at {level}", shape * level
    yield "silence", np.zeros(time.size)
    yield "dither", np.round(white) / 32_768


SYNTHETIC = dict(synthetic())


@pytest.mark.parametrize("stated", ENCODINGS)
@pytest.mark.parametrize("true", [*ENCODINGS, "pcm_s16be"])
def test_the_true_encoding_of_speech_is_found(stated: Encoding, true: Reading) -> None:
    for clip in CLIPS:
        data = encoded(read(clip, seconds=8), true)
        assert likely_encoding(data, stated, 1) == (None if true == stated else true), clip


@pytest.mark.parametrize("stated", ["pcm_s16le", "pcm_f32le"])
def test_the_first_of_two_channels_is_judged(stated: Encoding) -> None:
    readings: tuple[Reading, ...] = (*ENCODINGS, "pcm_s16be")
    for true in readings:
        samples = np.repeat(read(CLIPS[0]), 2)
        assert likely_encoding(encoded(samples, true), stated, 2) == (None if true == stated else true)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_tones_noise_and_silence_raise_no_alarm(encoding: Encoding) -> None:
    alarms = {
        name: found
        for name, samples in SYNTHETIC.items()
        if (found := likely_encoding(encoded(samples, encoding), encoding, 1))
    }
    assert alarms == {}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("folder", ["dev-librispeech", "dev-l2", "noise-esc10"])
def test_no_recording_raises_an_alarm(folder: str) -> None:
    paths = sorted(path for path in (SHARED / folder).rglob("*") if path.suffix in (".flac", ".opus"))
    if not paths:
        pytest.skip(f"no {folder} beside the repository: LibriSpeech, L2-ARCTIC and ESC-10 can be downloaded")
    alarms = {
        (path.name, encoding): found
        for path in paths
        for samples in (read(path),)
        for encoding in ENCODINGS
        if (found := likely_encoding(encoded(samples, encoding), encoding, 1))
    }
    assert alarms == {}


def test_too_little_sound_is_not_judged() -> None:
    speech = encoded(read(CLIPS[0]), "pcm_s16be")
    assert likely_encoding(speech[:16_000], "pcm_s16le", 1) is None
    assert likely_encoding(b"", "pcm_s16le", 1) is None
