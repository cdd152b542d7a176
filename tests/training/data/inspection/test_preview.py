"""Test the files of a preview: the clean audio, the augmented audio, and a plot."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from streamasr.errors import ConfigError
from streamasr.training.config import AugmentConfig, DataConfig, TrainConfig
from streamasr.training.data.augmentation.sources import AugmentationSources, load_augmentation_sources
from streamasr.training.data.inspection.preview import PLOT, preview
from tests.training.data import trees

RATE = 16_000
OFF = AugmentConfig(
    speeds=(1.0,),
    noise_probability=0,
    babble_probability=0,
    room_probability=0,
    band_probability=0,
    tilt_db=0,
    level_db=(0.0, 0.0),
)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("speech")
    rows = []
    for number in range(5):
        trees.sound(folder / f"{number}.wav", 0.5 + 0.1 * number, seed=number)
        rows.append({"audio_filepath": f"{number}.wav", "duration": 0.5, "text": "abcde"[number] * 3})
    return trees.text(folder / "manifest.jsonl", *map(json.dumps, rows))


def recipe(manifest: Path, augment: AugmentConfig, **data: Any) -> TrainConfig:
    config = TrainConfig(name="x", augment=augment, data=DataConfig(manifests=(manifest,), rows_per_batch=2))
    return replace(config, data=replace(config.data, **data))


NO_SOURCES = AugmentationSources(torch.zeros(0))


def test_without_augmentation_both_wavs_equal_the_file(manifest: Path, tmp_path: Path) -> None:
    previewed = preview(manifest, recipe(manifest, OFF), NO_SOURCES, tmp_path, count=5, seed=1)
    assert sorted(one.utterance.text for one in previewed) == ["aaa", "bbb", "ccc", "ddd", "eee"]
    for one in previewed:
        original_S, _ = soundfile.read(one.utterance.audio, dtype="float32")
        for path in (one.clean, one.augmented):
            samples_S, rate = soundfile.read(path, dtype="float32")
            assert rate == RATE
            np.testing.assert_allclose(samples_S, original_S, atol=1e-4)


def test_the_augmented_wav_has_the_drawn_speed_and_level(manifest: Path, tmp_path: Path) -> None:
    config = recipe(manifest, replace(OFF, speeds=(1.1,), level_db=(-12.0, -12.0)))
    for one in preview(manifest, config, NO_SOURCES, tmp_path, count=3, seed=1):
        clean_S, augmented_S = (
            soundfile.read(path, dtype="float32")[0] for path in (one.clean, one.augmented)
        )
        assert len(augmented_S) == pytest.approx(len(clean_S) / 1.1, abs=1)
        ratio = np.sqrt(np.mean(augmented_S**2) / np.mean(clean_S**2))
        assert 20 * np.log10(ratio) == pytest.approx(-12.0, abs=1.0)


def test_the_same_seed_writes_the_same_files(manifest: Path, tmp_path: Path) -> None:
    config = recipe(manifest, AugmentConfig(noise_probability=1.0))
    for name, seed in (("one", 1), ("same", 1), ("other", 2)):
        preview(manifest, config, NO_SOURCES, tmp_path / name, count=2, seed=seed)
    one, same, other = (
        (tmp_path / name / "000-augmented.wav").read_bytes() for name in ("one", "same", "other")
    )
    assert one == same != other


def test_the_plot_is_a_png_with_one_row_per_utterance(manifest: Path, tmp_path: Path) -> None:
    config = recipe(manifest, AugmentConfig())
    preview(manifest, config, NO_SOURCES, tmp_path, count=1, seed=1)
    small = (tmp_path / PLOT).read_bytes()
    preview(manifest, config, NO_SOURCES, tmp_path, count=4, seed=1)
    large = (tmp_path / PLOT).read_bytes()
    assert small.startswith(b"\x89PNG")
    heights = [int.from_bytes(data[20:24], "big") for data in (small, large)]
    assert heights[1] > 2 * heights[0]


def test_a_count_of_zero_is_refused(manifest: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="got a count of 0"):
        preview(manifest, recipe(manifest, OFF), NO_SOURCES, tmp_path, count=0, seed=1)


def test_augmentation_sources_are_the_recipes_noises_and_rooms(manifest: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyroomacoustics")
    none = load_augmentation_sources(recipe(manifest, OFF), tmp_path)
    assert len(none.noise_N) == 0
    assert none.rooms_KR is None
    augment = replace(OFF, room_probability=0.5, room_bank=2, room_rt60_seconds=(0.2, 0.3))
    config = recipe(manifest, augment, noise_manifests=(manifest,))
    full, again = (load_augmentation_sources(config, tmp_path) for _ in range(2))
    assert len(full.noise_N) == pytest.approx(RATE * (0.5 + 0.6 + 0.7 + 0.8 + 0.9), abs=5)
    assert full.rooms_KR is not None
    assert again.rooms_KR is not None
    assert len(full.rooms_KR) == 2
    assert torch.equal(full.rooms_KR, again.rooms_KR)
    assert torch.equal(full.noise_N, again.noise_N)
