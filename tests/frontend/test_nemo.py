"""Test NeMo's mel frames against torch's short-time transform, at the edges, and for any split of the samples."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from streamasr.config import FastConformerEncoderConfig, NemoFrontendConfig
from streamasr.errors import ConfigError
from streamasr.framing import framing_of
from streamasr.frontend.nemo import NemoLogMel, slaney_filters

ENCODER = FastConformerEncoderConfig()
FRAME = 1_280
TOLERANCE = 1e-5


@pytest.fixture(scope="module", params=["current", "legacy"])
def frontend(request: pytest.FixtureRequest) -> NemoLogMel:
    return NemoLogMel(NemoFrontendConfig(generation=request.param))


def stream(frontend: NemoLogMel, pcm_S: Tensor, cuts: list[int]) -> Tensor:
    """Return the mel frames of a stream in steps of ``cuts`` encoder frames, without the left padding."""
    framing = framing_of(frontend.config, ENCODER)
    left_padding, right_padding = framing.left_padding_samples, framing.right_padding_samples
    frames = framing.padded_mel_frames(left_padding + len(pcm_S) + right_padding)
    line_S = torch.nn.functional.pad(pcm_S, (left_padding, right_padding + FRAME * (max(cuts) + 1)))
    state, at, out = frontend.initial_state(1, left_padding), 0, []
    while at < frames * framing.hop:
        step = FRAME * (cuts.pop(0) if len(cuts) > 1 else cuts[0])
        valid = min(max(left_padding + len(pcm_S) - at, 0), step)
        state, mel_BTM = frontend.step(state, line_S[None, at : at + step], torch.tensor([valid]))
        out.append(mel_BTM[0])
        at += step
    return torch.cat(out)[framing.left_padding_frames : frames]


@pytest.mark.parametrize("samples", [2_000, 16_000, 16_159, 16_160])
def test_frames_are_those_of_a_centred_transform(frontend: NemoLogMel, samples: int) -> None:
    torch.manual_seed(0)
    pcm_S = torch.randn(samples) * 0.1
    flat_S = torch.cat((pcm_S[:1], pcm_S[1:] - 0.97 * pcm_S[:-1])).double()
    spectrum_FT = torch.stft(
        flat_S,
        512,
        160,
        400,
        window=torch.hann_window(400, periodic=False, dtype=torch.float64),
        center=True,
        pad_mode="constant" if frontend.config.generation == "current" else "reflect",
        return_complex=True,
    )
    power_FT = spectrum_FT.abs().square()
    expected_TM = (slaney_filters(512, 80, 16_000).T @ power_FT + 2.0**-24).log().T.float()
    frames = samples // 160 + (frontend.config.generation == "legacy")
    assert frames == framing_of(frontend.config, ENCODER).mel_frames(samples)
    # The front end multiplies by the window in float32, as NeMo does.
    torch.testing.assert_close(frontend(pcm_S[None])[0], expected_TM[:frames], atol=5e-5, rtol=0)


@settings(max_examples=40, deadline=None)
@given(
    samples=st.integers(1, 9_000),
    cuts=st.lists(st.integers(1, 4), min_size=1, max_size=6),
    seed=st.integers(0, 99),
)
def test_any_steps_give_the_same_frames(
    frontend: NemoLogMel, samples: int, cuts: list[int], seed: int
) -> None:
    torch.manual_seed(seed)
    pcm_S = torch.randn(samples) * 0.1
    torch.testing.assert_close(
        stream(frontend, pcm_S, cuts), frontend(pcm_S[None])[0], atol=TOLERANCE, rtol=0
    )


def test_a_long_stream_leaves_the_state_as_large_as_it_was(frontend: NemoLogMel) -> None:
    state = frontend.initial_state(2, 1_080)
    sizes = [leaf.shape for leaf in state]
    pcm_BS = torch.randn(2, 3 * FRAME)
    for _ in range(300):
        state, mel_BTM = frontend.step(state, pcm_BS)
    assert [leaf.shape for leaf in state] == sizes
    assert state.carried_BS.shape == (2, 242)
    assert (state.start_B == -241).all()
    assert (state.past_end_B == 0).all()
    assert torch.isfinite(mel_BTM).all()


def test_rows_of_different_lengths_equal_single_ones(frontend: NemoLogMel) -> None:
    lengths = [9_000, 4_321, 700]
    pcm_BS = torch.randn(3, 9_000) * 0.1
    mel_BTM = frontend(pcm_BS, torch.tensor(lengths))
    for row, length in enumerate(lengths):
        alone_TM = frontend(pcm_BS[row : row + 1, :length])[0]
        torch.testing.assert_close(mel_BTM[row, : len(alone_TM)], alone_TM, atol=TOLERANCE, rtol=0)


def test_a_sound_too_short_to_mirror_is_silent_beyond_its_mirror_image() -> None:
    frontend = NemoLogMel(NemoFrontendConfig(generation="legacy"))
    mel_BTM = frontend(torch.full((1, 30), 0.5))
    assert mel_BTM.shape == (1, 1, 80)
    assert torch.isfinite(mel_BTM).all()


def test_filters_have_slaneys_centres_and_equal_area() -> None:
    filters_FM = slaney_filters(512, 80, 16_000)
    hertz_F = torch.arange(257) * 31.25
    mels_M = torch.arange(1, 81) * (15 + 27 * math.log(8) / math.log(6.4)) / 81
    centres_M = torch.where(mels_M < 15, mels_M * 200 / 3, 1000 * 6.4 ** ((mels_M - 15) / 27))
    peak_M = hertz_F[filters_FM.argmax(dim=0)]
    assert (peak_M - centres_M).abs().max() <= 31.25
    wide = filters_FM[:, 60:]
    torch.testing.assert_close(
        wide.sum(dim=0) * 31.25, torch.ones(20, dtype=torch.float64), atol=0.05, rtol=0
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"window": 300}, r"at least two hops \(320\) and at most n_fft \(512\), got 300"),
        ({"window": 600}, "^window must be even"),
        ({"preemphasis": 1.0}, "^preemphasis must be from 0 to below 1, got 1.0"),
        ({"hop": 0}, "hop must be positive, got 0"),
    ],
)
def test_invalid_settings_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        NemoFrontendConfig(**change)


def test_a_broken_hop_is_refused(frontend: NemoLogMel) -> None:
    with pytest.raises(ValueError, match="whole hops of 160 samples, got 100"):
        frontend.step(frontend.initial_state(1), torch.zeros(1, 100))
