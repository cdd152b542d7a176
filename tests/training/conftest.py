"""Provide a corpus of beeps: each letter, and the space, has a pitch, so a small model learns to spell in seconds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from streamasr.frontend.pcm import Samples

RATE = 16_000
PITCHES = {" ": 250.0, "a": 500.0, "b": 1000.0, "c": 2000.0}


def beeps(text: str, rng: np.random.Generator) -> Samples:
    """Return ``text`` as tones of 120 ms with gaps of 60 ms."""
    parts = [np.zeros(RATE // 10)]
    for letter in text:
        time = np.arange(int(0.12 * RATE)) / RATE
        parts += [0.3 * np.sin(2 * np.pi * PITCHES[letter] * time), np.zeros(int(0.06 * RATE))]
    clean_S = np.concatenate([*parts, np.zeros(RATE // 10)])
    noisy_S: Samples = (clean_S + rng.normal(0, 1e-3, len(clean_S))).astype(np.float32)
    return noisy_S


@pytest.fixture(scope="session")
def beep_manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty utterances of one to three words."""
    folder = tmp_path_factory.mktemp("beeps")
    rng = np.random.default_rng(7)
    with (folder / "manifest.jsonl").open("w") as manifest:
        for number in range(30):
            words = [
                "".join(rng.permutation(list("abc"))[: rng.integers(1, 4)]) for _ in range(rng.integers(1, 4))
            ]
            text = " ".join(words)
            sound = beeps(text, rng)
            soundfile.write(folder / f"{number}.wav", sound, RATE)
            row = {"audio_filepath": f"{number}.wav", "duration": len(sound) / RATE, "text": text}
            manifest.write(json.dumps(row) + "\n")
    return folder / "manifest.jsonl"
