"""Recognise speech that is played too slowly, because its sample rate is higher than stated.

At a third of its speed, speech is deep and dull: its pitch is below that of any voice while it still glides, little
is left above 1 kHz, and syllables follow each other slowly. Each of these alone also occurs in speech and in noise.
The pitch is the highest peak of the autocorrelation, corrected for the window (Boersma 1993). Shape suffixes: S
samples, N frames, A analysed frames, L samples of a frame, F frequencies.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamasr.frontend.pcm import Samples

Values = NDArray[np.float64]

FRAME_MS = 80
HOP_MS = 16
ANALYSED_OF = 8
"""Of so many frames, the pitch and the spectrum of the first two are analysed, which takes most of the time. Two
neighbours show whether the pitch glides."""
MIN_VOICED_FRAMES = 25
"""Fewest analysed frames with a pitch for a judgement."""

_PITCH_HZ = (28, 400)
_OCTAVE_COST = 0.02
"""Subtracted from a peak of the autocorrelation for each octave below the highest pitch."""
_MIN_PEAK = 0.6
"""Normalised autocorrelation of a frame with a pitch, at least."""
_MIN_POWER = 1e-6
"""Quieter frames (-60 dB of full scale) are silence, …"""
_MIN_RELATIVE_POWER = 1e-4
"""… and so are those this much below the loudest one."""
_LOW_HZ, _HIGH_HZ = 30, 1_000
_RHYTHM_HZ = (0.4, 16.0)

_MAX_PITCH_HZ = 83
"""Median pitch."""
_MAX_HIGH_DB = -17.5
"""Power above 1 kHz in frames with a pitch, relative to all power. Dull recordings of deep voices reach -16 dB."""
_MAX_RHYTHM_HZ = 2.0
"""Centroid of the spectrum of the loudness."""
_MIN_GLIDING = 0.4
"""Share of neighbouring frames whose pitch differs by 0.04 to 1.5 semitones. Tones stand still, and notes jump."""
_GLIDE_SEMITONES = (0.04, 1.5)
_MIN_VOICED = 0.35
"""Share of the audible frames that have a pitch."""


class FrameFeatures(NamedTuple):
    """What is kept of each frame of a stretch of sound. All but the power is NaN for frames that are not analysed."""

    power_N: Values
    """Mean square."""
    pitch_N: Values
    """Hz."""
    peak_N: Values
    """Normalised autocorrelation at the pitch period."""
    total_N: Values
    """Spectral power above 30 Hz."""
    high_N: Values
    """Spectral power above 1 kHz."""


def frame_features(samples_S: Samples, sample_rate: int) -> tuple[FrameFeatures, Samples]:
    """Return the features of all whole frames, and the samples from the next frame on.

    Args:
        samples_S: mono samples in -1..1.
        sample_rate: their stated rate, in Hz.
    """
    length, hop = FRAME_MS * sample_rate // 1_000, HOP_MS * sample_rate // 1_000
    frames = frame_count(len(samples_S), sample_rate)
    if not frames:
        return FrameFeatures(*(np.zeros(0) for _ in FrameFeatures._fields)), samples_S
    tables = _tables(sample_rate)
    energy_S = np.concatenate(([0.0], np.square(samples_S, dtype=np.float64).cumsum()))
    starts_N = hop * np.arange(frames)
    power_N = (energy_S[starts_N + length] - energy_S[starts_N]) / length
    analysed_N = np.arange(frames) % ANALYSED_OF < 2
    frames_AL = np.lib.stride_tricks.sliding_window_view(samples_S, length)[starts_N[analysed_N]].astype(
        np.float64
    )
    frames_AL -= frames_AL.mean(axis=1, keepdims=True)
    frames_AL *= tables.window_L
    transform_AF = np.fft.rfft(frames_AL, 2 * length)
    spectrum_AF = np.square(transform_AF.real) + np.square(transform_AF.imag)
    total_A = spectrum_AF[:, tables.low_F :].sum(axis=1)
    high_A = spectrum_AF[:, tables.high_F :].sum(axis=1)
    of_analysed = (*_pitch(spectrum_AF, tables, sample_rate), total_A, high_A)
    features = FrameFeatures(power_N, *(_spread(values_A, analysed_N) for values_A in of_analysed))
    return features, samples_S[frames * hop :]


def _spread(values_A: Values, analysed_N: NDArray[np.bool_]) -> Values:
    """Return the values at the places of the analysed frames [N], and NaN at the others."""
    spread_N = np.full(len(analysed_N), np.nan)
    spread_N[analysed_N] = values_A
    return spread_N


def frame_count(samples: int, sample_rate: int) -> int:
    """Return the number of whole frames of ``samples`` samples."""
    length, hop = FRAME_MS * sample_rate // 1_000, HOP_MS * sample_rate // 1_000
    return 1 + (samples - length) // hop if samples >= length else 0


def join_features(parts: list[FrameFeatures]) -> FrameFeatures:
    """Join the features of consecutive stretches."""
    return FrameFeatures(*map(np.concatenate, zip(*parts, strict=True)))


def is_audible(features: FrameFeatures) -> NDArray[np.bool_]:
    """Return whether each frame [N] is louder than silence."""
    return features.power_N > _MIN_POWER


def sounds_slow(features: FrameFeatures) -> bool:
    """Whether a stretch of about 13 s is speech at about a third of its speed; false if it has too little speech.

    Measured with 140 stretches of 13 s of the dev sets of LibriSpeech and speechocean762: it is true for 74 % of
    them at 48 kHz read as 16 kHz, and for 64 % at 44.1 kHz. It is false for all of them at the right rate,
    and for all noises of ESC-10. Children's voices stay high enough to be missed, and audio that is played too fast
    cannot be told from high voices.
    """
    loud_N = features.power_N > max(_MIN_POWER, _MIN_RELATIVE_POWER * features.power_N.max(initial=0.0))
    loud_N &= ~np.isnan(features.pitch_N)
    voiced_N = loud_N & (features.peak_N > _MIN_PEAK)
    count = int(voiced_N.sum())
    if count < MIN_VOICED_FRAMES or count < _MIN_VOICED * loud_N.sum():
        return False
    high_db = 10 * np.log10(features.high_N[voiced_N].sum() / features.total_N[voiced_N].sum() + 1e-12)
    return bool(
        np.median(features.pitch_N[voiced_N]) < _MAX_PITCH_HZ
        and high_db < _MAX_HIGH_DB
        and _rhythm_hz(features.power_N) < _MAX_RHYTHM_HZ
        and _gliding(features.pitch_N, voiced_N) > _MIN_GLIDING
    )


class _Tables(NamedTuple):
    """What depends on the sample rate only."""

    window_L: Values
    scale_L: Values
    """The reciprocal of the window's autocorrelation at the possible pitch periods."""
    cost_L: Values
    """What is subtracted at each of them."""
    shortest: int
    """The shortest of them, in samples."""
    low_F: int
    """The first frequency of ``FrameFeatures.total_N``."""
    high_F: int
    """The first frequency of ``FrameFeatures.high_N``."""


