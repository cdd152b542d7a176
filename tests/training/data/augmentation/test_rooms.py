"""Test simulated rooms: their impulse responses, reverberation, seeds and cache files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamasr.errors import ConfigError, DataError
from streamasr.frontend.pcm import Samples
from streamasr.training.data.augmentation import rooms
from streamasr.training.data.augmentation.rooms import (
    ONSET_SAMPLES,
    RoomBank,
    RoomOptions,
    load_rooms,
    reverberate,
    simulate_rooms,
)

pytest.importorskip("pyroomacoustics")

RATE = 16_000
OPTIONS = RoomOptions(rooms=6, rt60_seconds=(0.2, 0.4), max_order=40)


@pytest.fixture(scope="module")
def bank() -> RoomBank:
    return simulate_rooms(OPTIONS, seed=3)


def decay_seconds(response_R: Samples) -> float:
    """Return the reverberation time: three times the decay from -5 to -25 dB of Schroeder's integral."""
    energy_db = 10 * np.log10(np.cumsum(np.square(response_R, dtype=np.float64)[::-1])[::-1])
    below = [int(np.argmax(energy_db <= energy_db[0] - drop)) for drop in (5, 25)]
    return 3 * (below[1] - below[0]) / RATE


def test_a_bank_has_the_requested_rooms(bank: RoomBank) -> None:
    assert len(bank) == 6
    for number in range(len(bank)):
        response_R = bank[number]
        assert response_R.dtype == np.float32
        assert np.square(response_R, dtype=np.float64).sum() == pytest.approx(1.0, abs=1e-4)
        assert decay_seconds(response_R) == pytest.approx(bank.rt60_seconds[number], rel=0.5)
    assert ((bank.rt60_seconds >= 0.2) & (bank.rt60_seconds <= 0.4)).all()
    assert (bank.distance_m >= 0.3).all()


def test_the_direct_sound_comes_first(bank: RoomBank) -> None:
    for number in range(len(bank)):
        level_R = np.abs(bank[number])
        onset = int(np.argmax(level_R > 0.5 * level_R.max()))
        assert abs(onset - ONSET_SAMPLES) <= 1 or bank.distance_m[number] > 2.0
        assert level_R[ONSET_SAMPLES - 1 : ONSET_SAMPLES + 2].max() > 10 * level_R[0]


def test_rooms_depend_on_the_seed_and_not_on_their_number(bank: RoomBank) -> None:
    fewer = simulate_rooms(replace(OPTIONS, rooms=2), seed=3)
    assert all(np.array_equal(fewer[number], bank[number]) for number in range(2))
    assert not np.array_equal(simulate_rooms(replace(OPTIONS, rooms=1), seed=4)[0], bank[0])


def test_the_bank_as_one_array(bank: RoomBank) -> None:
    rooms_KR = bank.padded()
    assert rooms_KR.shape == (6, max(len(bank[number]) for number in range(6)))
    for number in range(6):
        length = len(bank[number])
        assert np.array_equal(rooms_KR[number, :length], bank[number])
        assert not rooms_KR[number, length:].any()


def test_drawing_is_seeded(bank: RoomBank) -> None:
    drawn = [len(bank.draw(np.random.default_rng(seed))) for seed in (1, 1, 2, 3, 4)]
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) > 1


def test_the_bank_is_simulated_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = replace(OPTIONS, rooms=2)
    bank = load_rooms(options, 1, tmp_path / "cache")
    (file,) = (tmp_path / "cache").iterdir()
    monkeypatch.setattr(rooms, "simulate_rooms", lambda *_, **__: pytest.fail("simulated again"))
    again = load_rooms(options, 1, tmp_path / "cache")
    assert np.array_equal(bank.samples, again.samples)
    assert np.array_equal(bank.offsets, again.offsets)
    monkeypatch.undo()
    load_rooms(options, 2, tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == 2
    file.write_bytes(b"damaged")
    with pytest.raises(DataError, match="delete the file, and it is made again"):
        load_rooms(options, 1, tmp_path / "cache")


def test_reverberation_keeps_length_level_and_time(bank: RoomBank) -> None:
    pcm_S = np.zeros(RATE, dtype=np.float32)
    pcm_S[4_000:6_000] = np.random.default_rng(0).normal(0, 0.1, 2_000)
    wet_S = reverberate(pcm_S, bank[0])
    assert wet_S.dtype == np.float32
    assert wet_S.shape == pcm_S.shape
    assert np.sqrt(np.mean(wet_S**2)) == pytest.approx(np.sqrt(np.mean(pcm_S**2)), rel=1e-3)
    assert np.abs(wet_S[:4_000]).max() < 1e-5
    assert np.abs(wet_S[6_500:8_000]).max() > 1e-3
    correlation = np.correlate(wet_S, pcm_S[4_000:6_000], mode="valid")
    assert int(np.argmax(correlation)) - 4_000 == pytest.approx(ONSET_SAMPLES, abs=2)


def test_reverberation_is_the_convolution(bank: RoomBank) -> None:
    pcm_S = np.random.default_rng(1).normal(0, 0.1, 777).astype(np.float32)
    wet_S, plain_S = reverberate(pcm_S, bank[1]), np.convolve(pcm_S, bank[1])[:777]
    scale = np.sqrt(np.mean(plain_S**2) / np.mean(wet_S**2))
    np.testing.assert_allclose(wet_S * scale, plain_S, atol=1e-5)


@pytest.mark.parametrize("samples", [0, 1, 100])
def test_silence_stays_silence(bank: RoomBank, samples: int) -> None:
    silence_S = np.zeros(samples, dtype=np.float32)
    assert np.array_equal(reverberate(silence_S, bank[0]), silence_S)


@pytest.mark.parametrize(
    "change",
    [{"rooms": 0}, {"rt60_seconds": (0.5, 0.2)}, {"height_m": (1.0, 3.0)}, {"width_m": (0.5, 3.0)}],
    ids=str,
)
def test_invalid_options_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        replace(OPTIONS, **change)


def test_ranges_without_possible_rooms_are_refused() -> None:
    hall = replace(OPTIONS, rooms=1, rt60_seconds=(8.0, 9.0))
    with pytest.raises(ConfigError, match="raise max_order"):
        simulate_rooms(hall, seed=1)
