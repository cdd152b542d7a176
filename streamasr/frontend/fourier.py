"""Compute the Fourier transform of 512 real samples in float32 with the same rounding as NeMo.

Rounding is visible in the logarithm of quiet bands, so reproducing another front end's frames to 1e-5 requires the
same order of additions (docs/nemo.md has the figures). NeMo's order is that of ``torch.stft``, that is of Intel's MKL
on processors with AVX-512. Even and odd samples are the parts of 256 complex numbers, these are
transformed in two steps of radix 16 (Cooley and Tukey 1965), and their spectrum is separated. All values are results
of additions, products and fused products in float32, for any number of frames at once.

Shape suffixes: N the 16 numbers that a step transforms, F frames, J and K places of a number in the 16 columns and in
their results, H half of the spectrum, S the spectrum, P real and imaginary part, Q, R and G small groups.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

POINTS = 512
_HALF, _QUARTER, _EIGHTH, _RADIX = POINTS // 2, POINTS // 4, POINTS // 8, 16
_ROUNDED_UP = 3
"""The cosine of 3π/256 lies 0.49987 ulp above a float32 number; MKL rounds it up."""
_PAIRED_OUTPUTS = (4, 2, 10, 1, 5, 9, 13)
"""Results ``k`` of a column that are computed together with ``16 - k``, in order."""
_OUTPUT_ORDER = (0, 8, *_PAIRED_OUTPUTS, *(_RADIX - k for k in _PAIRED_OUTPUTS))


class RealTransform512(nn.Module):
    """``torch.fft.rfft`` of frames of 512 samples; see the module's docstring."""

    output_order_N: Tensor
    root_half: float
    shared_Q11: Tensor
    rotation_R11P: Tensor
    twiddle_cos_NFKP: Tensor
    twiddle_sin_NFK: Tensor
    second_cos_G11P: Tensor
    second_sin_G11: Tensor
    third_rotation_G11: Tensor
    third_scale_G11P: Tensor
    fourth_cos_G11P: Tensor
    fourth_sin_G11: Tensor
    half_cos_HP: Tensor
    half_sin_HP: Tensor

    def __init__(self) -> None:
        super().__init__()
        indices_N11, groups_G11 = torch.arange(_RADIX)[:, None, None], torch.arange(4)[:, None, None]
        angles_NFK = 2 * indices_N11 * indices_N11.flatten()
        indices_H = torch.arange(1, _QUARTER + 1)
        self.root_half = _cosines(torch.tensor([_EIGHTH])).item()
        cosine, sine = math.cos(math.pi / 8), math.sin(math.pi / 8)
        rotation_R = torch.tensor([cosine + sine, sine - cosine, sine - cosine, -cosine - sine])
        for name, factors in (
            ("output_order_N", torch.tensor(_OUTPUT_ORDER).argsort()),
            ("shared_Q11", _cosines(torch.tensor([160, 32]))[:, None, None]),
            ("rotation_R11P", _for_both_parts(rotation_R[:, None, None])),
            ("twiddle_cos_NFKP", _for_both_parts(_cosines(angles_NFK))),
            ("twiddle_sin_NFK", -1j * _sines(angles_NFK)),
            ("second_cos_G11P", _for_both_parts(_cosines(32 * groups_G11))),
            ("second_sin_G11", -1j * _sines(32 * groups_G11)),
            ("third_rotation_G11", torch.tensor([1, 1 - 1j, -1j, 1 + 1j])[:, None, None]),
            (
                "third_scale_G11P",
                _for_both_parts(torch.tensor([1, self.root_half, 1, -self.root_half])[:, None, None]),
            ),
            ("fourth_cos_G11P", _for_both_parts(_cosines(96 * groups_G11))),
            ("fourth_sin_G11", -1j * _sines(96 * groups_G11)),
            ("half_cos_HP", _for_both_parts(_cosines(indices_H))),
            ("half_sin_HP", _for_both_parts(_sines(indices_H))),
        ):
            self.register_buffer(name, factors, persistent=False)

    def forward(self, samples: Tensor) -> Tensor:
        """Compute spectra, complex64 [..., 257], of frames of samples, float32 [..., 512].

        Raises:
            ValueError: the frames have another length or data type.
        """
        if samples.shape[-1] != POINTS or samples.dtype != torch.float32:
            raise ValueError(
                f"frames must be {POINTS} samples in torch.float32, got {samples.shape[-1]} in {samples.dtype}"
            )
        x_FNJ = torch.complex(samples[..., ::2], samples[..., 1::2]).reshape(-1, _RADIX, _RADIX)
        columns_KFJ = self._columns(x_FNJ.transpose(0, 1).contiguous())
        x_NFK = columns_KFJ.transpose(0, 2).contiguous()
        rows_KFJ = self._rows(_fused(x_NFK, self.twiddle_cos_NFKP, x_NFK * self.twiddle_sin_NFK))
        spectrum_FS = self._separate(rows_KFJ.transpose(0, 1).flatten(1))
        return spectrum_FS.reshape(*samples.shape[:-1], _HALF + 1)

    def _columns(self, x_NFJ: Tensor) -> Tensor:
        """Transform 16 numbers; rotations by odd multiples of π/8 take three products."""
        sums, d = x_NFJ[:8] + x_NFJ[8:], x_NFJ[:8] - x_NFJ[8:]
        s, t = sums[:4] + sums[4:], sums[:4] - sums[4:]
        even, quarter = s[:2] + s[2:], s[:2] - s[2:]

        # The second half of each stack, and names that end in _i, are multiplied by i in the end.
        eighths = torch.stack((t[1] - t[3], d[2] - d[6], t[1] + t[3], d[2] + d[6]))
        rests = torch.stack((t[0], d[0], t[2], d[4]))
        plus, minus = _fused_sum_and_difference(eighths, self.root_half, rests)
        sixteenths = torch.stack((d[1] - d[7], d[1] + d[7], d[5] - d[3], d[5] + d[3]))
        shared = (sixteenths[2:] + sixteenths[:2]) * self.shared_Q11
        outer, outer_i, inner, inner_i = _fused(sixteenths, self.rotation_R11P, torch.cat((shared, shared)))

        real, imaginary = (
            torch.stack((first, plus[n], minus[n], plus[n + 1] + out, minus[n + 1] + into, plus[n + 1] - out,
                         minus[n + 1] - into))
            for n, first, out, into in ((0, quarter[0], outer, inner), (2, quarter[1], outer_i, inner_i))
        )  # fmt: skip
        results = (
            even[:1] + even[1:],
            even[:1] - even[1:],
            _minus_i(real, imaginary),
            _plus_i(real, imaginary),
        )
        return torch.cat(results)[self.output_order_N]

    def _rows(self, x_NFK: Tensor) -> Tensor:
        """Transform 16 numbers in two steps of radix 4."""
        sums, d = x_NFK[:8] + x_NFK[8:], x_NFK[:8] - x_NFK[8:]
        first, second = d[:4], d[4:]
        groups = (sums[:4] + sums[4:], _minus_i(first, second), sums[:4] - sums[4:], _plus_i(first, second))
        x0, x1, x2, x3 = torch.stack(groups, dim=1)
        x1 = _fused(x1, self.second_cos_G11P, x1 * self.second_sin_G11)
        x3 = _fused(x3, self.fourth_cos_G11P, x3 * self.fourth_sin_G11)
        plus, minus = _fused_sum_and_difference(x2 * self.third_rotation_G11, self.third_scale_G11P, x0)
        total, across = x1 + x3, x1 - x3
        return torch.cat((plus + total, _minus_i(minus, across), plus - total, _plus_i(minus, across)))

    def _separate(self, x_FH: Tensor) -> Tensor:
        """Compute the spectrum of real samples from that of complex numbers of even and odd samples."""
        half_FH = 0.5 * x_FH
        low_FH, high_FH = half_FH[:, 1 : _QUARTER + 1].conj_physical(), half_FH[:, _QUARTER:].flip(1)
        even_FH, odd_FH = high_FH + low_FH, high_FH - low_FH
        odd_i_FH = 1j * odd_FH
        low_FH = _fused(odd_i_FH, -self.half_cos_HP, _fused(odd_FH, self.half_sin_HP, even_FH))
        high_FH = _fused(odd_FH, -self.half_sin_HP, _fused(odd_i_FH, self.half_cos_HP, even_FH))
        real_F1, imaginary_F1 = x_FH[:, :1].real, x_FH[:, :1].imag
        first_F1, last_F1 = real_F1 + imaginary_F1, real_F1 - imaginary_F1
        return torch.cat((first_F1, low_FH.conj(), high_FH[:, :-1].flip(1), last_F1), dim=1)


