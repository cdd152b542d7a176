"""Containers and compressed formats are recognised by their first bytes; samples are not taken for any."""

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

from streamasr.media.signatures import HEAD_BYTES, WaveFormat, detect_container, wave_format

CLIP = next((Path(__file__).parents[1] / "data" / "librispeech").glob("*.flac"))
SPEECH, RATE = soundfile.read(CLIP, dtype="float32", frames=32_000)
EBML = bytes.fromhex("1a45dfa39f4286810142f7810142f2810442f381084282847765626d")
FTYP = bytes.fromhex("0000001c667479704d344120")
ADTS = bytes.fromhex("fff15080027ffc") + bytes(12)


def written(form: str, subtype: str | None = None, endian: str | None = None) -> bytes:
    """The clip in a format of libsndfile."""
    if form == "MP3" and "MP3" not in soundfile.available_formats():
        pytest.skip("this libsndfile cannot write MP3")
    buffer = io.BytesIO()
    soundfile.write(buffer, SPEECH, RATE, format=form, subtype=subtype, endian=endian)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (lambda: written("OGG"), "an Ogg stream"),
        (lambda: written("OGG", "OPUS"), "an Ogg stream"),
        (lambda: written("FLAC"), "a FLAC file"),
        (lambda: written("MP3"), "an MP3"),
        (lambda: b"ID3\x03\0" + bytes(20), "an MP3"),
        (lambda: written("AIFF"), "an AIFF file"),
        (lambda: written("CAF"), "a CAF file"),
        (lambda: written("AU"), "an AU file"),
        (lambda: EBML, "a WebM"),
        (lambda: FTYP, "an MP4"),
        (lambda: ADTS * 3 + b"\xff", "an AAC"),
        (lambda: b"RIFF\0\0\0\0AVI LIST", "a RIFF file that is not WAV"),
        (lambda: b"#!AMR\n", "an AMR file"),
        (lambda: written("WAV", endian="BIG"), "a big-endian WAV"),
        (lambda: written("W64"), "a Wave64 file"),
        (lambda: written("NIST"), "a NIST SPHERE file"),
        (lambda: b"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9", "a Windows Media"),
        (lambda: b"FLV\x01\x05", "a Flash video"),
        (lambda: b"wvpk", "a WavPack"),
        (lambda: b"#EXTM3U\n", "a playlist"),
        (lambda: b"<!DOCTYPE html>", "a web page"),
        (lambda: (b"G" + bytes(187)) * 5, "an MPEG transport stream"),
    ],
)
def test_a_container_is_named(head, name: str) -> None:  # type: ignore[no-untyped-def]
    found = detect_container(head()[:HEAD_BYTES])
    assert found is not None
    assert found.startswith(name)


@pytest.mark.parametrize(
    ("subtype", "encoding", "bits"),
    [
        ("PCM_16", "pcm_s16le", 16),
        ("PCM_24", None, 24),
        ("FLOAT", "pcm_f32le", 32),
        ("ULAW", "mulaw", 8),
        ("ALAW", "alaw", 8),
    ],
)
def test_the_format_of_a_wav_file_is_read(subtype: str, encoding: str | None, bits: int) -> None:
    head = written("WAV", subtype)[:HEAD_BYTES]
    assert detect_container(head) is None
    found = wave_format(head)
    assert found is not None
    assert (found.encoding, found.bits, found.channels, found.sample_rate) == (encoding, bits, 1, RATE)
    assert wave_format(written("WAVEX", subtype)[:HEAD_BYTES]) == found
    assert wave_format(head[:20]) is None


def test_a_wav_format_is_described_in_words() -> None:
    assert (
        str(WaveFormat(None, 24, 2, 44_100)) == "a WAV file of 24 bits a sample at 44100 Hz with 2 channels"
    )
    gsm = wave_format(written("WAV", "GSM610")[:HEAD_BYTES])
    assert str(gsm) == "a WAV file of compressed samples at 16000 Hz with 1 channel"


@pytest.mark.parametrize("dtype", ["<i2", ">i2", "<f4"])
def test_samples_are_no_container(dtype: str) -> None:
    scale = 1 if dtype == "<f4" else 32_767
    data = (SPEECH * scale).astype(dtype).tobytes()
    for at in range(0, 16_000, 4):
        assert detect_container(data[at : at + 2_000]) is None
        assert wave_format(data[at : at + 200]) is None


def test_noise_that_begins_like_mpeg_is_no_container() -> None:
    rng = np.random.default_rng(0)
    for _ in range(2_000):
        noise = rng.bytes(3_000)
        assert detect_container(b"\xff\xfb\x90\0" + noise) is None
        assert detect_container(b"\xff\xf1\x50\x80\x02\x5f\xfc" + noise) is None
