"""Recognise the container or compressed format that bytes begin with, where raw samples were expected."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from streamasr.frontend.pcm import Encoding
from streamasr.media.mpeg import frame_bytes

HEAD_BYTES = 8_192
"""How many of the first bytes are worth looking at: three of the longest MPEG frames fit."""

_WAVE_MAGICS = (b"RIFF", b"RF64", b"BW64")
_TS_PACKET_BYTES, _TS_PACKETS = 188, 5
"""Each packet of an MPEG transport stream begins with the letter G (ISO 13818-1); this many are looked at."""

_WAVE_ENCODINGS: dict[tuple[int, int], Encoding] = {
    (1, 16): "pcm_s16le",
    (3, 32): "pcm_f32le",
    (6, 8): "alaw",
    (7, 8): "mulaw",
}
"""A WAV file's format tag and bits per sample to the encoding that has the same samples."""


@dataclass(frozen=True, slots=True)
class WaveFormat:
    """The format that the header of a WAV file states; ``encoding`` is ``None`` if no session can have it."""

    encoding: Encoding | None
    bits: int
    channels: int
    sample_rate: int

    def __str__(self) -> str:
        channels = "1 channel" if self.channels == 1 else f"{self.channels} channels"
        samples = self.encoding or (f"{self.bits} bits a sample" if self.bits >= 8 else "compressed samples")
        return f"a WAV file of {samples} at {self.sample_rate} Hz with {channels}"


def detect_container(head: bytes) -> str | None:
    """Return what ``head`` is the beginning of, as words for a message; ``None`` if nothing is recognised.

    A WAV file is reported by :func:`wave_format` instead. Samples are taken for a container by chance about once
    in 2³² sessions at most: the shortest signature has 32 bits, and MPEG audio needs three consecutive frames.

    Args:
        head: the first bytes; up to :data:`HEAD_BYTES` of them matter.
    """
    for signature, name in _SIGNATURES:
        if head.startswith(signature):
            return name
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return "an AIFF file"
    if head[:4] in _WAVE_MAGICS and len(head) >= 12 and head[8:12] != b"WAVE":
        return "a RIFF file that is not WAV"
    if head[: _TS_PACKETS * _TS_PACKET_BYTES : _TS_PACKET_BYTES] == b"G" * _TS_PACKETS:
        return "an MPEG transport stream"
    if head[4:8] == b"ftyp":
        return "an MP4 file (m4a, mov)"
    if _is_mp3(head):
        return "an MP3 stream"
    return "an AAC stream (ADTS)" if _is_adts(head) else None


def wave_format(head: bytes) -> WaveFormat | None:
    """Return the format of the WAV file that ``head`` is the beginning of; ``None`` if it is none, or too short."""
    if head[:4] not in _WAVE_MAGICS or head[8:12] != b"WAVE":
        return None
    at = 12
    while at + 8 <= len(head):
        name, size = head[at : at + 4], int.from_bytes(head[at + 4 : at + 8], "little")
        if name == b"fmt " and at + 24 <= len(head):
            tag, channels, sample_rate, _, _, bits = struct.unpack_from("<HHIIHH", head, at + 8)
            if tag == 0xFFFE and at + 34 <= len(head):  # extensible: the tag begins the sub-format's GUID
                tag = int.from_bytes(head[at + 32 : at + 34], "little")
            return WaveFormat(_WAVE_ENCODINGS.get((tag, bits)), bits, channels, sample_rate)
        at += 8 + size + size % 2
    return None


_SIGNATURES = (
    (b"OggS", "an Ogg stream (Opus, Vorbis)"),
    (b"\x1a\x45\xdf\xa3", "a WebM or Matroska stream, as MediaRecorder makes it"),
    (b"fLaC", "a FLAC file"),
    (b"ID3\x02\0", "an MP3 file (ID3)"),
    (b"ID3\x03\0", "an MP3 file (ID3)"),
    (b"ID3\x04\0", "an MP3 file (ID3)"),
    (b"caff\0\x01", "a CAF file"),
    (b"RIFX", "a big-endian WAV file (RIFX)"),
    (b"riff\x2e\x91\xcf\x11", "a Wave64 file"),
    (b"NIST_1A\n", "a NIST SPHERE file"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "a Windows Media file (ASF)"),
    (b"FLV\x01", "a Flash video"),
    (b"wvpk", "a WavPack file"),
    (b"#EXTM3U", "a playlist (M3U, HLS)"),
    (b"<!DOCTYPE", "a web page"),
    (b"<!doctype", "a web page"),
    (b"<html", "a web page"),
    (b".snd\0\0", "an AU file"),
    (b"#!AMR", "an AMR file"),
)


def _is_mp3(head: bytes) -> bool:
    """Whether three consecutive MPEG audio frames of layer III begin here, all of one version and rate."""
    at, first = 0, b""
    for _ in range(3):
        header = head[at : at + 4]
        length = frame_bytes(header)
        if not length or (first and (header[1] != first[1] or header[2] & 0x0C != first[2] & 0x0C)):
            return False
        first, at = first or header, at + length
    return True


def _is_adts(head: bytes) -> bool:
    """Whether three consecutive ADTS frames begin here (ISO 13818-7)."""
    at, first = 0, b""
    for _ in range(3):
        header = head[at : at + 7]
        if len(header) < 7 or header[0] != 0xFF or header[1] & 0xF6 != 0xF0:
            return False
        length = (header[3] & 0x03) << 11 | header[4] << 3 | header[5] >> 5
        if length < 7 or (first and header[1:3] != first[1:3]):
            return False
        first, at = first or header, at + length
    return True
