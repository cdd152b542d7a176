"""Test that the frames that NumPy computes are those that PyTorch computes, however the samples are split."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from streamasr.acoustic import whisper
from streamasr.acoustic.positions import periodic_positions
from streamasr.config import FrontendConfig
from streamasr.frontend.mel import LogMel
from streamasr.frontend.numpy_mel import NumpyLogMel, mel_filters

CONFIGS = [FrontendConfig(), FrontendConfig(n_mels=40, n_mfcc=13), FrontendConfig(n_mels=128)]
LOUD, QUIET = 0.5, 1e-3
TOLERANCE = 1e-4
"""NumPy transforms in float64, PyTorch in float32: quiet bands beside loud ones differ in their last digits."""


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: f"{config.n_mels}-{config.n_mfcc}")
def test_filters_and_windows_are_those_of_pytorch(config: FrontendConfig) -> None:
    reference = LogMel(config)
    np.testing.assert_allclose(mel_filters(config), reference.filters_FM.numpy(), atol=2e-6)
    np.testing.assert_allclose(NumpyLogMel(config)._window_W, reference.window_W.numpy(), atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(
    config=st.sampled_from(CONFIGS),
    hops=st.lists(st.integers(1, 12), min_size=1, max_size=5),
    level=st.sampled_from([LOUD, QUIET, 0.0]),
    seed=st.integers(0, 2**31),
)
def test_frames_are_those_of_pytorch(
    config: FrontendConfig, hops: list[int], level: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    parts = [level * rng.standard_normal((2, count * config.hop)).astype(np.float32) for count in hops]
    ours, reference = NumpyLogMel(config), LogMel(config)
    state, theirs = ours.initial_state(2), reference.initial_state(2)
    for part_BS in parts:
        state, mel_BTM = ours.step(state, part_BS)
        theirs, expected_BTM = reference.step(theirs, torch.from_numpy(part_BS))
        np.testing.assert_allclose(mel_BTM, expected_BTM.numpy(), atol=TOLERANCE)
        np.testing.assert_array_equal(state[:, :-3], theirs.carried_BS.numpy())
        np.testing.assert_array_equal(state[:, -3:], theirs.levels_B3.numpy())
    whole_BTM = ours.step(ours.initial_state(2), np.concatenate(parts, axis=1))[1]
    assert whole_BTM.dtype == np.float32
    assert whole_BTM.shape == (2, sum(hops), config.n_mfcc or config.n_mels)


@pytest.mark.parametrize(("period", "longest", "dim"), [(1500, 0, 64), (3000, 200, 512)])
def test_positions_are_those_of_pytorch(period: int, longest: int, dim: int) -> None:
    expected_PD = whisper.periodic_positions(period, longest, dim).numpy()
    np.testing.assert_allclose(periodic_positions(period, longest, dim), expected_PD, atol=1e-6)
