"""Encode and decode audio in memory with the codecs of telephones and the internet, which libsndfile provides.

No external programs are needed, and the same samples, codec and quality give the same result. Shape suffix:
S samples.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from streamasr.errors import ConfigError

Samples = npt.NDArray[np.float32]

TELEPHONE_HZ = (300.0, 3400.0)
"""The band of a telephone line (ITU-T G.712)."""
_EDGE_HZ = 100.0
"""Width of the raised-cosine edges, which lie inside that band."""


@dataclass(frozen=True, slots=True)
class Codec:
    """A codec of libsndfile."""

    container: str
    subtype: str
    sample_rate: int
    """Sample rate of the codec in Hz."""
    telephone: bool
    """Whether the audio is limited to the telephone band first."""
    levels: tuple[float, float] | None = None
    """libsndfile's compression levels for quality 0 and quality 1; ``None`` for codecs with one quality."""


CODECS = {
    "g711-mu": Codec("WAV", "ULAW", 8_000, telephone=True),
    "g711-a": Codec("WAV", "ALAW", 8_000, telephone=True),
    "g726": Codec("AU", "G721_32", 8_000, telephone=True),
    "gsm": Codec("WAV", "GSM610", 8_000, telephone=True),
    "adpcm": Codec("WAV", "IMA_ADPCM", 16_000, telephone=False),
    "opus": Codec("OGG", "OPUS", 16_000, telephone=False, levels=(1.0, 0.9)),
    "vorbis": Codec("OGG", "VORBIS", 16_000, telephone=False, levels=(1.0, 0.5)),
    "mp3": Codec("MP3", "MPEG_LAYER_III", 16_000, telephone=False, levels=(0.99, 0.5)),
}
"""The codecs by name. Bit rates in kbit/s, at quality 0 to 1: G.711 64, G.726 32, GSM 06.10 13, IMA ADPCM 65,
Opus 8 to 32, Vorbis 31 to 53, MP3 23 to 41."""


def check_codecs(names: Sequence[str]) -> None:
    """Check that all names are in :data:`CODECS`.

    Raises:
        ConfigError: a name is unknown, or there are no names.
    """
    unknown = [name for name in names if name not in CODECS]
    if unknown or not names:
        raise ConfigError(f"codecs must name some of {', '.join(CODECS)}; got {', '.join(names) or 'none'}")


def apply_random_codec(
    pcm_S: Samples, sample_rate: int, names: Sequence[str], generator: np.random.Generator
) -> Samples:
    """Encode and decode ``pcm_S`` with a random codec of ``names`` and a random quality; see :func:`apply_codec`."""
    name = names[int(generator.integers(len(names)))]
    return apply_codec(pcm_S, sample_rate, name, quality=float(generator.random()))


def apply_codec(pcm_S: Samples, sample_rate: int, name: str, *, quality: float = 0.5) -> Samples:
    """Encode and decode ``pcm_S``; the length stays the same and there is no delay.

    Args:
        pcm_S: float32 samples; values outside -1..1 are clipped.
        sample_rate: rate of ``pcm_S`` and of the result in Hz.
        name: one of :data:`CODECS`.
        quality: quality from 0 (lowest bit rate) to 1, for codecs with several qualities.
    """
    if not len(pcm_S):
        return pcm_S
    codec = CODECS[name]
    coded_S = np.clip(soxr.resample(pcm_S, sample_rate, codec.sample_rate), -1.0, 1.0)
    if codec.telephone:
        coded_S = telephone_band(coded_S, codec.sample_rate)
    level = None
    if codec.levels is not None:
        worst, best = codec.levels
        level = worst + (best - worst) * quality
    file = io.BytesIO()
    soundfile.write(
        file,
        coded_S,
        codec.sample_rate,
        format=codec.container,
        subtype=codec.subtype,
        compression_level=level,
    )
    file.seek(0)
    decoded_S, decoded_rate = soundfile.read(file, dtype="float32")
    return _of_length(soxr.resample(decoded_S, decoded_rate, sample_rate), len(pcm_S))


def telephone_band(pcm_S: Samples, sample_rate: int) -> Samples:
    """Limit ``pcm_S`` to the band of a telephone line, 300–3400 Hz, without delay."""
    low, high = TELEPHONE_HZ
    hertz = np.fft.rfftfreq(len(pcm_S), 1 / sample_rate)
    inside = np.clip(np.minimum(hertz - low, high - hertz) / _EDGE_HZ, 0.0, 1.0)
    gain = 0.5 - 0.5 * np.cos(np.pi * inside)
    return np.fft.irfft(np.fft.rfft(pcm_S) * gain, len(pcm_S)).astype(np.float32)


def _of_length(pcm_S: Samples, samples: int) -> Samples:
    """Cut or zero-pad to a length, since codecs round to whole blocks and resamplers to whole samples."""
    pcm_S = pcm_S[:samples]
    return np.pad(pcm_S, (0, samples - len(pcm_S)))
