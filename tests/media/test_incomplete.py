"""Test that files that were cut off, or whose headers were never filled in, give the audio that is there."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from streamasr.errors import DataError
from streamasr.media.reader import open_bytes, open_file, read_audio
from streamasr.training.data.audio.header import read_header

CLIP = Path(__file__).parents[1] / "data" / "librispeech" / "2136-5147-0011.flac"
FORMATS = {
    "wav": ("WAV", "PCM_16"),
    "float.wav": ("WAV", "FLOAT"),
    "8.wav": ("WAV", "PCM_U8"),
    "24.wav": ("WAV", "PCM_24"),
    "32.wav": ("WAV", "PCM_32"),
    "alaw.wav": ("WAV", "ALAW"),
    "gsm.wav": ("WAV", "GSM610"),
    "adpcm.wav": ("WAV", "IMA_ADPCM"),
    "ms.wav": ("WAV", "MS_ADPCM"),
    "rifx": ("WAV", "PCM_16"),
    "sph": ("NIST", "PCM_16"),
    "rf64": ("RF64", "PCM_16"),
    "w64": ("W64", "PCM_16"),
    "aiff": ("AIFF", "PCM_16"),
    "au": ("AU", "PCM_16"),
    "caf": ("CAF", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
}


def clip_as(path: Path) -> bytes:
    """Write the clip three times in the format of the name's ending, and return the bytes."""
    samples, rate = soundfile.read(CLIP, dtype="float32")
    ending = path.name.partition(".")[2]
    container, subtype = FORMATS[ending]
    endian = "BIG" if ending == "rifx" else None
    soundfile.write(path, np.tile(samples, 3), rate, format=container, subtype=subtype, endian=endian)
    return path.read_bytes()


