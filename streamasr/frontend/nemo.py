"""Compute NeMo's log-mel frames on streams: pre-emphasis, a window around each hop's first sample, natural logarithm.

A frame depends on half a window of later samples. The padding at a stream's edges depends on NeMo's generation:
silence (since 2.5), or the audio mirrored at its first and last sample (before).
Shape suffixes: B batch, S samples, T frames, M mel bands, W window samples, F frequencies.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from streamasr.config import NemoFrontendConfig
from streamasr.frontend.base import FrontEnd
from streamasr.frontend.fourier import POINTS, RealTransform512
from streamasr.units import ceil_div

_LINEAR_HZ_PER_MEL = 200 / 3
_LINEAR_MELS, _LINEAR_HZ = 15, 1_000.0
_LOG_STEP = math.log(6.4) / 27


class NemoMelState(NamedTuple):
    """A stream's state."""

    carried_BS: Tensor
    """The newest samples, which the next frames' windows or their mirror images still need."""
    start_B: Tensor
    """Position of the first sample relative to the next one; limited to the carried samples."""
    past_end_B: Tensor
    """Samples of padding since the end of the audio; 0 before it."""


class NemoLogMel(FrontEnd[NemoMelState]):
    """``AudioToMelSpectrogramPreprocessor`` without dither, normalisation and padding.

    Edges shorter than half a window are mirrored as far as possible, then padded with silence (NeMo refuses such
    audio).
    """

    config: NemoFrontendConfig
    window_W: Tensor
    filters_FM: Tensor

    def __init__(self, config: NemoFrontendConfig) -> None:
        super().__init__()
        self.config = config
        window_W = torch.hann_window(config.window, periodic=False)
        self.register_buffer("window_W", window_W, persistent=False)
        filters_FM = slaney_filters(config.n_fft, config.n_mels, config.sample_rate)
        self.register_buffer("filters_FM", filters_FM, persistent=False)
        self.transform = RealTransform512() if config.n_fft == POINTS else ExactTransform()
        before = (config.n_fft - config.window) // 2
        self.window_padding = (before, config.n_fft - config.window - before)
        # The last frame of a stream may come one step after its end, and then mirrors samples a window back.
        self.carried_samples = config.window - config.hop + 1

    def initial_state(self, batch: int, left_padding_samples: int = 0) -> NemoMelState:
        """The state of ``batch`` new streams; see :class:`FrontEnd`."""
        carried_BS = self.window_W.new_zeros(batch, self.carried_samples + 1)
        zeros_B = torch.zeros(batch, dtype=torch.long, device=carried_BS.device)
        return NemoMelState(carried_BS, zeros_B + left_padding_samples, zeros_B)

    def step(
        self, state: NemoMelState, pcm_BS: Tensor, lengths_B: Tensor | None = None
    ) -> tuple[NemoMelState, Tensor]:
        """Compute frames of the next samples of each stream; see :class:`FrontEnd`."""
        samples, c = pcm_BS.shape[1], self.config
        if samples % c.hop:
            raise ValueError(f"pcm must be whole hops of {c.hop} samples, got {samples}")
        if lengths_B is None:
            lengths_B = torch.full_like(state.past_end_B, samples)
        samples_BS = torch.cat((state.carried_BS, pcm_BS), dim=1)
        emphasised_BS = samples_BS[:, 1:] - c.preemphasis * samples_BS[:, :-1]
        end_B = lengths_B - state.past_end_B
        emphasised_BS = self._pad_edges(
            emphasised_BS, self.carried_samples + state.start_B, self.carried_samples + end_B
        )
        # The window of padded frame k ends where its hop ends; left padding centres it at its own frame.
        windows_BTW = (
            emphasised_BS[:, self.carried_samples - c.window + c.hop :].unfold(1, c.window, c.hop)
            * self.window_W
        )
        spectrum_BTF: Tensor = self.transform(nn.functional.pad(windows_BTW, self.window_padding))
        power_BTF: Tensor = spectrum_BTF.real.double().square() + spectrum_BTF.imag.double().square()
        mel_BTM = (power_BTF @ self.filters_FM + c.log_guard).log().float()
        new_state = NemoMelState(
            carried_BS=samples_BS[:, samples:],
            start_B=(state.start_B - samples).clamp(min=-self.carried_samples),
            past_end_B=state.past_end_B + samples - lengths_B,
        )
        return new_state, mel_BTM

    def forward(self, pcm_BS: Tensor, lengths_B: Tensor | None = None) -> Tensor:
        """Compute ``mel_BTM`` of whole utterances of any length; see :class:`FrontEnd`."""
        batch, samples = pcm_BS.shape
        c = self.config
        if lengths_B is None:
            lengths_B = torch.full((batch,), samples, device=pcm_BS.device)
        left_padding_frames = ceil_div(c.lookahead_samples, c.hop) - 1
        padding = (left_padding_frames + 1) * c.hop - c.lookahead_samples
        frames = (padding + samples + c.right_padding_samples) // c.hop
        line_BS = nn.functional.pad(pcm_BS, (padding, frames * c.hop - samples - padding))
        _, mel_BTM = self.step(self.initial_state(batch, padding), line_BS, lengths_B + padding)
        return mel_BTM[:, left_padding_frames:]

    def _pad_edges(self, emphasised_BS: Tensor, start_B: Tensor, end_B: Tensor) -> Tensor:
        """The samples from ``start_B`` to ``end_B``, with this generation's padding around them."""
        index_S = torch.arange(emphasised_BS.shape[1], device=emphasised_BS.device)
        start_B1, end_B1 = start_B[:, None], end_B[:, None]
        if self.config.generation == "current":
            return emphasised_BS * ((index_S >= start_B1) & (index_S < end_B1))
        mirrored_BS = torch.where(index_S < start_B1, 2 * start_B1 - index_S, index_S)
        mirrored_BS = torch.where(index_S >= end_B1, 2 * (end_B1 - 1) - index_S, mirrored_BS)
        inside_BS = (mirrored_BS >= start_B1) & (mirrored_BS < end_B1)
        return emphasised_BS.gather(1, mirrored_BS.clamp(0, emphasised_BS.shape[1] - 1)) * inside_BS


