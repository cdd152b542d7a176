"""Test files that are unusual or wrong in other ways than their length."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from streamasr.errors import DataError
from streamasr.media.inputs import parse_input
from streamasr.media.reader import BLOCK_FRAMES, open_bytes, open_file, read_audio
from streamasr.training.data.audio.header import read_header

CLIP = Path(__file__).parents[1] / "data" / "librispeech" / "2136-5147-0011.flac"
FORMAT = b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, 16_000, 32_000, 2, 16)
SAMPLES = np.arange(-700, 700, dtype="<i2")
DATA = b"data" + struct.pack("<I", SAMPLES.nbytes) + SAMPLES.tobytes()


def wav(*chunks: bytes) -> bytes:
    body = b"WAVE" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


@pytest.mark.parametrize(
    ("container", "subtype"),
    [("WAV", "GSM610"), ("AU", "G721_32"), ("XI", "DPCM_16")],
)
def test_formats_in_which_nothing_can_be_sought(tmp_path: Path, container: str, subtype: str) -> None:
    """GSM 6.10 in WAV is what telephone systems record."""
    samples, rate = soundfile.read(CLIP, dtype="float32")
    path = tmp_path / "a.wav"
    soundfile.write(path, samples, rate, format=container, subtype=subtype)
    with open_file(path) as reader:
        found = np.concatenate(list(reader.blocks(4_001)))[: len(samples), 0]
        assert (reader.warnings, reader.incomplete_at_s) == ([], None)
    assert len(found) == len(samples)
    assert np.corrcoef(found, samples)[0, 1] > 0.95
    assert read_header(path).frames == pytest.approx(len(samples), abs=320)


@pytest.mark.parametrize("stated", [0, 1, 76_799, 76_801, (1 << 36) - 1])
def test_a_flac_file_that_states_a_wrong_number_of_samples(tmp_path: Path, stated: int) -> None:
    expected = read_audio(CLIP, 16_000)
    data = bytearray(CLIP.read_bytes())
    data[21:26] = (int.from_bytes(data[21:26], "big") >> 36 << 36 | stated).to_bytes(5, "big")
    path = tmp_path / "a.flac"
    path.write_bytes(data)
    for reader in (open_file(path), open_bytes(bytes(data), str(path))):
        with reader:
            found = np.concatenate(list(reader.blocks()))[:, 0]
            assert np.array_equal(found, expected)
            assert (reader.incomplete_at_s is not None) == (stated > 76_800)
            if 0 < stated < 76_800:
                states = f"its header states {stated} samples, but it has 76800, which are read"
                assert reader.warnings == [f"{path}: {states}"]
    assert read_header(path).frames == 76_800


def test_the_content_of_a_file_counts_not_its_name(tmp_path: Path) -> None:
    path = tmp_path / "a.raw"
    path.write_bytes(wav(FORMAT, DATA))
    assert np.array_equal(read_audio(path, 16_000) * 32_768, SAMPLES)
    assert read_header(path).frames == len(SAMPLES)
    path.write_bytes(SAMPLES.tobytes())
    with pytest.raises(DataError, match=r"a\.raw: not an audio file that can be read"):
        open_file(path)


@pytest.mark.parametrize(
    "chunks",
    [
        (b"LIST\x05\0\0\0abcde\0", FORMAT, DATA),
        (FORMAT, b"bext\0\0\0\0", DATA),
        (FORMAT, DATA, b"LIST\x05\0\0\0abcde\0"),
        (FORMAT, DATA, b"LIST\x05\0\0\0abcde"),
        (FORMAT, DATA, b"\0"),
    ],
)
def test_chunks_of_odd_sizes_are_passed_over(tmp_path: Path, chunks: tuple[bytes, ...]) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(wav(*chunks))
    with open_file(path) as reader:
        assert np.array_equal(np.concatenate(list(reader.blocks()))[:, 0] * 32_768, SAMPLES)
        assert (reader.warnings, reader.incomplete_at_s) == ([], None)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"\xff", "not an audio file"),
        (b"\xff\xfb\x90\0", "not an audio file"),
        (b"ID3\x04\0\0\0\0\x10\0" + bytes(2_048), r"not an audio file that can be read \(no audio in it\)"),
        (b"OggS", "not an audio file"),
        (b"fLaC", "not an audio file"),
        (b"RIFF", "not an audio file"),
        (b"RIFF\0\0\0\0WAVE", "not an audio file"),
        (b"NIST_1A\n", "not an audio file"),
        (b"NIST_1A\n   1024\nsample_count -i 99999999999999999999\n", "not an audio file"),
        (wav(DATA), "not an audio file"),
        (wav(b"fmt " + struct.pack("<IHHIIHH", 16, 1, 0, 16_000, 0, 0, 16), DATA), "not an audio file"),
        (b"hello\n", "not an audio file"),
    ],
)
def test_what_has_no_audio_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, reason: str
) -> None:
    monkeypatch.setenv("PATH", "")  # ffmpeg has other reasons
    path = tmp_path / "-a.mp3"
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"-a\.mp3: {reason}"):
        open_file(path)


@pytest.mark.parametrize("container", ["WAV", "RF64", "W64", "AIFF", "AU", "CAF", "OGG"])
def test_files_without_samples_are_empty_and_complete(tmp_path: Path, container: str) -> None:
    path = tmp_path / "a.bin"
    soundfile.write(path, np.zeros(0), 16_000, format=container)
    assert len(read_audio(path, 16_000)) == 0
    assert read_header(path).frames == 0


def test_six_channels_of_which_one_speaks(tmp_path: Path) -> None:
    samples, rate = soundfile.read(CLIP, dtype="float32")
    six = np.zeros((len(samples), 6), dtype=np.float32)
    six[:, 2] = samples
    soundfile.write(tmp_path / "a.wav", six, rate, subtype="FLOAT")
    assert np.allclose(read_audio(tmp_path / "a.wav", rate), samples / 6, atol=1e-7)
    with open_file(tmp_path / "a.wav") as reader:
        parts = [np.concatenate(part) for part in zip(*reader.channel_blocks(rate), strict=True)]
    assert [bool(np.any(part)) for part in parts] == [False, False, True, False, False, False]
    assert np.array_equal(parts[2], samples)


def test_a_thousand_channels_take_no_more_memory_than_eight(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.ones((1_100, 1_024), np.int16), 16_000)
    with open_file(tmp_path / "a.wav") as reader:
        sizes = [block.size for block in reader.blocks()]
    assert sum(sizes) == 1_100 * 1_024
    assert max(sizes) <= BLOCK_FRAMES * 8


@pytest.mark.parametrize("name", ["a\0b.wav", "\ud800.wav"])
def test_what_cannot_be_the_name_of_a_file_is_no_traceback(name: str) -> None:
    with pytest.raises(DataError, match="not the name of a file"):
        open_file(Path(name))
    with pytest.raises(DataError, match="not the name of a file"):
        parse_input(name)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read: Is a directory"):
        open_file(tmp_path)
