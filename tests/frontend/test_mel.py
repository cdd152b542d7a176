"""Test log-mel frames and cepstra: Whisper's arithmetic with a shifted window, and any split of the samples."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from streamasr.config import FrontendConfig
from streamasr.errors import ConfigError
from streamasr.frontend.mel import LogMel

CONFIG = FrontendConfig()
CEPSTRA = FrontendConfig(n_mfcc=13)


@pytest.fixture(scope="module")
def log_mel() -> LogMel:
    return LogMel(CONFIG)


@pytest.fixture(scope="module")
def mfcc() -> LogMel:
    return LogMel(CEPSTRA)


def test_frames_are_whispers_with_the_window_ending_at_the_hop(log_mel: LogMel) -> None:
    pcm_S = torch.randn(160 * 20) * 0.1
    padded_S = torch.nn.functional.pad(pcm_S, (240, 0))
    spectrum_FT = torch.stft(
        padded_S, 400, 160, window=torch.hann_window(400), center=False, return_complex=True
    )
    mel_MT = (log_mel.filters_FM.T @ spectrum_FT.abs().square()).clamp(min=1e-10).log10()
    expected_TM = ((mel_MT.clamp(min=CONFIG.floor_log10) + 4) / 4).T
    torch.testing.assert_close(log_mel(pcm_S[None])[0], expected_TM, atol=1e-5, rtol=0)


@settings(max_examples=30, deadline=None)
@given(hops=st.lists(st.integers(1, 9), min_size=1, max_size=12))
def test_any_split_gives_the_same_frames(log_mel: LogMel, mfcc: LogMel, hops: list[int]) -> None:
    pcm_BS = torch.randn(2, 160 * sum(hops)) * 0.1
    for frontend in (log_mel, mfcc):
        state, frames = frontend.initial_state(2), []
        for part_BS in pcm_BS.split([160 * h for h in hops], dim=1):
            state, mel_BTM = frontend.step(state, part_BS)
            frames.append(mel_BTM)
        torch.testing.assert_close(torch.cat(frames, dim=1), frontend(pcm_BS), atol=1e-5, rtol=0)


def test_cepstra_are_the_cosine_transform_of_the_bands(log_mel: LogMel, mfcc: LogMel) -> None:
    pcm_BS = torch.randn(2, 1600) * 0.1
    bands_BTM, cepstra_BTC = log_mel(pcm_BS), mfcc(pcm_BS)
    assert cepstra_BTC.shape == (2, 10, CEPSTRA.features)
    m, c = torch.arange(80), torch.arange(13)
    cosines_MC = torch.cos(torch.pi / 80 * (m[:, None] + 0.5) * c) * math.sqrt(2 / 80)
    cosines_MC[:, 0] /= math.sqrt(2)
    torch.testing.assert_close(cepstra_BTC, bands_BTM @ cosines_MC, atol=1e-4, rtol=1e-4)


def test_more_cepstra_than_bands_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"^n_mfcc must be 0 to n_mels \(80\), got 81"):
        FrontendConfig(n_mfcc=81)


def test_silence_lies_on_the_floor(log_mel: LogMel) -> None:
    mel_BTM = log_mel(torch.zeros(1, 1600))
    assert torch.all(mel_BTM == (CONFIG.floor_log10 + 4) / 4)


def test_a_broken_hop_is_refused(log_mel: LogMel) -> None:
    with pytest.raises(ValueError, match="whole hops of 160 samples, got 100"):
        log_mel.step(log_mel.initial_state(1), torch.zeros(1, 100))
