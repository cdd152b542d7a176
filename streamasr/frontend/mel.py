"""Compute log-mel frames, or their cepstra, causally: a frame's window ends where its hop ends.

Shape suffixes: B batch, S samples, T frames, M mel bands (or the C cepstral
coefficients in their place), W window samples.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torchaudio
from torch import Tensor

from streamasr.config import FrontendConfig
from streamasr.frontend.base import FrontEnd
from streamasr.frontend.level import (
    FALL_DB,
    FIRST_FALL_DB,
    FIRST_FRAMES,
    LOWEST_NOISE_DB,
    RISE_DB,
    SILENCE_DB,
    SPEECH_OVER_NOISE_DB,
    initial_levels,
    level_offset_db,
    lowest_bin,
)

_SMALLEST_POWER = 1e-10


class MelState(NamedTuple):
    """What the next frames need of those before."""

    carried_BS: Tensor
    """The newest samples."""
    levels_B3: Tensor
    """What the gain needs: see :func:`streamasr.frontend.level.step_gain` (float64)."""


class LogMel(FrontEnd[MelState]):
    """Computes Whisper's log-mel spectrogram with two changes that make it streamable.

    The window of frame ``t`` covers samples ``[hop * (t + 1) - n_fft, hop * (t + 1))`` instead of being centred, and
    the dynamic range is cut at a fixed floor (``FrontendConfig.floor_log10``) instead of the utterance's own maximum.
    Before the first sample there is digital silence. Quiet speech is amplified as ``streamasr.frontend.level`` says.

    With ``FrontendConfig.n_mfcc`` the frames are that many mel-frequency cepstral coefficients (Davis and Mermelstein
    1980): the orthonormal cosine transform of a frame's scaled bands.
    """

    config: FrontendConfig
    window_W: Tensor
    filters_FM: Tensor
    cosines_MC: Tensor | None

    def __init__(self, config: FrontendConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("window_W", torch.hann_window(config.n_fft), persistent=False)
        filters_FM = torchaudio.functional.melscale_fbanks(
            n_freqs=config.n_fft // 2 + 1,
            f_min=0.0,
            f_max=config.sample_rate / 2,
            n_mels=config.n_mels,
            sample_rate=config.sample_rate,
            norm="slaney",
            mel_scale="slaney",
        )
        self.register_buffer("filters_FM", filters_FM, persistent=False)
        cosines_MC = None
        if config.n_mfcc:
            cosines_MC = torchaudio.functional.create_dct(config.n_mfcc, config.n_mels, norm="ortho")
        self.register_buffer("cosines_MC", cosines_MC, persistent=False)

    def initial_state(self, batch: int, left_padding_samples: int = 0) -> MelState:  # noqa: ARG002 - the padding is silence
        """The state of ``batch`` new streams: digital silence."""
        carried_samples = self.config.n_fft - self.config.hop
        levels_3 = torch.tensor(initial_levels(self.config), dtype=torch.float64, device=self.window_W.device)
        return MelState(
            torch.zeros(batch, carried_samples, device=self.window_W.device), levels_3.repeat(batch, 1)
        )

    def step(
        self,
        state: MelState,
        pcm_BS: Tensor,
        lengths_B: Tensor | None = None,  # noqa: ARG002 - the padding is silence
    ) -> tuple[MelState, Tensor]:
        """Compute frames of the next samples; see :class:`FrontEnd`. Pad with zeros after a stream's end."""
        if pcm_BS.shape[1] % self.config.hop:
            raise ValueError(f"pcm must be whole hops of {self.config.hop} samples, got {pcm_BS.shape[1]}")
        samples_BS = torch.cat((state.carried_BS, pcm_BS), dim=1)
        windows_BTW = samples_BS.unfold(1, self.config.n_fft, self.config.hop) * self.window_W
        power_BTF = torch.fft.rfft(windows_BTW).abs().square()
        mel_BTM = (power_BTF @ self.filters_FM).clamp(min=_SMALLEST_POWER).log10()
        levels_B3 = state.levels_B3
        if self.config.max_gain_db:
            levels_B3, gain_BT = self._step_gain(levels_B3, power_BTF)
            mel_BTM = mel_BTM + (gain_BT / 10.0).to(mel_BTM.dtype).unsqueeze(2)
        carried_BS = samples_BS[:, samples_BS.shape[1] - state.carried_BS.shape[1] :]
        mel_BTM = (mel_BTM.clamp(min=self.config.floor_log10) + 4.0) / 4.0
        if self.cosines_MC is not None:
            mel_BTM = mel_BTM @ self.cosines_MC
        return MelState(carried_BS, levels_B3), mel_BTM

    def _step_gain(self, levels_B3: Tensor, power_BTF: Tensor) -> tuple[Tensor, Tensor]:
        """Compute what :func:`streamasr.frontend.level.step_gain` does, from the frames' spectra."""
        offset_db = level_offset_db(self.config)
        power_BT = power_BTF[:, :, lowest_bin(self.config) :].sum(dim=2, dtype=torch.float64)
        level_BT = 10.0 * power_BT.clamp(min=10.0 ** ((SILENCE_DB - offset_db) / 10.0)).log10() + offset_db
        frame_T = torch.arange(1, level_BT.shape[1] + 1, dtype=torch.float64, device=level_BT.device)
        rise_T = RISE_DB * frame_T
        low_BT = level_BT.clamp(min=LOWEST_NOISE_DB) - rise_T
        noise_BT = low_BT.minimum(levels_B3[:, 1:2]).cummin(dim=1).values + rise_T
        speech_BT = level_BT > noise_BT + SPEECH_OVER_NOISE_DB
        count_BT = speech_BT.to(torch.float64).cumsum(dim=1)
        first_BT = count_BT.minimum(FIRST_FRAMES - levels_B3[:, 2:])
        fall_BT = FALL_DB * count_BT + (FIRST_FALL_DB - FALL_DB) * first_BT
        peak_BT = (level_BT + fall_BT).maximum(levels_B3[:, :1]).cummax(dim=1).values - fall_BT
        gain_BT = (self.config.quiet_level_db - peak_BT).clamp(0.0, self.config.max_gain_db)
        levels_B3 = torch.stack((peak_BT[:, -1], noise_BT[:, -1], levels_B3[:, 2] + first_BT[:, -1]), dim=1)
        return levels_B3, gain_BT

    def forward(self, pcm_BS: Tensor, lengths_B: Tensor | None = None) -> Tensor:
        """Compute ``mel_BTM`` of whole utterances, padded with zeros to whole hops; see :class:`FrontEnd`."""
        return self.step(self.initial_state(pcm_BS.shape[0]), pcm_BS, lengths_B)[1]
