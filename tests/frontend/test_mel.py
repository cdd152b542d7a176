"""Log-mel frames: Whisper's own arithmetic at a shifted window, and any split of the samples."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from streamasr.config import FrontendConfig
from streamasr.frontend.mel import LogMel

CONFIG = FrontendConfig()


@pytest.fixture(scope="module")
def log_mel() -> LogMel:
    return LogMel(CONFIG)


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
def test_any_split_gives_the_same_frames(log_mel: LogMel, hops: list[int]) -> None:
    pcm_BS = torch.randn(2, 160 * sum(hops)) * 0.1
    state, frames = log_mel.initial_state(2), []
    for part_BS in pcm_BS.split([160 * h for h in hops], dim=1):
        state, mel_BTM = log_mel.step(state, part_BS)
        frames.append(mel_BTM)
    torch.testing.assert_close(torch.cat(frames, dim=1), log_mel(pcm_BS), atol=1e-5, rtol=0)


def test_silence_lies_on_the_floor(log_mel: LogMel) -> None:
    mel_BTM = log_mel(torch.zeros(1, 1600))
    assert torch.all(mel_BTM == (CONFIG.floor_log10 + 4) / 4)


def test_a_broken_hop_is_refused(log_mel: LogMel) -> None:
    with pytest.raises(ValueError, match="whole hops of 160 samples, got 100"):
        log_mel.step(log_mel.initial_state(1), torch.zeros(1, 100))