def decoded(path: Path) -> tuple[npt.NDArray[np.float32], list[str], float | None]:
    with open_file(path) as reader:
        blocks = [block[:, 0] for block in reader.blocks(4_001)]
        return np.concatenate(blocks), reader.warnings, reader.incomplete_at_s


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize("percent", [30, 50, 70, 95])
def test_a_file_that_was_cut_gives_its_beginning_and_one_warning(
    tmp_path: Path, ending: str, percent: int
) -> None:
    path = tmp_path / f"a.{ending}"
    data = clip_as(path)
    whole, warnings, incomplete = decoded(path)
    assert (warnings, incomplete) == ([], None)
    assert len(whole) == pytest.approx(3 * 76_800, abs=505)  # some formats have blocks
    path.write_bytes(data[: len(data) * percent // 100])
    beginning, warnings, incomplete = decoded(path)
    assert 0 < len(beginning) < len(whole)
    assert len(beginning) > (percent - 25) / 100 * len(whole)  # Ogg is cut at its pages of up to a second
    assert np.array_equal(beginning, whole[: len(beginning)])
    assert incomplete == len(beginning) / 16_000
    (warning,) = warnings
    assert warning.startswith(f"{path}: incomplete: the audio ends at {incomplete:.2f} s")
    header = read_header(path)
    assert (header.frames, header.incomplete) == (len(beginning), warning)
    with pytest.raises(DataError, match="incomplete"):
        read_audio(path, 16_000)


@pytest.mark.parametrize("ending", ["flac", "ogg", "opus", "mp3"])
def test_bytes_in_memory_are_read_alike(tmp_path: Path, ending: str) -> None:
    data = clip_as(tmp_path / f"a.{ending}")
    for cut in (data, data[: len(data) // 2]):
        (tmp_path / f"b.{ending}").write_bytes(cut)
        expected, _, incomplete = decoded(tmp_path / f"b.{ending}")
        with open_bytes(cut, "b") as reader:
            assert np.array_equal(np.concatenate([block[:, 0] for block in reader.blocks()]), expected)
            assert reader.incomplete_at_s == incomplete


def unfilled(data: bytes, kind: str) -> bytes:
    """Return the file as a recorder leaves it that is killed before it writes the length."""
    mended = bytearray(data)
    if kind.startswith("wav"):
        value = {"wav 0": 0, "wav max": 0xFFFFFFFF, "wav half": 0x7FFFFFFF}[kind]
        mended[4:8] = mended[40:44] = value.to_bytes(4, "little")
    elif kind == "rifx":
        mended[4:8] = mended[40:44] = bytes(4)
    elif kind == "rf64":
        at = data.index(b"ds64") + 8
        mended[at : at + 24] = bytes(24)
    elif kind == "w64":
        at = data.index(b"data\xf3\xac") + 16
        mended[at : at + 8] = struct.pack("<Q", 24)
    elif kind == "aiff":
        at = data.index(b"SSND") + 4
        mended[at : at + 4] = mended[22:26] = bytes(4)
    else:
        mended[8:12] = bytes(4)
    return bytes(mended)


@pytest.mark.parametrize("kind", ["wav 0", "wav max", "wav half", "rifx", "rf64", "w64", "aiff", "au"])
def test_a_length_that_was_never_written_is_a_warning(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a.{kind.partition(' ')[0]}"
    data = clip_as(path)
    expected, _, _ = decoded(path)
    path.write_bytes(unfilled(data, kind))
    samples, warnings, incomplete = decoded(path)
    assert np.array_equal(samples, expected)
    assert warnings == [f"{path}: its header gives no length, so it is read to its end"]
    assert incomplete is None
    assert read_header(path).frames == len(expected)


def test_an_empty_wav_file_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(0), 16_000)
    with path.open("ab") as file:
        file.write(b"LIST\x04\x00\x00\x00abcd")
    with open_file(path) as reader:
        assert list(reader.blocks()) == []
        assert (reader.warnings, reader.incomplete_at_s) == ([], None)


@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
def test_mp3_without_a_xing_frame_is_read_to_its_end(tmp_path: Path, mode: str) -> None:
    """libsndfile alone guesses the length from the first frame, here of silence, and stops or runs too far."""
    samples, rate = soundfile.read(CLIP, dtype="float32")
    path = tmp_path / "a.mp3"
    whole = np.concatenate([np.tile(samples, 3), np.zeros(rate * 30, np.float32)])
    soundfile.write(path, whole, rate, format="MP3", bitrate_mode=mode, compression_level=0.5)
    data = path.read_bytes()
    tag = max(data.find(b"Xing"), data.find(b"Info"))
    assert tag > 0
    start = data.index(b"\xff", 1 + data.rindex(b"\xff", 0, tag))
    header = data[data.rindex(b"\xff", 0, tag) :][:4]
    while data[start : start + 2] != header[:2]:
        start = data.index(b"\xff", start + 1)
    path.write_bytes(data[start:])
    found, warnings, incomplete = decoded(path)
    assert (warnings, incomplete) == ([], None)
    assert len(whole) <= len(found) <= len(whole) + 3 * 576 + 1_105
    path.write_bytes(data[start : len(data) // 2 + 50])
    beginning, warnings, incomplete = decoded(path)
    assert np.array_equal(beginning, found[: len(beginning)])
    assert incomplete == len(beginning) / rate


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_sample_that_is_no_number_is_refused_by_its_number(tmp_path: Path, value: float) -> None:
    samples = np.zeros((100_000, 2), dtype=np.float32)
    samples[70_001, 1] = value
    soundfile.write(tmp_path / "a.wav", samples, 16_000, subtype="FLOAT")
    with pytest.raises(DataError, match=r"a\.wav: sample 70001 of channel 2 \(4\.375 s\) is -?(nan|inf); "):
        read_audio(tmp_path / "a.wav", 16_000)


def test_floats_above_full_scale_are_treated_as_by_the_daemon(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "loud.wav", np.full(10, 3.0), 16_000, subtype="FLOAT")
    assert read_audio(tmp_path / "loud.wav", 16_000).tolist() == [1.0] * 10
    soundfile.write(tmp_path / "integers.wav", np.full(10, 20_000.0), 16_000, subtype="FLOAT")
    with pytest.raises(
        DataError, match=r"sample 0 of channel 1 \(0\.000 s\) has the level 20000, full scale is 1"
    ):
        read_audio(tmp_path / "integers.wav", 16_000)


@pytest.mark.parametrize("ending", ["ogg", "opus", "mp3"])
def test_files_that_were_joined_are_read_to_the_end(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    data = clip_as(path)
    once, _, _ = decoded(path)
    tag = b"ID3\x04\0\0\0\x08\0\0" + bytes(1 << 17) if ending == "mp3" else b""  # such as a picture
    path.write_bytes(data + tag + data)
    twice, warnings, incomplete = decoded(path)
    assert (warnings, incomplete) == ([], None)
    added = len(twice) - 2 * len(once)  # the second MP3 has a frame of silence, and its padding
    assert 0 <= added <= 4 * 1_152
    begins = len(twice) - len(once)
    assert np.abs(twice[: len(once) - 3_000] - once[:-3_000]).max() < 0.02
    assert np.abs(twice[begins + 3_000 :] - once[3_000:]).max() < 0.02
    assert read_header(path).frames == len(twice)
    assert len(read_audio(path.read_bytes(), 16_000)) == len(twice)
    path.write_bytes((data + tag + data)[: len(data) + len(tag) + len(data) // 2])
    beginning, _, incomplete = decoded(path)
    assert len(once) < len(beginning) < len(twice)
    assert incomplete == pytest.approx(len(beginning) / 16_000)


def test_a_chained_file_whose_format_changes_is_refused(tmp_path: Path) -> None:
    samples, rate = soundfile.read(CLIP, dtype="float32")
    parts = []
    for number, data in enumerate((samples, np.stack([samples, samples], axis=1))):
        path = tmp_path / f"{number}.ogg"
        soundfile.write(path, data, rate, format="OGG", subtype="VORBIS")
        parts.append(path.read_bytes())
    path.write_bytes(b"".join(parts))
    with pytest.raises(
        DataError, match=r"1\.ogg: the format changes at 4\.80 s, from 16000 Hz with 1 channels to"
    ):
        decoded(path)


def test_the_length_is_found_behind_large_metadata(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    data = clip_as(path)
    tags = b"LIST" + struct.pack("<I", 5 << 20) + b"INFO" + bytes((5 << 20) - 4)
    path.write_bytes(data[:36] + tags + data[36:-10_000])
    beginning, warnings, incomplete = decoded(path)
    assert (len(beginning), incomplete) == (3 * 76_800 - 5_000, len(beginning) / 16_000)
    assert "incomplete" in warnings[0]
    path.write_bytes(data[:36] + tags + data[36:40] + bytes(4) + data[44:])
    whole, warnings, incomplete = decoded(path)
    assert (len(whole), incomplete) == (3 * 76_800, None)
    assert warnings == [f"{path}: its header gives no length, so it is read to its end"]


def test_bytes_behind_the_audio_of_a_wav_file_are_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    data = clip_as(path)
    tag = b"LIST" + struct.pack("<I", 5_000) + bytes(5_000)
    path.write_bytes(data + tag)
    assert decoded(path)[1:] == ([], None), "chunks that belong there"
    too_short = struct.pack("<I", len(data) // 2)
    for content in (data + data, data + data[36:], data[:40] + too_short + data[44:]):
        path.write_bytes(content)
        samples, warnings, incomplete = decoded(path)
        rest = len(content) - 44 - 2 * len(samples)
        assert (warnings, incomplete) == (
            [f"{path}: {rest} bytes after the length that its header gives are not read"],
            None,
        )
        assert read_header(path).frames == len(samples)


@pytest.mark.parametrize("rate", [1, 999, 768_001, 2_000_000_000])
def test_a_sample_rate_that_no_audio_has_is_refused(tmp_path: Path, rate: int) -> None:
    path = tmp_path / "a.wav"
    data = clip_as(path)
    path.write_bytes(data[:24] + struct.pack("<II", rate, 2 * rate) + data[32:])
    with pytest.raises(
        DataError, match=rf"a\.wav: its header states a sample rate of {rate} Hz; audio has 1000 to"
    ):
        decoded(path)
