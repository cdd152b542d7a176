"""Test mixing channels, and taking one of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from streamasr.errors import DataError
from streamasr.media.channels import MonoMixer, channel_label
from streamasr.media.reader import open_file

CLIP = Path(__file__).parents[1] / "data" / "librispeech" / "2136-5147-0011.flac"


def ignore(warning: str) -> None:
    pass


def speech() -> npt.NDArray[np.float32]:
    samples: npt.NDArray[np.float32] = soundfile.read(CLIP, dtype="float32")[0]
    return samples


def test_opposite_phases_are_noticed_and_the_louder_channel_is_taken(tmp_path: Path) -> None:
    samples = speech()
    soundfile.write(tmp_path / "a.wav", np.stack([-0.8 * samples, samples], axis=1), 16_000, subtype="FLOAT")
    with open_file(tmp_path / "a.wav") as reader:
        mono = np.concatenate(list(reader.mono_blocks(16_000)))
        (warning,) = reader.warnings
    assert f"{tmp_path / 'a.wav'}: its channels have opposite phases from " in warning
    assert "only the right one" in warning
    first = int(float(warning.split(" from ")[1].split(" s ")[0]) * 16_000)
    assert first <= 16_000
    assert np.array_equal(mono[first:], samples[first:])


@pytest.mark.parametrize("size", [1, 777, 8_000, 100_000])
def test_any_split_gives_the_same_samples(size: int) -> None:
    samples = speech()[:40_000]
    noise = np.random.default_rng(1).normal(0, 0.1, len(samples)).astype(np.float32)
    stereo = np.concatenate([np.stack([samples, -samples], axis=1), np.stack([noise, noise], axis=1)])
    if size == 1:
        stereo = stereo[:9_000]
    results = []
    for step in (size, len(stereo)):
        mixer = MonoMixer("a", 2, 16_000, None, ignore)
        parts = [mixer.feed(stereo[at : at + step]) for at in range(0, len(stereo), step)]
        results.append(np.concatenate([*parts, mixer.flush()]))
    assert np.array_equal(*results)
    if size != 1:
        assert np.array_equal(results[0][-30_000:], noise[-30_000:])


def test_ordinary_stereo_is_mixed() -> None:
    left = speech()
    right = np.roll(left, 12_345)
    warnings: list[str] = []
    mixer = MonoMixer("a", 2, 16_000, None, warnings.append)
    stereo = np.stack([left, right], axis=1)
    assert np.array_equal(np.concatenate([mixer.feed(stereo), mixer.flush()]), stereo.mean(axis=1))
    assert warnings == []


def test_one_channel_is_taken_or_missing() -> None:
    block = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert MonoMixer("a", 3, 16_000, 1, ignore).feed(block).tolist() == [1, 4]
    with pytest.raises(DataError, match=r"a: has no right channel, only 1 channel$"):
        MonoMixer("a", 1, 16_000, 1, ignore)
    assert [channel_label(1, 2), channel_label(0, 1), channel_label(4, 6)] == [
        "right",
        "channel 1",
        "channel 5",
    ]
