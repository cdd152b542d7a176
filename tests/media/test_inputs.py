"""Test pipes, raw audio, ffmpeg and URLs."""

from __future__ import annotations

import contextlib
import http.server
import os
import re
import shutil
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from streamasr.errors import DataError
from streamasr.media.ffmpeg import MAX_LOG_BYTES, FfmpegDecoder
from streamasr.media.inputs import AudioInput, parse_input, stored
from streamasr.media.pcm import RAW_ENCODINGS, RawEncoding, RawFormat, decode_raw
from streamasr.media.reader import open_file

CLIP = Path(__file__).parents[1] / "data" / "librispeech" / "2136-5147-0011.flac"
needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")


def samples_of(source: AudioInput) -> npt.NDArray[np.float32]:
    with source.open() as reader:
        return np.concatenate(list(reader.blocks()))


def fake_ffmpeg(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    program = folder / "bin" / "ffmpeg"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")


@pytest.mark.parametrize("encoding", RAW_ENCODINGS)
def test_raw_encodings(encoding: RawEncoding, tmp_path: Path) -> None:
    """Compared with libsndfile, which writes the same encodings without a header."""
    tone = np.sin(np.arange(400) / 7).reshape(-1, 2) * 0.7
    names = {"pcm_u8": "PCM_U8", "pcm_s8": "PCM_S8", "mulaw": "ULAW", "alaw": "ALAW"}
    depth = {"s16": "PCM_16", "s24": "PCM_24", "s32": "PCM_32", "f32": "FLOAT", "f64": "DOUBLE"}
    subtype = names.get(encoding) or depth[encoding[4:7]]
    endian = "BIG" if encoding.endswith("be") else "LITTLE"
    path = tmp_path / "a.raw"
    soundfile.write(path, tone, 8_000, format="RAW", subtype=subtype, endian=endian)
    expected, _ = soundfile.read(
        path, channels=2, samplerate=8_000, format="RAW", subtype=subtype, endian=endian, dtype="float32"
    )
    raw = RawFormat(8_000, encoding, 2)
    assert np.allclose(decode_raw(path.read_bytes(), raw), expected, atol=1e-6)
    with open_file(path, raw=raw) as reader:
        assert (reader.sample_rate, reader.channels, reader.frames) == (8_000, 2, 200)
        assert np.allclose(np.concatenate(list(reader.blocks(33))), expected, atol=1e-6)


@pytest.mark.parametrize("live", [True, False])
def test_a_pipe_sends_wav_of_unknown_length(tmp_path: Path, live: bool) -> None:
    samples, rate = soundfile.read(CLIP, dtype="int16")
    soundfile.write(tmp_path / "a.wav", samples, rate)
    data = bytearray((tmp_path / "a.wav").read_bytes())
    data[4:8] = data[40:44] = b"\xff" * 4
    fifo = tmp_path / "pipe"
    os.mkfifo(fifo)
    writer = threading.Thread(target=fifo.write_bytes, args=(bytes(data),))
    writer.start()
    source = parse_input(str(fifo))
    assert source.is_pipe
    if live:
        found = samples_of(source)
    else:
        with stored(source) as copy:
            assert np.array_equal(samples_of(copy), samples_of(copy))
            found = samples_of(copy)
    writer.join()
    assert np.array_equal(found[:, 0] * 32_768, samples)


@contextlib.contextmanager
def piped(folder: Path, data: bytes) -> Iterator[AudioInput]:
    """A pipe through which ``data`` comes."""
    fifo = folder / "pipe"
    os.mkfifo(fifo)

    def write() -> None:
        with contextlib.suppress(BrokenPipeError):  # what nobody reads
            fifo.write_bytes(data)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield parse_input(str(fifo))
    finally:
        writer.join()
        fifo.unlink()


@pytest.mark.parametrize("rate", [8_000, 16_000])
def test_a_pipe_ends_where_its_header_says(tmp_path: Path, rate: int) -> None:
    samples, _ = soundfile.read(CLIP, dtype="int16")
    soundfile.write(tmp_path / "a.wav", samples, rate)
    data = (tmp_path / "a.wav").read_bytes()
    metadata = b"LIST" + (4_000).to_bytes(4, "little") + b"INFO" + b"\x7f" * 3_996
    joined = f"{tmp_path / 'pipe'}: what comes after the length that its header gives is not read"
    for behind, warnings in ((metadata, []), (data, [joined])):
        with piped(tmp_path, data + behind) as source, source.open() as reader:
            found = np.concatenate(list(reader.blocks()))
            assert np.array_equal(found[:, 0] * 32_768, samples)
            assert (reader.frames, reader.incomplete_at_s) == (len(samples), None)
            assert reader.warnings == warnings
    with piped(tmp_path, data[:-10_001]) as source, source.open() as reader:
        found = np.concatenate(list(reader.blocks()))
        assert np.array_equal(found[:, 0] * 32_768, samples[:-5_001])
        assert reader.incomplete_at_s == (len(samples) - 5_001) / rate
        assert reader.warnings[-1].endswith(f"of {len(samples) / rate:.2f} s")


@pytest.mark.parametrize(("channels", "rate"), [(0, 16_000), (65, 16_000), (1, 0), (1, 4_000_000_000)])
def test_a_pipe_with_an_impossible_header_is_refused_by_name(
    tmp_path: Path, channels: int, rate: int
) -> None:
    header = b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0" + struct.pack("<HHIIHH", 1, channels, rate, 0, 2, 16)
    with (
        piped(tmp_path, header + b"data\0\0\0\0") as source,
        pytest.raises(DataError, match=r"pipe: a damaged WAV header: (raw audio must have|the rate of raw)"),
    ):
        source.open()


def test_a_live_pipe_of_another_format_is_refused(tmp_path: Path) -> None:
    fifo = tmp_path / "pipe"
    os.mkfifo(fifo)
    writer = threading.Thread(target=fifo.write_bytes, args=(CLIP.read_bytes()[:1_000],))
    writer.start()
    with pytest.raises(DataError, match=r"pipe: not a WAV stream; for raw audio give --rate"):
        parse_input(str(fifo)).open()
    writer.join()


def test_without_ffmpeg_the_command_that_converts_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    path = tmp_path / "my talk.m4a"
    path.write_bytes(b"\x00\x00\x00\x20ftypM4A ")
    with pytest.raises(
        DataError,
        match=r"needs ffmpeg, which is not installed; .*: ffmpeg -i '.*my talk\.m4a' 'my talk\.wav'$",
    ):
        open_file(path)
    with pytest.raises(DataError, match=r"http://host/a\.m3u8: a URL needs ffmpeg, which is not installed"):
        parse_input("http://host/a.m3u8").open()


def test_urls_that_are_read(tmp_path: Path) -> None:
    source = parse_input("rtsp://user:secret@camera:554/one.sdp")
    assert (source.is_url, source.name, source.stem) == (True, "rtsp://camera:554/one.sdp", "one")
    assert parse_input((tmp_path / "a b.wav").as_uri()).path == tmp_path / "a b.wav"
    with pytest.raises(
        DataError, match="gopher are not read, only http, https, rtsp, rtsps, rtmp, rtmps, file"
    ):
        parse_input("gopher://host/a")


def test_ffmpeg_is_run_and_its_error_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    soundfile.write(tmp_path / "out.wav", np.full(1_000, 0.25), 8_000, subtype="FLOAT")
    fake_ffmpeg(tmp_path, monkeypatch, f'echo "$@" > {tmp_path}/args; cat {tmp_path}/out.wav')
    found = samples_of(parse_input("https://host/live.m3u8"))
    assert found.tolist() == [[0.25]] * 1_000
    arguments = (tmp_path / "args").read_text()
    assert "-i https://host/live.m3u8" in arguments
    assert "file" not in arguments.partition("-protocol_whitelist ")[2].split()[0].split(",")
    fake_error = 'echo "[tcp @ 0x1] [error] Connection refused" >&2; exit 1'
    (tmp_path / "bin" / "ffmpeg").write_text(f"#!/bin/sh\n{fake_error}\n")
    with pytest.raises(DataError, match=r"^rtmp://host/x: ffmpeg cannot read it: Connection refused$"):
        parse_input("rtmp://host/x").open()


def test_a_url_that_breaks_off_is_incomplete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    soundfile.write(tmp_path / "out.wav", np.zeros(4_000), 8_000, subtype="FLOAT")
    fake_ffmpeg(tmp_path, monkeypatch, f'cat {tmp_path}/out.wav; echo "[error] Broken pipe" >&2; exit 1')
    source = parse_input("http://host/a")
    with stored(source) as copy:
        for each in (source, copy, copy):
            with each.open() as reader:
                assert sum(len(block) for block in reader.blocks()) == 4_000
                assert reader.incomplete_at_s == 0.5
                assert reader.warnings == [
                    "http://host/a: ffmpeg: Broken pipe",
                    "http://host/a: incomplete: the audio ends at 0.50 s",
                ]


def test_a_url_that_stalls_in_the_middle_is_incomplete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    soundfile.write(tmp_path / "out.wav", np.zeros(4_000), 8_000, subtype="PCM_16")
    fake_ffmpeg(tmp_path, monkeypatch, f"head -c 4044 {tmp_path}/out.wav; exec sleep 60")
    with parse_input("http://host/a", read_timeout_s=0.5).open() as reader:
        assert sum(len(block) for block in reader.blocks()) == 2_000
        assert list(reader.blocks()) == []
        assert reader.incomplete_at_s == 0.25
        assert reader.warnings == [
            "http://host/a: sent nothing for 0.5 s and was given up",
            "http://host/a: incomplete: the audio ends at 0.25 s",
        ]


@pytest.mark.parametrize("kind", ["pipe", "url"])
def test_a_full_disk_while_a_live_input_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    soundfile.write(tmp_path / "out.wav", np.zeros(200_000), 8_000, subtype="FLOAT")
    fake_ffmpeg(tmp_path, monkeypatch, f"cat {tmp_path}/out.wav")
    code = (
        "import resource, sys\n"
        "from streamasr.errors import DataError\n"
        "from streamasr.media.inputs import parse_input, stored\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "try:\n"
        "    with stored(parse_input(sys.argv[1])): pass\n"
        "except DataError as error: sys.exit(error.message)\n"
    )
    source = "-" if kind == "pipe" else "http://host/a"
    done = subprocess.run(
        [sys.executable, "-c", code, source],
        input=bytes(1_000_000), capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert re.fullmatch(rb"(standard input|http://host/a): cannot be kept in [^\n]+\n", done.stderr)


def test_ffmpegs_messages_do_not_fill_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    soundfile.write(tmp_path / "out.wav", np.zeros(8_000), 16_000, subtype="FLOAT")
    wav = tmp_path / "out.wav"
    lines = f"yes '[error] Invalid data' | head -c {5 * MAX_LOG_BYTES} >&2"
    fake_ffmpeg(tmp_path, monkeypatch, f"head -c 2000 {wav}; {lines}; tail -c +2001 {wav}")
    decoder = FfmpegDecoder("http://host/a", str(tmp_path / "bin" / "ffmpeg"), "http://host/a")
    try:
        frames = 0
        while block_frames := len(decoder.read(1_000)):
            frames += block_frames
        assert frames == 8_000
        assert os.fstat(decoder._log.fileno()).st_size == MAX_LOG_BYTES
    finally:
        decoder.close()


def test_a_url_that_sends_nothing_is_given_up_and_ffmpeg_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_ffmpeg(tmp_path, monkeypatch, f"echo $$ > {tmp_path}/pid; exec sleep 60")
    with pytest.raises(DataError, match=r"http://host/a: sent nothing for 0\.5 s and was given up"):
        parse_input("http://host/a", read_timeout_s=0.5).open()
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


@pytest.mark.parametrize("codec", [b"\x80theora", b"\x7fFLAC", b"Speex   "])
def test_an_ogg_file_of_another_codec_needs_ffmpeg(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, codec: bytes
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    path = tmp_path / "a.ogg"
    path.write_bytes(b"OggS\0\x02" + bytes(8) + b"abcd" + bytes(8) + b"\x01\x40" + codec.ljust(64, b"\0"))
    with pytest.raises(DataError, match=r"a\.ogg: Ogg with video, FLAC or Speex needs ffmpeg"):
        open_file(path)


@needs_ffmpeg
@pytest.mark.parametrize("ending", ["m4a", "aac", "mp4", "mkv", "webm"])
def test_video_and_aac_are_read_through_ffmpeg(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    subprocess.run(["ffmpeg", "-v", "error", "-i", CLIP, path], check=True)
    with open_file(path) as reader:
        frames = sum(len(block) for block in reader.blocks())
        assert frames / reader.sample_rate == pytest.approx(4.8, abs=0.1)
        assert (reader.warnings, reader.incomplete_at_s) == ([], None)


@needs_ffmpeg
def test_a_video_without_sound_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    picture = ["-f", "lavfi", "-i", "testsrc=duration=1:size=64x48"]
    subprocess.run(["ffmpeg", "-v", "error", *picture, path], check=True)
    with pytest.raises(DataError, match=r"a\.mkv: ffmpeg cannot read it: it has no audio track"):
        open_file(path)


@needs_ffmpeg
@pytest.mark.parametrize("ending", ["mkv", "avi", "oga", "wv"])
def test_a_video_that_was_cut_is_incomplete(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    codec = ["-c:a", "flac"] if ending == "oga" else []
    subprocess.run(["ffmpeg", "-v", "error", "-i", CLIP, *codec, path], check=True)
    with open_file(path) as reader:
        assert sum(len(block) for block in reader.blocks()) / reader.sample_rate >= 4.8
        assert reader.incomplete_at_s is None
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with open_file(path) as reader:
        frames = sum(len(block) for block in reader.blocks())
        assert reader.incomplete_at_s == frames / reader.sample_rate
        assert 1.5 < reader.incomplete_at_s < 3


@needs_ffmpeg
def test_hls_from_a_web_server(tmp_path: Path) -> None:
    subprocess.run(
        ["ffmpeg", "-v", "error", "-i", CLIP, "-f", "hls", "-hls_time", "2", tmp_path / "a.m3u8"], check=True
    )
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            source = parse_input(f"http://127.0.0.1:{server.server_address[1]}/a.m3u8")
            found = samples_of(source)
        finally:
            server.shutdown()
    assert len(found) / 16_000 == pytest.approx(4.8, abs=0.2)
