"""Test degraded copies: their measured conditions, the same result each time, and the same length."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from streamasr.errors import ConfigError, DataError
from streamasr.frontend.pcm import Samples
from streamasr.manifest import read_manifest
from streamasr.training.data.augmentation.degrade import SAMPLE_RATE, Condition, degrade


def folder_of(path: Path, sounds: dict[str, npt.NDArray[np.float64]]) -> Path:
    path.mkdir()
    lines = []
    for name, sound in sounds.items():
        soundfile.write(path / f"{name}.wav", sound, SAMPLE_RATE)
        row = {"audio_filepath": f"{name}.wav", "duration": len(sound) / SAMPLE_RATE, "text": name}
        lines.append(json.dumps(row) + "\n")
    (path / "manifest.jsonl").write_text("".join(lines))
    return path / "manifest.jsonl"


@pytest.fixture
def tones(tmp_path: Path) -> Path:
    time = np.arange(2 * SAMPLE_RATE) / SAMPLE_RATE
    return folder_of(
        tmp_path / "tones",
        {name: 0.1 * np.sin(2 * np.pi * pitch * time) for name, pitch in (("a", 440), ("b", 880))},
    )


@pytest.fixture
def noise(tmp_path: Path) -> Path:
    return folder_of(tmp_path / "noise", {"hiss": np.random.default_rng(1).normal(0, 0.2, SAMPLE_RATE // 2)})


def read_audio_files(manifest: Path) -> list[Samples]:
    return [soundfile.read(utterance.audio, dtype="float32")[0] for utterance in read_manifest(manifest)]


@pytest.mark.parametrize("snr_db", [0.0, 20.0])
def test_noise_has_the_requested_level(tones: Path, noise: Path, tmp_path: Path, snr_db: float) -> None:
    copies = degrade(tones, tmp_path / "out", Condition(snr_db=snr_db), noise=noise)
    assert [utterance.text for utterance in read_manifest(copies)] == ["a", "b"]
    for clean_S, noisy_S in zip(read_audio_files(tones), read_audio_files(copies), strict=True):
        assert len(noisy_S) == len(clean_S)
        ratio = np.mean(clean_S**2) / np.mean((noisy_S - clean_S) ** 2)
        assert 10 * np.log10(ratio) == pytest.approx(snr_db, abs=0.3)
    assert json.loads((tmp_path / "out" / "condition.json").read_text())["snr_db"] == snr_db


def test_the_same_seed_gives_the_same_copies(tones: Path, noise: Path, tmp_path: Path) -> None:
    hard = Condition(rt60_seconds=0.4, snr_db=5.0, codec="g711-mu", gain_db=-6.0)
    one, other = (
        read_audio_files(degrade(tones, tmp_path / name, hard, noise=noise)) for name in ("one", "other")
    )
    for first_S, second_S in zip(one, other, strict=True):
        np.testing.assert_array_equal(first_S, second_S)
        assert len(first_S) == 2 * SAMPLE_RATE


def test_gain_changes_the_level_and_does_not_clip(tones: Path, tmp_path: Path) -> None:
    quiet = read_audio_files(degrade(tones, tmp_path / "quiet", Condition(gain_db=-20.0)))[0]
    assert np.abs(quiet).max() == pytest.approx(0.01, rel=0.02)
    loud = read_audio_files(degrade(tones, tmp_path / "loud", Condition(gain_db=40.0)))[0]
    assert np.abs(loud).max() == pytest.approx(1.0, rel=0.01)
    assert np.corrcoef(loud, quiet)[0, 1] > 0.999


def test_invalid_conditions_are_refused(tones: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match="no condition: give a reverberation time, noise, a codec or a gain"
    ):
        Condition()
    with pytest.raises(ConfigError, match="must be positive, got 0"):
        Condition(rt60_seconds=0.0)
    with pytest.raises(ConfigError, match="gsm"):
        Condition(codec="gramophone")
    with pytest.raises(ConfigError, match="give both or none"):
        degrade(tones, tmp_path / "out", Condition(snr_db=3.0))
    silence = folder_of(tmp_path / "silence", {"nothing": np.zeros(SAMPLE_RATE)})
    with pytest.raises(DataError, match=r"nothing\.wav: the noise is silent"):
        degrade(tones, tmp_path / "out", Condition(snr_db=3.0), noise=silence)
