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

    tail_BS: Tensor
    """The newest samples, which the next frames' windows or their mirror images still need."""
    start_B: Tensor
    """Position of the first sample relative to the next one; limited to the carried samples."""
    past_B: Tensor
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
        self.tail = config.window - config.hop + 1

    def initial_state(self, batch: int, left_padding_samples: int = 0) -> NemoMelState:
        """The state of ``batch`` new streams; see :class:`FrontEnd`."""
        like = self.window_W
        zeros_B = torch.zeros(batch, dtype=torch.long, device=like.device)
        return NemoMelState(like.new_zeros(batch, self.tail + 1), zeros_B + left_padding_samples, zeros_B)

    def step(
        self, state: NemoMelState, pcm_BS: Tensor, lengths_B: Tensor | None = None
    ) -> tuple[NemoMelState, Tensor]:
        """Compute frames of the next samples of each stream; see :class:`FrontEnd`."""
        samples, c = pcm_BS.shape[1], self.config
        if samples % c.hop:
            raise ValueError(f"pcm must be whole hops of {c.hop} samples, got {samples}")
        if lengths_B is None:
            lengths_B = torch.full_like(state.past_B, samples)
        heard_BS = torch.cat((state.tail_BS, pcm_BS), dim=1)
        flat_BS = heard_BS[:, 1:] - c.preemphasis * heard_BS[:, :-1]
        end_B = lengths_B - state.past_B
        flat_BS = self._edged(flat_BS, self.tail + state.start_B, self.tail + end_B)
        # The window of padded frame k ends where its hop ends; left padding centres it at its own frame.
        windows_BTW = flat_BS[:, self.tail - c.window + c.hop :].unfold(1, c.window, c.hop) * self.window_W
        spectrum_BTF: Tensor = self.transform(nn.functional.pad(windows_BTW, self.window_padding))
        power_BTF: Tensor = spectrum_BTF.real.double().square() + spectrum_BTF.imag.double().square()
        mel_BTM = (power_BTF @ self.filters_FM + c.log_guard).log().float()
        new_state = NemoMelState(
            tail_BS=heard_BS[:, samples:],
            start_B=(state.start_B - samples).clamp(min=-self.tail),
            past_B=state.past_B + samples - lengths_B,
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

    def _edged(self, flat_BS: Tensor, start_B: Tensor, end_B: Tensor) -> Tensor:
        """The samples from ``start_B`` to ``end_B``, with this generation's padding around them."""
        index_S = torch.arange(flat_BS.shape[1], device=flat_BS.device)
        first, behind = start_B[:, None], end_B[:, None]
        if self.config.generation == "current":
            return flat_BS * ((index_S >= first) & (index_S < behind))
        mirrored_BS = torch.where(index_S < first, 2 * first - index_S, index_S)
        mirrored_BS = torch.where(index_S >= behind, 2 * (behind - 1) - index_S, mirrored_BS)
        sounds_BS = (mirrored_BS >= first) & (mirrored_BS < behind)
        return flat_BS.gather(1, mirrored_BS.clamp(0, flat_BS.shape[1] - 1)) * sounds_BS


class ExactTransform(nn.Module):
    """Compute spectra in complex128, for transform lengths at which NeMo's rounding is unknown."""

    def forward(self, samples: Tensor) -> Tensor:
        """Of frames [..., N], [..., N // 2 + 1]."""
        spectra: Tensor = torch.fft.rfft(samples.double())
        return spectra


def slaney_filters(n_fft: int, n_mels: int, sample_rate: int) -> Tensor:
    """Triangles of equal area on Slaney's mel scale, 0 Hz to half the sample rate: [n_fft // 2 + 1, M], in float64.

    The scale is linear up to 1 kHz and logarithmic from there on (Slaney 1998, the Auditory Toolbox).
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
