"""Simulated rooms: what they do to a click and to noise, the same for the same seed, kept in a file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from streamasr.errors import ConfigError, DataError
from streamasr.training.data.augmentation import rooms
from streamasr.training.data.augmentation.rooms import (
    LEAD_SAMPLES,
    RoomBank,
    RoomOptions,
    load_rooms,
    make_rooms,
    reverberate,
)

pytest.importorskip("pyroomacoustics")

RATE = 16_000
OPTIONS = RoomOptions(rooms=6, rt60_seconds=(0.2, 0.4), max_order=40)


@pytest.fixture(scope="module")
def bank() -> RoomBank:
    return make_rooms(OPTIONS, seed=3)


def decay_seconds(response_R: NDArray[np.float32]) -> float:
    """Reverberation time from the decay between -5 and -25 dB of Schroeder's integral, times three."""
    left_db = 10 * np.log10(np.cumsum(np.square(response_R, dtype=np.float64)[::-1])[::-1])
    below = [int(np.argmax(left_db <= left_db[0] - drop)) for drop in (5, 25)]
    return 3 * (below[1] - below[0]) / RATE


def test_a_bank_holds_what_was_asked_for(bank: RoomBank) -> None:
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
        assert abs(onset - LEAD_SAMPLES) <= 1 or bank.distance_m[number] > 2.0
        assert level_R[LEAD_SAMPLES - 1 : LEAD_SAMPLES + 2].max() > 10 * level_R[0]


def test_a_seed_gives_its_rooms_however_many_are_made(bank: RoomBank) -> None:
    fewer = make_rooms(replace(OPTIONS, rooms=2), seed=3)
    assert all(np.array_equal(fewer[number], bank[number]) for number in range(2))
    assert not np.array_equal(make_rooms(replace(OPTIONS, rooms=1), seed=4)[0], bank[0])


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
    made = load_rooms(options, 1, tmp_path / "cache")
    (file,) = (tmp_path / "cache").iterdir()
    monkeypatch.setattr(rooms, "make_rooms", lambda *_, **__: pytest.fail("simulated again"))
    again = load_rooms(options, 1, tmp_path / "cache")
    assert np.array_equal(made.samples, again.samples)
    assert np.array_equal(made.offsets, again.offsets)
    monkeypatch.undo()
    load_rooms(options, 2, tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == 2
    file.write_bytes(b"broken")
    with pytest.raises(DataError, match="delete it and it is made anew"):
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
    together = np.correlate(wet_S, pcm_S[4_000:6_000], mode="valid")
    assert int(np.argmax(together)) - 4_000 == pytest.approx(LEAD_SAMPLES, abs=2)


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
def test_rooms_that_cannot_be_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        replace(OPTIONS, **change)  # type: ignore[arg-type]


def test_ranges_that_admit_no_room_are_refused() -> None:
    hall = replace(OPTIONS, rooms=1, rt60_seconds=(8.0, 9.0))
    with pytest.raises(ConfigError, match="raise max_order"):
        make_rooms(hall, seed=1)
