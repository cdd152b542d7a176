"""What telephones and codecs leave of speech: real encoders and decoders, run in memory. Knows no batch.

libsndfile has the codecs, so they run in any worker process, without a program beside. Every function is pure:
the same samples, codec and quality give the same result. Shape suffix: S samples.
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
"""Width of the raised-cosine edges of that band, inside it."""


@dataclass(frozen=True, slots=True)
class Codec:
    """One codec as libsndfile offers it."""

    container: str
    subtype: str
    sample_rate: int
    """Hz at which it runs."""
    telephone: bool
    """Whether the sound passes through the telephone band first."""
    levels: tuple[float, float] | None = None
    """libsndfile's compression level for quality 0 and for quality 1; ``None``: the codec has one quality."""


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
"""The codecs by name. Bit rates at quality 0 … 1, in kb/s: G.711 64, G.726 32, GSM 06.10 13, IMA ADPCM 65,
Opus 8 … 32, Vorbis 31 … 53, MP3 23 … 41."""


def check_codecs(names: Sequence[str]) -> None:
    """Refuse names that are not in :data:`CODECS`.

    Raises:
        ConfigError: an unknown name, or none at all.
    """
    unknown = [name for name in names if name not in CODECS]
    if unknown or not names:
        raise ConfigError(f"codecs must name some of {', '.join(CODECS)}; got {', '.join(names) or 'none'}")


def apply_random_codec(
    pcm_S: Samples, sample_rate: int, names: Sequence[str], generator: np.random.Generator
) -> Samples:
    """``pcm_S`` through one of the codecs ``names``, drawn with its quality; see :func:`apply_codec`."""
    name = names[int(generator.integers(len(names)))]
    return apply_codec(pcm_S, sample_rate, name, quality=float(generator.random()))


def apply_codec(pcm_S: Samples, sample_rate: int, name: str, *, quality: float = 0.5) -> Samples:
    """``pcm_S`` encoded and decoded again, as long as before and in time with it.

    Args:
        pcm_S: float32 samples; what is outside -1..1 is clipped, as a converter would.
        sample_rate: Hz of ``pcm_S`` and of the result.
        name: one of :data:`CODECS`.
        quality: 0..1, worst to best bit rate, for codecs that have several.
    """
    if not len(pcm_S):
        return pcm_S
    codec = CODECS[name]
    sound_S = np.clip(soxr.resample(pcm_S, sample_rate, codec.sample_rate), -1.0, 1.0)
    if codec.telephone:
        sound_S = telephone_band(sound_S, codec.sample_rate)
    level = None
    if codec.levels is not None:
        worst, best = codec.levels
        level = worst + (best - worst) * quality
    file = io.BytesIO()
    soundfile.write(
        file,
        sound_S,
        codec.sample_rate,
        format=codec.container,
        subtype=codec.subtype,
        compression_level=level,
    )
    file.seek(0)
    decoded_S, decoded_rate = soundfile.read(file, dtype="float32")
    return _of_length(soxr.resample(decoded_S, decoded_rate, sample_rate), len(pcm_S))


def telephone_band(pcm_S: Samples, sample_rate: int) -> Samples:
    """``pcm_S`` with only what passes a telephone line: 300–3400 Hz, without delay."""
    low, high = TELEPHONE_HZ
    hertz = np.fft.rfftfreq(len(pcm_S), 1 / sample_rate)
    inside = np.clip(np.minimum(hertz - low, high - hertz) / _EDGE_HZ, 0.0, 1.0)
    gain = 0.5 - 0.5 * np.cos(np.pi * inside)
    return np.fft.irfft(np.fft.rfft(pcm_S) * gain, len(pcm_S)).astype(np.float32)


def _of_length(pcm_S: Samples, samples: int) -> Samples:
    """Cut, or completed with silence: codecs round up to whole blocks, resamplers to whole samples."""
    pcm_S = pcm_S[:samples]
    return np.pad(pcm_S, (0, samples - len(pcm_S)))
