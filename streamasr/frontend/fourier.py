"""The Fourier transform of 512 real samples in float32, rounded as NeMo's own is.

How a transform rounds shows in the logarithm of quiet bands, so a front end that is to give another one's frames to
1e-5 has to add in the same order (docs/nemo.md has the figures). NeMo's order is that of ``torch.stft``, so that of
Intel's MKL: on processors with AVX-512 as here. Even and odd samples are the parts of 256 complex numbers, these are
transformed in two steps of radix 16 (Cooley and Tukey 1965), and their spectrum is taken apart. Every value is what
additions, products and fused products in float32 give, on any device and for any number of frames at once.

Shape suffixes: N the 16 numbers that a step transforms, F frames, J and K places of a number in the 16 columns and in
their results, H half of the spectrum, S the spectrum, P real and imaginary part.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

POINTS = 512
_HALF, _QUARTER, _RADIX = POINTS // 2, POINTS // 4, 16
_TIED = 3
"""The cosine of 3π/256 lies 0.49987 of a last place above a float32 number, and is rounded up."""


def _cosines(k: Tensor) -> Tensor:
    """Cosines of ``k`` 256ths of π in float32."""
    folded = (k % POINTS - _HALF).abs() - _QUARTER
    quarter = _QUARTER - folded.abs()
    cosines = (quarter.double() * (math.pi / _HALF)).cos().float()
    up = torch.nextafter(cosines, torch.full_like(cosines, torch.inf))
    return torch.where(quarter == _TIED, up, cosines) * folded.sign()


def _turn(sixteenths: int) -> tuple[float, float]:
    """Cosine and sine of so many sixteenths of 2π in float32."""
    k = torch.tensor([32 * sixteenths])
    return _cosines(k).item(), _cosines(k - _QUARTER).item()


_TURNS = {n: _turn(n) for n in (1, 2, 3, 6, 9)}
(_COS_8, _SIN_8), (_COS_4, _) = _TURNS[1], _TURNS[2]
_SUM_8, _DIFFERENCE_8 = (
    torch.tensor(math.cos(math.pi / 8) + sign * math.sin(math.pi / 8)).item() for sign in (1, -1)
)


class RealTransform512(nn.Module):
    """``torch.fft.rfft`` of frames of 512 samples, see this file's head."""

    turn_cos_NFKP: Tensor
    turn_sin_NFK: Tensor
    half_cos_HP: Tensor
    half_sin_HP: Tensor

    def __init__(self) -> None:
        super().__init__()
        places = torch.arange(_RADIX)
        turns_NFK = 2 * places[:, None, None] * places
        halves_H = torch.arange(1, _QUARTER + 1)
        # Factors of fused products are in float64, in which all but their last rounding is exact.
        for name, factors in (
            ("turn_cos_NFKP", _for_both_parts(_cosines(turns_NFK))),
            ("turn_sin_NFK", -1j * _cosines(turns_NFK - _QUARTER)),
            ("half_cos_HP", _for_both_parts(_cosines(halves_H))),
            ("half_sin_HP", _for_both_parts(_cosines(halves_H - _QUARTER))),
        ):
            self.register_buffer(name, factors, persistent=False)

    def forward(self, samples: Tensor) -> Tensor:
        """Spectra, complex64 [..., 257], of frames of samples, float32 [..., 512].

        Raises:
            ValueError: the samples are of another number or type.
        """
        if samples.shape[-1] != POINTS or samples.dtype != torch.float32:
            raise ValueError(
                f"frames must be {POINTS} samples in torch.float32, got {samples.shape[-1]} in {samples.dtype}"
            )
        x_FNJ = torch.complex(samples[..., ::2], samples[..., 1::2]).reshape(-1, _RADIX, _RADIX)
        columns_KFJ = _columns(x_FNJ.transpose(0, 1).contiguous())
        x_NFK = columns_KFJ.transpose(0, 2).contiguous()
        rows_KFJ = _rows(_fused(x_NFK, self.turn_cos_NFKP, x_NFK * self.turn_sin_NFK))
        spectrum_FS = self._taken_apart(rows_KFJ.transpose(0, 1).flatten(1))
        return spectrum_FS.reshape(*samples.shape[:-1], _HALF + 1)

    def _taken_apart(self, x_FH: Tensor) -> Tensor:
        """The spectrum of samples, from that of complex numbers whose parts the even and the odd ones are."""
        half_FH = 0.5 * x_FH
        low_FH, high_FH = half_FH[:, 1 : _QUARTER + 1].conj_physical(), half_FH[:, _QUARTER:].flip(1)
        even_FH, odd_FH = high_FH + low_FH, high_FH - low_FH
        odd_i_FH = 1j * odd_FH
        low_FH = _fused(odd_i_FH, -self.half_cos_HP, _fused(odd_FH, self.half_sin_HP, even_FH))
        high_FH = _fused(odd_FH, -self.half_sin_HP, _fused(odd_i_FH, self.half_cos_HP, even_FH))
        real_F1, imaginary_F1 = x_FH[:, :1].real, x_FH[:, :1].imag
        first_F1, last_F1 = real_F1 + imaginary_F1, real_F1 - imaginary_F1
        return torch.cat((first_F1, low_FH.conj(), high_FH[:, :-1].flip(1), last_F1), dim=1)