class ExactTransform(nn.Module):
    """Compute spectra in complex128, for transform lengths at which NeMo's rounding is unknown."""

    def forward(self, samples: Tensor) -> Tensor:
        """Return the spectra [..., N // 2 + 1] of frames [..., N]."""
        spectra: Tensor = torch.fft.rfft(samples.double())
        return spectra


def slaney_filters(n_fft: int, n_mels: int, sample_rate: int) -> Tensor:
    """Return triangular filters of equal area on Slaney's mel scale: [n_fft // 2 + 1, M], float64.

    They cover 0 Hz to half the sample rate. The scale is linear up to 1 kHz and logarithmic above (Slaney 1998, the
    Auditory Toolbox).
    """
    top = _LINEAR_MELS + math.log(sample_rate / 2 / _LINEAR_HZ) / _LOG_STEP
    mels = torch.linspace(0.0, top, n_mels + 2, dtype=torch.float64)
    above = _LINEAR_HZ * torch.exp((mels - _LINEAR_MELS) * _LOG_STEP)
    edges = torch.where(mels < _LINEAR_MELS, mels * _LINEAR_HZ_PER_MEL, above)
    low_M, centre_M, high_M = edges[:-2], edges[1:-1], edges[2:]
    hertz_F1 = torch.arange(n_fft // 2 + 1, dtype=torch.float64)[:, None] * (sample_rate / n_fft)
    rising_FM = (hertz_F1 - low_M) / (centre_M - low_M)
    falling_FM = (high_M - hertz_F1) / (high_M - centre_M)
    return torch.minimum(rising_FM, falling_FM).clamp(min=0.0) * 2.0 / (high_M - low_M)
