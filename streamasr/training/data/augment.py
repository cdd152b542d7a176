"""What is done to training sound, in batches on the device that trains: speed, rooms, noise, microphones, masks.

Everything draws from one ``torch.Generator``, so that a seed gives a run. Shape suffixes: B rows, S samples,
T mel frames, M mel bands, N noise samples, R impulse-response samples.
"""

from __future__ import annotations

import math

import torch
import torchaudio
from torch import Tensor

from streamasr.training.config import AugmentConfig

_MU_LAW_LEVELS = 256
_TELEPHONE_BAND_HZ = (300.0, 3400.0)
_SHAPED_NOISE_SHARE = 0.3
_DIRECT_TO_REVERBERANT_DB = (-3.0, 12.0)
_BABBLE_SNR_DB = (8.0, 25.0)
_SIXTY_DB = math.log(1000.0)
_SMALLEST_RMS = 1e-5
_SPEED_STEPS = 20


class Augment:
    """Random changes of the sound that leave the transcript true.

    Args:
        config: how often and how strongly.
        sample_rate: Hz.
        noise_N: sounds to mix in, one after another, float32; may be empty.
        generator: the source of all randomness, on the device of the batches.
    """

    def __init__(
        self, config: AugmentConfig, sample_rate: int, noise_N: Tensor, generator: torch.Generator
    ) -> None:
        self.config = config
        self.sample_rate = sample_rate
        self.noise_N = noise_N
        self.generator = generator

    def speed(self, pcm_BS: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        """Play the whole batch faster or slower, pitch and all, by one of the configured factors."""
        speeds = self.config.speeds
        factor = speeds[int(self._uniform(1).item() * len(speeds))]
        old, new = round(factor * _SPEED_STEPS), _SPEED_STEPS
        if old == new:
            return pcm_BS, lengths_B
        faster_BS = torchaudio.functional.resample(pcm_BS, old, new)
        return faster_BS, (lengths_B * new // old).clamp(max=faster_BS.shape[1])

    def sound(self, pcm_BS: Tensor) -> Tensor:
        """Rooms, noise, other voices, microphones and levels, each row by itself; the length stays."""
        config = self.config
        pcm_BS = self._rooms(pcm_BS, self._chosen(pcm_BS, config.room_probability))
        babble_BS = pcm_BS.roll(1, dims=0)
        pcm_BS = self._mix(pcm_BS, babble_BS, _BABBLE_SNR_DB, self._chosen(pcm_BS, config.babble_probability))
        snr_db = (config.noise_snr_db[0], config.noise_snr_db[1])
        pcm_BS = self._mix(
            pcm_BS, self._noise_like(pcm_BS), snr_db, self._chosen(pcm_BS, config.noise_probability)
        )
        pcm_BS = self._microphones(pcm_BS, self._chosen(pcm_BS, config.band_probability))
        gain_B1 = _from_db(self._uniform_between(len(pcm_BS), config.level_db[0], config.level_db[1]))[
            :, None
        ]
        return (pcm_BS * gain_B1).clamp(-1.0, 1.0)

    def mask(self, mel_BTM: Tensor, frames_per_second: float) -> Tensor:
        """SpecAugment (Park et al. 2019): bands and stretches of time are put to zero."""
        B, T, M = mel_BTM.shape
        config = self.config
        hidden_BM = self._stretches(B, config.frequency_masks, M, config.frequency_mask_bands)
        count = round(config.time_masks_per_second * T / frames_per_second)
        hidden_BT = self._stretches(B, count, T, config.time_mask_frames)
        return mel_BTM.masked_fill(hidden_BM[:, None, :] | hidden_BT[:, :, None], 0.0)

    def _stretches(self, rows: int, count: int, size: int, longest: int) -> Tensor:
        """[rows, size], true inside ``count`` random stretches of up to ``longest``."""
        width = self._uniform(rows, count) * longest
        start = self._uniform(rows, count) * (size - width)
        place = torch.arange(size, device=width.device)
        return ((place >= start[..., None]) & (place < (start + width)[..., None])).any(dim=1)

    def _rooms(self, pcm_BS: Tensor, chosen_B: Tensor) -> Tensor:
        """Convolve with a direct path and exponentially decaying noise (Polack's model of late reverberation)."""
        shortest, longest = self.config.room_rt60_seconds
        B, S = pcm_BS.shape
        R = min(S, round(longest * self.sample_rate))
        rt60_B = self._uniform_between(B, shortest, longest)
        time_R = torch.arange(R, device=pcm_BS.device) / self.sample_rate
        tail_BR = self._normal(B, R) * torch.exp(-_SIXTY_DB * time_R / rt60_B[:, None])
        tail_BR = tail_BR / tail_BR.square().sum(dim=1, keepdim=True).sqrt()
        ratio_B = self._uniform_between(B, *_DIRECT_TO_REVERBERANT_DB)
        response_BR = tail_BR * _from_db(-ratio_B)[:, None]
        response_BR[:, 0] += 1.0
        spectrum = torch.fft.rfft(pcm_BS, n=S + R) * torch.fft.rfft(response_BR, n=S + R)
        return torch.where(chosen_B[:, None], torch.fft.irfft(spectrum, n=S + R)[:, :S], pcm_BS)

    def _noise_like(self, pcm_BS: Tensor) -> Tensor:
        """A noise row for every row: a stretch of the recorded sounds, or noise of a random colour."""
        B, S = pcm_BS.shape
        slope_B = self._uniform_between(B, 0.0, 1.0)
        spectrum = torch.fft.rfft(self._normal(B, S))
        frequency = torch.arange(1, spectrum.shape[1] + 1, device=pcm_BS.device)
        noise_BS: Tensor = torch.fft.irfft(spectrum * frequency ** -slope_B[:, None], n=S)
        N = len(self.noise_N)
        if N >= S:
            recorded_B = self._uniform(B) >= _SHAPED_NOISE_SHARE
            starts = (self._uniform(B) * (N - S)).long().tolist()
            recorded_BS = torch.stack([self.noise_N[start : start + S] for start in starts])
            noise_BS = torch.where(recorded_B[:, None], recorded_BS, noise_BS)
        return noise_BS

    def _mix(self, pcm_BS: Tensor, noise_BS: Tensor, snr_db: tuple[float, float], chosen_B: Tensor) -> Tensor:
        level_B = _rms(pcm_BS) / _rms(noise_BS) * _from_db(-self._uniform_between(len(pcm_BS), *snr_db))
        return pcm_BS + noise_BS * (level_B * chosen_B)[:, None]

    def _microphones(self, pcm_BS: Tensor, telephone_B: Tensor) -> Tensor:
        """A random spectral tilt for all; the telephone band and mu-law steps for the chosen."""
        B, S = pcm_BS.shape
        spectrum = torch.fft.rfft(pcm_BS)
        hertz = torch.linspace(0, self.sample_rate / 2, spectrum.shape[1], device=pcm_BS.device)
        tilt_B = self._uniform_between(B, -self.config.tilt_db, self.config.tilt_db)
        gain = _from_db(tilt_B[:, None] * (hertz * 2 / self.sample_rate - 0.5))
        low, high = _TELEPHONE_BAND_HZ
        outside = (hertz < low) | (hertz > high)
        gain = gain.masked_fill(outside & telephone_B[:, None], 0.0)
        shaped_BS = torch.fft.irfft(spectrum * gain, n=S)
        peak_B1 = shaped_BS.abs().amax(dim=1, keepdim=True).clamp(min=_SMALLEST_RMS)
        coded = torchaudio.functional.mu_law_encoding(shaped_BS / peak_B1, _MU_LAW_LEVELS)
        telephone_BS = torchaudio.functional.mu_law_decoding(coded, _MU_LAW_LEVELS) * peak_B1
        return torch.where(telephone_B[:, None], telephone_BS, shaped_BS)

    def _chosen(self, pcm_BS: Tensor, probability: float) -> Tensor:
        return self._uniform(len(pcm_BS)) < probability

    def _uniform_between(self, count: int, low: float, high: float) -> Tensor:
        return low + (high - low) * self._uniform(count)

    def _uniform(self, *shape: int) -> Tensor:
        return torch.rand(shape, generator=self.generator, device=self.generator.device)

    def _normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator, device=self.generator.device)


def _from_db(decibel: Tensor) -> Tensor:
    return torch.pow(10.0, decibel / 20.0)


def _rms(pcm_BS: Tensor) -> Tensor:
    return pcm_BS.square().mean(dim=1).sqrt().clamp(min=_SMALLEST_RMS)
