"""Reading audio files."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from streamasr.errors import DataError
from streamasr.media import reader as files

RATE = 16_000


def _write(path: Path, rate: int, channels: int, seconds: float = 0.5) -> None:
    tone = np.sin(np.arange(round(rate * seconds)) * (2 * np.pi * 300 / rate)) * 0.5
    soundfile.write(path, np.stack([tone] * channels, axis=1), rate)


@pytest.mark.parametrize(("rate", "channels"), [(16_000, 1), (44_100, 2), (8_000, 1)])
def test_any_rate_and_channel_count_becomes_mono_at_the_models_rate(
    tmp_path: Path, rate: int, channels: int
) -> None:
    _write(tmp_path / "a.wav", rate, channels)
    samples = files.read_audio(tmp_path / "a.wav", RATE)
    assert samples.dtype == np.float32
    assert abs(len(samples) - 0.5 * RATE) <= 1
    expected = np.sin(np.arange(len(samples)) * (2 * np.pi * 300 / RATE)) * 0.5
    assert samples[500:-500] == pytest.approx(expected[500:-500], abs=3e-3)


def test_block_size_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write(tmp_path / "a.flac", 44_100, 2)
    whole = files.read_audio(tmp_path / "a.flac", RATE)
    monkeypatch.setattr(files, "BLOCK_FRAMES", 1000)
    assert np.array_equal(files.read_audio(tmp_path / "a.flac", RATE), whole)


def test_a_file_without_samples_gives_none(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), RATE)
    assert files.read_audio(tmp_path / "empty.wav", RATE).shape == (0,)


def test_missing_and_unreadable_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nothing\.wav: no such file"):
        files.read_audio(tmp_path / "nothing.wav", RATE)
    (tmp_path / "text.wav").write_text("not audio")
    with pytest.raises(DataError, match=r"text\.wav: not an audio file that can be read"):
        files.read_audio(tmp_path / "text.wav", RATE)
