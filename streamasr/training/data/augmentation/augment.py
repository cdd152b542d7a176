"""Augment batches of training audio on any device: speed, rooms, noise, microphones, codecs and masks.

All random values come from one ``torch.Generator``, so a seed determines the result. Shape suffixes: B rows,
S samples, T mel frames, M mel bands, N noise samples, K rooms, R impulse-response samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
import torchaudio
from torch import Tensor

from streamasr.training.config import AugmentConfig
from streamasr.training.data.augmentation.audio_codecs import CODECS, apply_random_codec

_MU_LAW_LEVELS = 256
_TELEPHONE_BAND_HZ = (300.0, 3400.0)
_SHAPED_NOISE_SHARE = 0.3
_DIRECT_TO_REVERBERANT_DB = (-3.0, 12.0)
_BABBLE_SNR_DB = (8.0, 25.0)
_NOISE_BELOW_SPEECH_DB = (0.0, 40.0)
_SIXTY_DB = math.log(1000.0)
_SMALLEST_RMS = 1e-5
_WARP_KNEE = 0.6
"""Share of the highest frequency from which a warp is weaker; 4800 of 8000 Hz as Jaitly and Hinton have it."""
_SPEED_STEPS = 20
_SEEDS = 1 << 30


class Augment:
    """Random changes of the audio that keep its transcript.

    Args:
        config: probabilities and strengths.
        sample_rate: rate of the samples in Hz.
        noise_N: concatenated noises to mix in, float32; may be empty.
        generator: source of all random values, on the device of the batches.
        rooms_KR: zero-padded impulse responses of K simulated rooms; with ``None``, impulse responses are drawn as
            decaying noise.
    """

    def __init__(
        self,
        config: AugmentConfig,
        sample_rate: int,
        noise_N: Tensor,
        generator: torch.Generator,
        rooms_KR: Tensor | None = None,
    ) -> None:
        self.config = config
        self.sample_rate = sample_rate
        self.noise_N = noise_N
        self.generator = generator
        self.rooms_KR = rooms_KR

    def change_speed(self, pcm_BS: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        """Change speed and pitch of a batch by one of the configured factors.

        Returns:
            The samples and the new row lengths.
        """
        speeds = self.config.speeds
        factor = speeds[int(self._uniform(1).item() * len(speeds))]
        old, new = round(factor * _SPEED_STEPS), _SPEED_STEPS
        if old == new:
            return pcm_BS, lengths_B
        faster_BS = torchaudio.functional.resample(pcm_BS, old, new)
        return faster_BS, (lengths_B * new // old).clamp(max=faster_BS.shape[1])

    def replace_by_noise(self, pcm_BS: Tensor) -> tuple[Tensor, Tensor]:
        """Replace random rows by noise that is as loud as their speech or quieter.

        Returns:
            The samples, and which rows [B] were replaced.
        """
        replaced_B = self._uniform(len(pcm_BS)) < self.config.noise_only_probability
        if not replaced_B.any():
            return pcm_BS, replaced_B
        speech_BS = pcm_BS[replaced_B]
        noise_BS = self._draw_noise(speech_BS)
        gain_B = self._draw_gain(speech_BS, noise_BS, _NOISE_BELOW_SPEECH_DB)
        return pcm_BS.index_put((replaced_B,), noise_BS * gain_B[:, None]), replaced_B

    def augment_audio(self, pcm_BS: Tensor) -> Tensor:
        """Apply random rooms, noise, voices, microphones, codecs and levels to each row; lengths stay the same."""
        config = self.config
        pcm_BS = self._apply_randomly(pcm_BS, config.room_probability, self._reverberate)
        babble_BS = pcm_BS.roll(1, dims=0)
        pcm_BS = self._mix(pcm_BS, babble_BS, _BABBLE_SNR_DB, config.babble_probability)
        snr_db = (config.noise_snr_db[0], config.noise_snr_db[1])
        if config.noise_probability:
            pcm_BS = self._mix(pcm_BS, self._draw_noise(pcm_BS), snr_db, config.noise_probability)
        if config.tilt_db:
            pcm_BS = self._tilt(pcm_BS)
        pcm_BS = self._apply_randomly(pcm_BS, config.band_probability, self._telephone)
        pcm_BS = self._apply_randomly(pcm_BS, config.codec_probability, self._codec)
        gain_B = _from_db(self._uniform_between(len(pcm_BS), config.level_db[0], config.level_db[1]))
        return (pcm_BS * gain_B[:, None]).clamp(-1.0, 1.0)

    def warp_frequencies(self, mel_BTM: Tensor, band_hz_M: Tensor) -> Tensor:
        """Raise or lower the frequencies of each row, as another speaker's vocal tract does (VTLP).

        A band gets the value at its frequency times the row's factor. Near the highest band the factor falls to 1
        (Jaitly and Hinton 2013, equation 1), and values between two bands are interpolated.

        Args:
            mel_BTM: log-mel frames.
            band_hz_M: centre frequencies of the bands, ascending.
        """
        largest = self.config.frequency_warp
        if not largest:
            return mel_BTM
        B, T, M = mel_BTM.shape
        factor_B1 = 1.0 + self._uniform_between(B, -largest, largest)[:, None]
        top, knee = band_hz_M[-1], _WARP_KNEE * band_hz_M[-1] * factor_B1.clamp(max=1.0)
        upper_BM = top - (top - knee) / (top - knee / factor_B1) * (top - band_hz_M)
        source_BM = torch.where(band_hz_M * factor_B1 <= knee, band_hz_M * factor_B1, upper_BM)
        below_BM = (torch.searchsorted(band_hz_M, source_BM) - 1).clamp(0, M - 2)
        low_hz_BM, high_hz_BM = band_hz_M[below_BM], band_hz_M[below_BM + 1]
        share_BM = ((source_BM - low_hz_BM) / (high_hz_BM - low_hz_BM)).clamp(0.0, 1.0)
        below_BTM = below_BM[:, None, :].expand(B, T, M)
        return mel_BTM.gather(2, below_BTM).lerp(mel_BTM.gather(2, below_BTM + 1), share_BM[:, None, :])

    def mask(self, mel_BTM: Tensor, frames_per_second: float) -> Tensor:
        """Set frequency bands and time spans to zero (SpecAugment, Park et al. 2019)."""
        B, T, M = mel_BTM.shape
        config = self.config
        masked_BM = self._random_spans(B, config.frequency_masks, M, config.frequency_mask_bands)
        count = round(config.time_masks_per_second * T / frames_per_second)
        masked_BT = self._random_spans(B, count, T, config.time_mask_frames)
        return mel_BTM.masked_fill(masked_BM[:, None, :] | masked_BT[:, :, None], 0.0)

    def _random_spans(self, rows: int, count: int, size: int, longest: int) -> Tensor:
        """Return [rows, size], true inside ``count`` random spans of up to ``longest``."""
        width = self._uniform(rows, count) * longest
        start = self._uniform(rows, count) * (size - width)
        place = torch.arange(size, device=width.device)
        return ((place >= start[..., None]) & (place < (start + width)[..., None])).any(dim=1)

    def _apply_randomly(
        self, pcm_BS: Tensor, probability: float, change: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """Apply ``change`` to each row with a probability; the other rows cost nothing."""
        chosen_B = (self._uniform(len(pcm_BS)) < probability).nonzero()[:, 0]
        if not len(chosen_B):
            return pcm_BS
        return pcm_BS.index_copy(0, chosen_B, change(pcm_BS[chosen_B]))

    def _reverberate(self, pcm_BS: Tensor) -> Tensor:
        """Convolve with impulse responses of simulated rooms or of decaying noise."""
        B, S = pcm_BS.shape
        response_BR = self._decaying_noise(B, S) if self.rooms_KR is None else self._simulated_rooms(B, S)
        size = S + response_BR.shape[1]
        spectrum = torch.fft.rfft(pcm_BS, n=size) * torch.fft.rfft(response_BR, n=size)
        reverberant_BS: Tensor = torch.fft.irfft(spectrum, n=size)[:, :S]
        return reverberant_BS

    def _simulated_rooms(self, rows: int, samples: int) -> Tensor:
        assert self.rooms_KR is not None
        return self.rooms_KR[(self._uniform(rows) * len(self.rooms_KR)).long(), :samples]

    def _decaying_noise(self, rows: int, samples: int) -> Tensor:
        """Draw impulse responses: a direct path and exponentially decaying noise (Polack 1988)."""
        shortest, longest = self.config.room_rt60_seconds
        R = min(samples, round(longest * self.sample_rate))
        rt60_B = self._uniform_between(rows, shortest, longest)
        time_R = torch.arange(R, device=rt60_B.device) / self.sample_rate
        tail_BR = self._normal(rows, R) * torch.exp(-_SIXTY_DB * time_R / rt60_B[:, None])
        tail_BR = tail_BR / tail_BR.square().sum(dim=1, keepdim=True).sqrt()
        ratio_B = self._uniform_between(rows, *_DIRECT_TO_REVERBERANT_DB)
        response_BR = tail_BR * _from_db(-ratio_B)[:, None]
        response_BR[:, 0] += 1.0
        return response_BR

    def _draw_noise(self, pcm_BS: Tensor) -> Tensor:
        """Draw noise for each row: a part of the recorded noises, or noise with a random spectral slope."""
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

    def _mix(
        self, pcm_BS: Tensor, noise_BS: Tensor, snr_db: tuple[float, float], probability: float
    ) -> Tensor:
        chosen_B = self._uniform(len(pcm_BS)) < probability
        gain_B = self._draw_gain(pcm_BS, noise_BS, snr_db)
        return pcm_BS + noise_BS * (gain_B * chosen_B)[:, None]

    def _draw_gain(self, pcm_BS: Tensor, noise_BS: Tensor, below_db: tuple[float, float]) -> Tensor:
        """Draw the factor for each row that makes the noise quieter than the other samples by ``below_db``."""
        return _rms(pcm_BS) / _rms(noise_BS) * _from_db(-self._uniform_between(len(pcm_BS), *below_db))

    def _tilt(self, pcm_BS: Tensor) -> Tensor:
        """Raise or lower the high frequencies, as different microphones do."""
        B, S = pcm_BS.shape
        spectrum = torch.fft.rfft(pcm_BS)
        place = torch.linspace(-0.5, 0.5, spectrum.shape[1], device=pcm_BS.device)
        tilt_B = self._uniform_between(B, -self.config.tilt_db, self.config.tilt_db)
        tilted_BS: Tensor = torch.fft.irfft(spectrum * _from_db(tilt_B[:, None] * place), n=S)
        return tilted_BS

    def _telephone(self, pcm_BS: Tensor) -> Tensor:
        """Apply the band of a telephone line and 8-bit mu-law."""
        spectrum = torch.fft.rfft(pcm_BS)
        hertz = torch.linspace(0, self.sample_rate / 2, spectrum.shape[1], device=pcm_BS.device)
        low, high = _TELEPHONE_BAND_HZ
        narrow_BS = torch.fft.irfft(
            spectrum.masked_fill((hertz < low) | (hertz > high), 0.0), n=pcm_BS.shape[1]
        )
        peak_B1 = narrow_BS.abs().amax(dim=1, keepdim=True).clamp(min=_SMALLEST_RMS)
        coded = torchaudio.functional.mu_law_encoding(narrow_BS / peak_B1, _MU_LAW_LEVELS)
        telephone_BS: Tensor = torchaudio.functional.mu_law_decoding(coded, _MU_LAW_LEVELS) * peak_B1
        return telephone_BS

    def _codec(self, pcm_BS: Tensor) -> Tensor:
        """Encode and decode each row with a random codec, on the CPU."""
        rng = np.random.default_rng(int(self._uniform(1).item() * _SEEDS))
        rows = [
            torch.from_numpy(apply_random_codec(row, self.sample_rate, tuple(CODECS), rng))
            for row in pcm_BS.cpu().numpy()
        ]
        return torch.stack(rows).to(pcm_BS)

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
