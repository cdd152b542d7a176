"""Test the decoding of PCM: encodings, channel counts and errors."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamasr.errors import AudioError
from streamasr.frontend.pcm import ENCODINGS, MAX_FLOAT_LEVEL, Encoding, decode_pcm, frame_bytes


def test_s16_full_scale_and_sign() -> None:
    data = np.array([0, 32767, -32768, 16384], dtype="<i2").tobytes()
    assert decode_pcm(data, "pcm_s16le", 1).tolist() == [0.0, 32767 / 32768, -1.0, 0.5]


def test_f32_is_unchanged_and_slight_overshoot_clipped() -> None:
    data = np.array([0.25, -1.5, MAX_FLOAT_LEVEL], dtype="<f4").tobytes()
    assert decode_pcm(data, "pcm_f32le", 1).tolist() == [0.25, -1.0, 1.0]


def test_mulaw_known_codes() -> None:
    # G.711: 0xFF and 0x7F are zero, 0x80 the largest positive value (8031 of 14 bits), 0x00 its negative.
    got = decode_pcm(bytes([0xFF, 0x7F, 0x80, 0x00, 0xFE]), "mulaw", 1) * 32768
    assert got.tolist() == [0, 0, 32124, -32124, 8]


def test_alaw_known_codes() -> None:
    # G.711: 0xD5 and 0x55 are the smallest, 0xAA the largest positive (4032 of 13 bits), 0x2A its negative.
    got = decode_pcm(bytes([0xD5, 0x55, 0xAA, 0x2A]), "alaw", 1) * 32768
    assert got.tolist() == [8, -8, 32256, -32256]


@pytest.mark.parametrize("encoding", ["mulaw", "alaw"])
def test_companding_rises_with_the_code_within_each_sign(encoding: Encoding) -> None:
    values = decode_pcm(bytes(range(256)), encoding, 1)
    assert len(set(np.abs(values))) == 128
    assert np.abs(values).max() < 1.0
    assert sorted(values) == pytest.approx(sorted(-values))


def test_stereo_is_the_mean_of_both() -> None:
    data = np.array([1000, 3000, -200, 200], dtype="<i2").tobytes()
    assert (decode_pcm(data, "pcm_s16le", 2) * 32768).tolist() == [2000.0, 0.0]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_no_bytes_are_no_samples(encoding: Encoding) -> None:
    assert decode_pcm(b"", encoding, 2).shape == (0,)


@pytest.mark.parametrize(
    ("size", "encoding", "channels", "frame"),
    [(3, "pcm_s16le", 1, 2), (6, "pcm_f32le", 2, 8), (1, "alaw", 2, 2)],
)
def test_part_of_a_frame_is_refused_with_the_frame_size(
    size: int, encoding: Encoding, channels: int, frame: int
) -> None:
    with pytest.raises(AudioError, match=f"{size} bytes .* a frame has {frame} bytes"):
        decode_pcm(b"\0" * size, encoding, channels)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_a_number_is_refused_with_its_place(bad: float) -> None:
    data = np.array([0.0, 0.1, bad], dtype="<f4").tobytes()
    with pytest.raises(AudioError, match=r"sample 2 .* finite"):
        decode_pcm(data, "pcm_f32le", 1)


def test_integers_sent_as_floats_are_refused_with_the_remedy() -> None:
    data = np.array([1200.0], dtype="<f4").tobytes()
    with pytest.raises(AudioError, match="divide 16-bit integers by 32768"):
        decode_pcm(data, "pcm_f32le", 1)


@given(st.sampled_from(ENCODINGS), st.sampled_from([1, 2]), st.binary(max_size=64))
def test_any_whole_frames_give_samples_in_range_or_an_audio_error(
    encoding: Encoding, channels: int, data: bytes
) -> None:
    whole = data[: len(data) - len(data) % frame_bytes(encoding, channels)]
    try:
        samples = decode_pcm(whole, encoding, channels)
    except AudioError:
        assert encoding == "pcm_f32le"
        return
    assert samples.dtype == np.float32
    assert len(samples) == len(whole) // frame_bytes(encoding, channels)
    assert np.all(np.abs(samples) <= 1.0)
