"""Test streams of cameras and stations, RTSP and RTMP, from servers that the tests start."""

from __future__ import annotations

import shutil
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from streamasr.errors import DataError
from streamasr.frontend.pcm import G711_TABLES
from streamasr.media.inputs import parse_input
from streamasr_client.audio import SoundFile

CLIP = Path(__file__).parents[1] / "data" / "librispeech" / "2136-5147-0011.flac"
pytestmark = [
    pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed"),
    pytest.mark.timeout(120),
]
PACKET_SAMPLES = 160
SDP = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=a\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 0 RTP/AVP 0\r\n"


def mulaw(samples: npt.NDArray[np.float64]) -> bytes:
    order = np.argsort(G711_TABLES["mulaw"])
    levels = G711_TABLES["mulaw"][order].astype(np.float64)
    return order[np.searchsorted((levels[1:] + levels[:-1]) / 2, samples)].astype(np.uint8).tobytes()


def serve_rtsp(server: socket.socket, audio: bytes) -> None:
    """Answer one client (RFC 2326) and send it ``audio``, 8 kHz mu-law, through the same connection."""
    client, _ = server.accept()
    with closing(client), client.makefile("rb") as requests:
        while (request := requests.readline()) not in (b"", b"\r\n"):
            head = dict(
                line.decode().strip().split(": ", 1) for line in iter(requests.readline, b"\r\n") if line
            )
            method = request.split()[0].decode()
            reply = [f"RTSP/1.0 200 OK\r\nCSeq: {head['CSeq']}"]
            body = SDP if method == "DESCRIBE" else ""
            reply += {
                "OPTIONS": ["Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN"],
                "DESCRIBE": ["Content-Type: application/sdp", f"Content-Length: {len(body)}"],
                "SETUP": ["Transport: RTP/AVP/TCP;unicast;interleaved=0-1", "Session: 1"],
            }.get(method, ["Session: 1"])
            client.sendall(("\r\n".join(reply) + "\r\n\r\n" + body).encode())
            if method == "PLAY":
                for number, begin in enumerate(range(0, len(audio), PACKET_SAMPLES)):
                    packet = struct.pack(">BBHII", 0x80, 0, number & 0xFFFF, begin, 1)
                    packet += audio[begin : begin + PACKET_SAMPLES]
                    client.sendall(b"$\0" + struct.pack(">H", len(packet)) + packet)
                return


def likeness(found: npt.NDArray[np.float32], expected: npt.NDArray[np.float64]) -> float:
    """The highest correlation of ``found`` with ``expected``, whichever begins first."""
    size = 1 << (len(found) + len(expected)).bit_length()
    products = np.fft.irfft(np.fft.rfft(found, size) * np.conj(np.fft.rfft(expected, size)))
    return float(products.max() / (np.linalg.norm(found) * np.linalg.norm(expected)))


def test_rtsp() -> None:
    samples, _ = soundfile.read(CLIP)
    halved = samples[: len(samples) // 2 * 2].reshape(-1, 2).mean(axis=1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve_rtsp, args=(server, mulaw(halved)))
        thread.start()
        source = parse_input(f"rtsp://user:secret@127.0.0.1:{server.getsockname()[1]}/one")
        file = SoundFile(source)
        assert file.format.sample_rate == 8_000
        found = np.concatenate(list(file.samples(8_000)))
        thread.join()
    assert len(found) == pytest.approx(len(halved), abs=2 * PACKET_SAMPLES)
    assert likeness(found, halved) > 0.99


@contextmanager
def rtmp_station(port: int) -> Iterator[str]:
    url = f"rtmp://127.0.0.1:{port}/live/one"
    command = ["ffmpeg", "-v", "error", "-i", str(CLIP), "-c:a", "aac", "-b:a", "96k"]
    with subprocess.Popen([*command, "-f", "flv", "-listen", "1", url]) as station:
        try:
            yield url
        finally:
            station.terminate()


def test_rtmp() -> None:
    samples, _ = soundfile.read(CLIP)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with rtmp_station(port) as url:
        while True:
            try:
                reader = parse_input(url).open()
                break
            except DataError as error:
                if "refused" not in error.message:  # as it is until the station listens
                    raise
        with reader:
            found = np.concatenate(list(reader.mono_blocks(16_000)))
    assert len(found) / 16_000 == pytest.approx(4.8, abs=0.2)
    assert likeness(found, samples) > 0.95