def _minus_i(x: Tensor, y: Tensor) -> Tensor:
    """``x - i y``."""
    return torch.add(x, y, alpha=-1j)


def _plus_i(x: Tensor, y: Tensor) -> Tensor:
    """``x + i y``."""
    return torch.add(x, y, alpha=1j)


def _fused(x: Tensor, factors: Tensor, y: Tensor) -> Tensor:
    """Compute ``x * factors + y`` with one rounding; ``factors`` are from :func:`_for_both_parts`."""
    return _rounded(torch.addcmul(_widened(y), _widened(x), factors))


def _fused_sum_and_difference(x: Tensor, factors: Tensor | float, y: Tensor) -> tuple[Tensor, Tensor]:
    """Compute ``y + x * factors`` and ``y - x * factors``, each with one rounding."""
    wide_y, product = _widened(y), _widened(x) * factors
    return _rounded(wide_y + product), _rounded(wide_y - product)


def _for_both_parts(factors: Tensor) -> Tensor:
    """Repeat real factors [...] for real and imaginary parts: float64 [..., 2]."""
    return factors.double()[..., None].repeat_interleave(2, dim=-1)


def _widened(x: Tensor) -> Tensor:
    """Return the parts of complex64 numbers [...] as float64 [..., 2]."""
    return torch.view_as_real(x).double()


def _rounded(parts: Tensor) -> Tensor:
    """Round parts from :func:`_widened` back to complex64."""
    return torch.view_as_complex(parts.float())


def _cosines(k: Tensor) -> Tensor:
    """Return cos(πk / 256) in float32."""
    folded = (k % POINTS - _HALF).abs() - _QUARTER
    quarter = _QUARTER - folded.abs()
    cosines = (quarter.double() * (math.pi / _HALF)).cos().float()
    up = torch.nextafter(cosines, torch.full_like(cosines, torch.inf))
    return torch.where(quarter == _ROUNDED_UP, up, cosines) * folded.sign()


def _sines(k: Tensor) -> Tensor:
    """Return sin(πk / 256) in float32."""
    return _cosines(k - _QUARTER)