def _columns(x_NFJ: Tensor) -> Tensor:
    """Transform of 16 numbers in which turns by odd multiples of π/8 take three products."""
    sums, differences = x_NFJ[:8] + x_NFJ[8:], x_NFJ[:8] - x_NFJ[8:]
    y = _fourths(sums[:4] + sums[4:])

    t0, t1, t2, t3 = sums[:4] - sums[4:]
    (along, back), (along_i, back_i) = _fused_pair(t1 - t3, _COS_4, t0), _fused_pair(t1 + t3, _COS_4, t2)
    _put_pair(y, 2, along, along_i)
    _put_pair(y, 10, back, back_i)

    d0, d1, d2, d3, d4, d5, d6, d7 = differences
    a, b, c, d = d1 - d7, d5 - d3, d1 + d7, d5 + d3
    shared, shared_i = -_SIN_8 * (b + a), _COS_8 * (d + c)
    outer, outer_i = _fused(a, _SUM_8, shared), _fused(c, -_DIFFERENCE_8, shared_i)
    inner, inner_i = _fused(b, -_DIFFERENCE_8, shared), _fused(d, -_SUM_8, shared_i)
    (along, back), (along_i, back_i) = _fused_pair(d2 - d6, _COS_4, d0), _fused_pair(d2 + d6, _COS_4, d4)
    _put_pair(y, 1, along + outer, along_i + outer_i)
    _put_pair(y, 5, back + inner, back_i + inner_i)
    _put_pair(y, 9, along - outer, along_i - outer_i)
    _put_pair(y, 13, back - inner, back_i - inner_i)
    return torch.stack([y[k] for k in range(_RADIX)])


def _rows(x_NFK: Tensor) -> Tensor:
    """Transform of 16 numbers in two steps of four."""
    sums, differences = x_NFK[:8] + x_NFK[8:], x_NFK[:8] - x_NFK[8:]
    y = _fourths(sums[:4] + sums[4:])
    first, second = differences[:4], differences[4:]
    for k, inputs in (
        (1, torch.add(first, second, alpha=-1j)),
        (2, sums[:4] - sums[4:]),
        (3, torch.add(first, second, alpha=1j)),
    ):
        x0, x1, x2, x3 = inputs
        x1, x3 = _turned(x1, k), _turned(x3, 3 * k)
        if k == 2:
            along, back = torch.add(x0, x2, alpha=-1j), torch.add(x0, x2, alpha=1j)
        else:
            cosine, minus_i = (_COS_4, -1j) if k == 1 else (-_COS_4, 1j)
            along, back = _fused_pair(torch.add(x2, x2, alpha=minus_i), cosine, x0)
        y[k], y[k + 8] = along + (x1 + x3), along - (x1 + x3)
        y[k + 4], y[k + 12] = torch.add(back, x1 - x3, alpha=-1j), torch.add(back, x1 - x3, alpha=1j)
    return torch.stack([y[k] for k in range(_RADIX)])


def _fourths(x: Tensor) -> dict[int, Tensor]:
    """Transform of four numbers: every fourth result of 16."""
    x0, x1, x2, x3 = x
    even, odd = x0 + x2, x1 + x3
    y = {0: even + odd, 8: even - odd}
    _put_pair(y, 4, x0 - x2, x1 - x3)
    return y


def _put_pair(y: dict[int, Tensor], k: int, x: Tensor, x_i: Tensor) -> None:
    """Results ``k`` and ``16 - k``, from which the same is subtracted and added a quarter turn ahead."""
    y[k], y[_RADIX - k] = torch.add(x, x_i, alpha=-1j), torch.add(x, x_i, alpha=1j)


def _turned(x: Tensor, sixteenths: int) -> Tensor:
    """``x`` turned back by so many sixteenths of 2π; each part takes a product and a fused product."""
    cosine, sine = _TURNS[sixteenths]
    return _fused(x, cosine, -1j * sine * x)


def _fused(x: Tensor, factor: Tensor | float, y: Tensor) -> Tensor:
    """``x * factor + y`` rounded once, ``factor`` real: exact in float64 but for that rounding."""
    wide_x, wide_y = _widened(x), _widened(y)
    if isinstance(factor, Tensor):
        return _rounded(torch.addcmul(wide_y, wide_x, factor))
    return _rounded(torch.add(wide_y, wide_x, alpha=factor))


def _fused_pair(x: Tensor, factor: float, y: Tensor) -> tuple[Tensor, Tensor]:
    """``y + x * factor`` and ``y - x * factor``, each rounded once."""
    wide_y, change = _widened(y), _widened(x) * factor
    return _rounded(wide_y + change), _rounded(wide_y - change)


def _for_both_parts(factors: Tensor) -> Tensor:
    """Factors of :func:`_fused`, of a real and an imaginary part each."""
    return factors.double()[..., None].repeat_interleave(2, dim=-1)


def _widened(x: Tensor) -> Tensor:
    """Parts of complex64 numbers [...] as float64 [..., 2]."""
    return torch.view_as_real(x).double()


def _rounded(parts: Tensor) -> Tensor:
    """Back from :func:`_widened`."""
    return torch.view_as_complex(parts.float())