@lru_cache(maxsize=8)
def _tables(sample_rate: int) -> _Tables:
    length = FRAME_MS * sample_rate // 1_000
    window_L = np.hanning(length)
    of_window_L = np.fft.irfft(np.abs(np.fft.rfft(window_L, 2 * length)) ** 2)[:length]
    hz_F = np.fft.rfftfreq(2 * length, 1 / sample_rate)
    shortest, longest = (sample_rate // hz for hz in reversed(_PITCH_HZ))
    return _Tables(
        window_L,
        1 / np.maximum(of_window_L / of_window_L[0], 1e-3)[shortest:longest],
        _OCTAVE_COST * np.log2(np.arange(shortest, longest) / shortest),
        shortest,
        int(np.searchsorted(hz_F, _LOW_HZ, side="right")),
        int(np.searchsorted(hz_F, _HIGH_HZ)),
    )


def _pitch(spectrum_AF: Values, tables: _Tables, sample_rate: int) -> tuple[Values, Values]:
    """Return the pitch of each frame in Hz [A], and the normalised autocorrelation at its period [A]."""
    shortest = tables.shortest
    correlation_AL = np.fft.irfft(spectrum_AF, axis=1)
    candidates = correlation_AL[:, shortest : shortest + len(tables.scale_L)] * tables.scale_L
    candidates /= np.maximum(correlation_AL[:, :1], 1e-20)
    best_A = (candidates - tables.cost_L).argmax(axis=1)
    return sample_rate / (shortest + best_A), candidates[np.arange(len(candidates)), best_A]


def _gliding(pitch_N: Values, voiced_N: NDArray[np.bool_]) -> float:
    low, high = _GLIDE_SEMITONES
    steps = np.abs(12 * np.diff(np.log2(pitch_N)))[voiced_N[1:] & voiced_N[:-1]]
    return float(((steps > low) & (steps < high)).mean()) if len(steps) else 0.0


def _rhythm_hz(power_N: Values) -> float:
    loudness_N = np.log(np.maximum(power_N, power_N.max() * _MIN_RELATIVE_POWER))
    spectrum_F = np.abs(np.fft.rfft((loudness_N - loudness_N.mean()) * np.hanning(len(loudness_N)))) ** 2
    hz_F = np.fft.rfftfreq(len(loudness_N), HOP_MS / 1_000)
    low, high = _RHYTHM_HZ
    within_F = (hz_F > low) & (hz_F < high)
    return float((spectrum_F * hz_F)[within_F].sum() / max(spectrum_F[within_F].sum(), 1e-20))
