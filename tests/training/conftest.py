"""A corpus of beeps: every letter has a pitch, so that a small model can learn to spell in seconds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

RATE = 16_000
PITCHES = {"a": 400.0, "b": 900.0, "c": 1700.0}


def beeps(text: str, rng: np.random.Generator) -> np.ndarray:
    """``text`` as tones of 120 ms with gaps of 60 ms; a space is a longer gap."""
    parts = [np.zeros(RATE // 10)]
    for letter in text:
        time = np.arange(int(0.12 * RATE)) / RATE
        tone = np.sin(2 * np.pi * PITCHES.get(letter, 0.0) * time) * (0.3 if letter != " " else 0.0)
        parts += [tone, np.zeros(int(0.06 * RATE))]
    sound = np.concatenate([*parts, np.zeros(RATE // 10)])
    return (sound + rng.normal(0, 1e-3, len(sound))).astype(np.float32)


@pytest.fixture(scope="session")
def beep_manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty utterances of one to three words."""
    folder = tmp_path_factory.mktemp("beeps")
    rng = np.random.default_rng(7)
    with (folder / "manifest.jsonl").open("w") as manifest:
        for number in range(30):
            words = ["".join(rng.choice(list("abc"), rng.integers(1, 4))) for _ in range(rng.integers(1, 4))]
            text = " ".join(words)
            sound = beeps(text, rng)
            soundfile.write(folder / f"{number}.wav", sound, RATE)
            row = {"audio_filepath": f"{number}.wav", "duration": len(sound) / RATE, "text": text}
            manifest.write(json.dumps(row) + "\n")
    return folder / "manifest.jsonl"
