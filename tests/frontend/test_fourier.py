"""Compare the float32 transform with MKL's on AVX-512, bit by bit, and with the exact one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from streamasr.frontend.fourier import POINTS, RealTransform512

RECORDED = Path(__file__).parent.parent / "data/transform/avx512.npz"
EPSILON = torch.finfo(torch.float32).eps


@pytest.fixture(scope="module")
def transform() -> RealTransform512:
    return RealTransform512()


def noise(frames: int, seed: int) -> Tensor:
    return torch.randn(frames, POINTS, generator=torch.Generator().manual_seed(seed))


def test_every_bit_is_that_of_mkl_on_avx512(transform: RealTransform512) -> None:
    recorded = np.load(RECORDED)
    spectrum_FS = transform(torch.from_numpy(recorded["samples"]))
    assert spectrum_FS.dtype == torch.complex64
    # -0 equals 0 here, as it does in everything that is made of them.
    assert torch.equal(spectrum_FS, torch.from_numpy(recorded["spectrum"]))


@settings(max_examples=25, deadline=None)
@given(frames=st.integers(1, 40), seed=st.integers(0, 999), scale=st.floats(1e-6, 1e3))
def test_rounding_is_all_that_is_between_it_and_the_exact_transform(
    transform: RealTransform512, frames: int, seed: int, scale: float
) -> None:
    samples_FN = noise(frames, seed) * scale
    exact_FS = torch.fft.rfft(samples_FN.double())
    off_FS = (transform(samples_FN) - exact_FS).abs()
    assert (off_FS <= 6 * EPSILON * samples_FN.double().norm(dim=1, keepdim=True)).all()
    assert (off_FS > 0).any()


@settings(max_examples=10, deadline=None)
@given(frames=st.integers(2, 60), seed=st.integers(0, 999))
def test_a_frame_has_the_same_spectrum_beside_any_others(
    transform: RealTransform512, frames: int, seed: int
) -> None:
    samples_FN = noise(frames, seed)
    together_FS = transform(samples_FN)
    assert torch.equal(together_FS, torch.stack([transform(samples_N) for samples_N in samples_FN]))
    assert torch.equal(together_FS[None], transform(samples_FN[None]))


@pytest.mark.parametrize("place", [0, 1, 17, 255, 511])
def test_an_impulse_has_the_same_magnitude_everywhere(transform: RealTransform512, place: int) -> None:
    samples_N = torch.zeros(POINTS)
    samples_N[place] = 1.0
    spectrum_S = transform(samples_N)
    angle_S = -2 * torch.pi * place * torch.arange(POINTS // 2 + 1, dtype=torch.float64) / POINTS
    torch.testing.assert_close(
        spectrum_S.to(torch.complex128),
        torch.polar(torch.ones_like(angle_S), angle_S),
        atol=4 * EPSILON,
        rtol=0,
    )


def test_frames_may_overlap_in_memory(transform: RealTransform512) -> None:
    line_N = noise(3, 0).flatten()
    frames_FN = line_N[1:].unfold(0, POINTS, 161)
    assert torch.equal(transform(frames_FN), transform(frames_FN.clone()))


def test_silence_is_silent(transform: RealTransform512) -> None:
    assert not transform(torch.zeros(3, POINTS)).any()


@pytest.mark.parametrize(
    ("samples", "found"),
    [(torch.zeros(2, 400), "400 in torch.float32"), (torch.zeros(512).double(), "512 in torch.float64")],
)
def test_other_frames_are_refused(transform: RealTransform512, samples: Tensor, found: str) -> None:
    with pytest.raises(ValueError, match=rf"frames must be 512 samples in torch.float32, got {found}"):
        transform(samples)
