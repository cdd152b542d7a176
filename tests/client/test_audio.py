"""Test audio files and levels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from streamasr.errors import DataError
from streamasr.media.reader import SESSION_RATES
from streamasr.protocol.audio import AudioFormat
from streamasr.protocol.limits import DEFAULT_LIMITS
from streamasr.protocol.messages import Start
from streamasr.recognition.options import resolve_options
from streamasr.recognition.pcm_reader import PcmReader
from streamasr_client.audio import CATCH_UP_S, SILENCE_DBFS, PacedFile, SoundFile, level_dbfs
from tests.recognition.tiny import tiny_model


def write(path: Path, samples: npt.NDArray[Any], rate: int = 16_000, subtype: str = "PCM_16") -> Path:
    soundfile.write(path, samples, rate, subtype=subtype)
    return path


def test_sixteen_bit_files_are_sent_unchanged(tmp_path: Path) -> None:
    samples = np.random.default_rng(1).integers(-32_768, 32_767, (1_234, 2), dtype=np.int16)
    stereo = write(tmp_path / "stereo.wav", samples, 22_050)
    mono = write(tmp_path / "mono.wav", samples[:, 1], 22_050)
    for file in (SoundFile(mono), SoundFile(stereo, channel=1)):
        assert file.format == AudioFormat(22_050, 1, "pcm_s16le")
        assert file.duration_ms == 56
        blocks = list(file.blocks(20))
        assert len(blocks[0]) == 441 * 2
        assert np.array_equal(np.frombuffer(b"".join(blocks), "<i2"), samples[:, 1])


def test_two_channels_are_mixed_exactly(tmp_path: Path) -> None:
    samples = np.random.default_rng(1).integers(-32_768, 32_767, (1_234, 2), dtype=np.int16)
    file = SoundFile(write(tmp_path / "a.wav", samples, 22_050))
    assert file.format == AudioFormat(22_050, 1, "pcm_f32le")
    assert np.array_equal(np.frombuffer(b"".join(file.blocks()), "<f4"), samples.mean(axis=1) / 32_768)


@pytest.mark.parametrize("rate", [6_000, 88_200, 96_000, 192_000])
def test_rates_outside_the_protocol_are_resampled(tmp_path: Path, rate: int) -> None:
    tone = np.sin(np.arange(rate) * (2 * np.pi * 440 / rate)) / 2
    file = SoundFile(write(tmp_path / "a.wav", tone, rate))
    assert file.format == AudioFormat(16_000, 1, "pcm_f32le")
    sent = np.frombuffer(b"".join(file.blocks()), "<f4")
    assert abs(len(sent) - 16_000) <= 1
    expected = np.sin(np.arange(len(sent)) * (2 * np.pi * 440 / 16_000)) / 2
    assert sent[500:-500] == pytest.approx(expected[500:-500], abs=3e-3)
    assert np.array_equal(sent, np.concatenate(list(file.samples(16_000))))


@pytest.mark.parametrize("rate", [6_000, 44_100, 96_000])
def test_loud_audio_is_the_same_for_a_session_and_locally(tmp_path: Path, rate: int) -> None:
    """A resampler overshoots full scale; a session clips what it gets, before it resamples itself."""
    noise = np.sign(np.random.default_rng(1).normal(size=2 * rate))
    path = write(tmp_path / "a.wav", noise, rate)
    sent = SoundFile(path)
    options = resolve_options(
        Start(sample_rate=sent.format.sample_rate, encoding=sent.format.encoding), tiny_model()
    )
    reader = PcmReader(options, 16_000)
    received = np.concatenate([*(reader.feed(block) for block in sent.blocks(500)), reader.flush()])
    assert np.abs(received).max() > 0.9
    assert np.array_equal(received, np.concatenate(list(SoundFile(path).samples(16_000))))
    assert (
        range(int(DEFAULT_LIMITS.sample_rate.low), int(DEFAULT_LIMITS.sample_rate.high) + 1) == SESSION_RATES
    )


def test_files_with_more_bits_are_sent_as_floats(tmp_path: Path) -> None:
    samples = np.random.default_rng(1).uniform(-1, 1, 500).astype(np.float32)
    file = SoundFile(write(tmp_path / "a.wav", samples, subtype="FLOAT"))
    assert file.format.encoding == "pcm_f32le"
    assert np.array_equal(np.frombuffer(b"".join(file.blocks()), "<f4"), samples)


def test_many_channels_are_mixed_down_exactly(tmp_path: Path) -> None:
    samples = np.zeros((100, 6), dtype=np.int16)
    samples[:, 0] = 16_384
    file = SoundFile(write(tmp_path / "a.wav", samples))
    assert file.format == AudioFormat(16_000, 1, "pcm_f32le")
    assert np.allclose(np.frombuffer(b"".join(file.blocks()), "<f4"), 0.5 / 6)


def test_missing_and_unreadable_files_are_reported(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.wav: no such file"):
        SoundFile(tmp_path / "gone.wav")
    text = tmp_path / "notes.txt"
    text.write_text("hello")
    with pytest.raises(DataError, match=r"notes\.txt: not an audio file that can be read .*WAV, FLAC"):
        SoundFile(text)


async def test_a_paced_file_plays_in_real_time_and_stops(tmp_path: Path) -> None:
    now = 100.0

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    source = PacedFile(write(tmp_path / "a.wav", np.zeros(16_000)), clock=lambda: now, sleep=sleep)
    blocks = []
    async for block in source:
        blocks.append((round(now - 100, 3), len(block)))
        now += 0.02  # a slow consumer does not delay later blocks
        if len(blocks) == 10:
            source.stop()
    assert blocks == [(round(0.05 * (index + 1), 3), 1_600) for index in range(10)]


async def test_a_source_that_paused_does_not_send_all_at_once(tmp_path: Path) -> None:
    now = 100.0

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    source = PacedFile(write(tmp_path / "a.wav", np.zeros(12 * 16_000)), clock=lambda: now, sleep=sleep)
    times = []
    async for _ in source:
        times.append(now)
        if len(times) == 20:
            now += 60.0  # the source pauses
    at_once = sum(time == times[20] for time in times[20:])
    assert at_once * 0.05 == pytest.approx(CATCH_UP_S, abs=0.051)
    assert times[-1] == pytest.approx(100 + 12 + 60 - CATCH_UP_S, abs=0.051)


@pytest.mark.parametrize(
    ("samples", "expected"),
    [([32_767, -32_767], 0.0), ([3_277, -3_277], -20.0), ([0, 0], SILENCE_DBFS), ([], SILENCE_DBFS)],
)
def test_level_dbfs(samples: list[int], expected: float) -> None:
    pcm = np.array(samples, "<i2")
    assert level_dbfs(pcm.tobytes(), "pcm_s16le") == pytest.approx(expected, abs=0.01)
    assert level_dbfs((pcm / 32_768).astype("<f4").tobytes(), "pcm_f32le") == pytest.approx(
        expected, abs=0.01
    )
