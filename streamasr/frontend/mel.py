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

_SMALLEST_POWER = 1e-10


class MelState(NamedTuple):
    """The newest samples, which the next frames' windows still need."""

    carried_BS: Tensor


class LogMel(FrontEnd[MelState]):
    """Computes Whisper's log-mel spectrogram with two changes that make it streamable.

    The window of frame ``t`` covers samples ``[hop * (t + 1) - n_fft, hop * (t + 1))`` instead of being centred, and
    the dynamic range is cut at a fixed floor (``FrontendConfig.floor_log10``) instead of the utterance's own maximum.
    Before the first sample there is digital silence.

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
        return MelState(torch.zeros(batch, carried_samples, device=self.window_W.device))

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
        carried_BS = samples_BS[:, samples_BS.shape[1] - state.carried_BS.shape[1] :]
        mel_BTM = (mel_BTM.clamp(min=self.config.floor_log10) + 4.0) / 4.0
        return MelState(carried_BS), mel_BTM if self.cosines_MC is None else mel_BTM @ self.cosines_MC

    def forward(self, pcm_BS: Tensor, lengths_B: Tensor | None = None) -> Tensor:
        """Compute ``mel_BTM`` of whole utterances, padded with zeros to whole hops; see :class:`FrontEnd`."""
        return self.step(self.initial_state(pcm_BS.shape[0]), pcm_BS, lengths_B)[1]
