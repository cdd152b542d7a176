"""Decode PCM bytes into float32 mono samples.

Shape suffix: S samples.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from streamasr.errors import AudioError

Encoding = Literal["pcm_s16le", "pcm_f32le", "mulaw", "alaw"]
ENCODINGS: tuple[Encoding, ...] = get_args(Encoding)
"""The encodings that :func:`decode_pcm` supports."""

CHANNELS = (1, 2)
"""Supported numbers of channels; two are mixed down to their mean."""

MAX_FLOAT_LEVEL = 16.0
"""Float samples up to this level are clipped to ±1; larger ones are refused as integers sent as floats."""

Samples = NDArray[np.float32]
"""Mono samples in -1..1."""

_S16_SCALE = 1 / 32_768
_WIDTH: dict[Encoding, int] = {"pcm_s16le": 2, "pcm_f32le": 4, "mulaw": 1, "alaw": 1}


def _mulaw_table() -> Samples:
    """ITU-T G.711 mu-law: inverted bits, sign, 3-bit segment, 4-bit step, bias 33; 14 bits scaled to 16."""
    code = ~np.arange(256, dtype=np.int32) & 0xFF
    segment, step = (code >> 4) & 0x07, code & 0x0F
    magnitude = ((((step << 1) + 33) << segment) - 33) << 2
    return (np.where(code & 0x80, -magnitude, magnitude) * _S16_SCALE).astype(np.float32)


def _alaw_table() -> Samples:
    """ITU-T G.711 A-law: even bits inverted, sign, 3-bit segment, 4-bit step; 13-bit values scaled to 16."""
    code = np.arange(256, dtype=np.int32) ^ 0x55
    segment, step = (code >> 4) & 0x07, code & 0x0F
    fine = (step << 1) + 1
    magnitude = np.where(segment == 0, fine, (fine + 32) << np.maximum(segment - 1, 0)) << 3
    return (np.where(code & 0x80, magnitude, -magnitude) * _S16_SCALE).astype(np.float32)


G711_TABLES: dict[str, Samples] = {"mulaw": _mulaw_table(), "alaw": _alaw_table()}
"""The sample of every byte, for the two encodings of G.711."""


def frame_bytes(encoding: Encoding, channels: int) -> int:
    """Bytes of one frame: one sample of each channel."""
    return _WIDTH[encoding] * channels


def decode_pcm(data: bytes, encoding: Encoding, channels: int) -> Samples:
    """Decode interleaved ``data`` into mono samples in -1..1.

    Float samples a little outside -1..1 are clipped; see :data:`MAX_FLOAT_LEVEL`.

    Raises:
        AudioError: a partial frame, or float samples that are not finite or far too large.
    """
    frame = frame_bytes(encoding, channels)
    if len(data) % frame:
        raise AudioError(
            f"{len(data)} bytes are not a whole number of {encoding} frames: "
            f"with {channels} channel{'s' if channels > 1 else ''} a frame has {frame} bytes"
        )
    if encoding == "pcm_s16le":
        samples_S = np.frombuffer(data, dtype="<i2").astype(np.float32) * np.float32(_S16_SCALE)
    elif encoding == "pcm_f32le":
        samples_S = _checked(np.frombuffer(data, dtype="<f4").astype(np.float32))
    else:
        samples_S = G711_TABLES[encoding][np.frombuffer(data, dtype=np.uint8)]
    if channels > 1:
        samples_S = samples_S.reshape(-1, channels).mean(axis=1, dtype=np.float32)
    return samples_S


def _checked(samples_S: Samples) -> Samples:
    if not samples_S.size:
        return samples_S
    level = float(np.abs(samples_S).max())
    if not np.isfinite(level):
        first = int(np.flatnonzero(~np.isfinite(samples_S))[0])
        raise AudioError(
            f"sample {first} of this message is {samples_S[first]}; samples must be finite numbers"
        )
    if level > MAX_FLOAT_LEVEL:
        raise AudioError(
            f"a float sample has the level {level:g}, but full scale is 1; divide 16-bit integers by 32768 first"
        )
    return samples_S.clip(-1.0, 1.0)
