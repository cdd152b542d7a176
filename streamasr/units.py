"""Convert between milliseconds and samples. Audio time is counted in samples, never by a clock."""

from __future__ import annotations

MS_PER_SECOND = 1000


def ms_to_samples(ms: float, sample_rate: int) -> int:
    """Return ``ms`` milliseconds as the nearest whole number of samples at ``sample_rate`` Hz."""
    return round(ms * sample_rate / MS_PER_SECOND)


def samples_to_ms(samples: int, sample_rate: int) -> int:
    """Return the duration of ``samples`` samples at ``sample_rate`` Hz in the nearest whole milliseconds."""
    return round(samples * MS_PER_SECOND / sample_rate)


def ceil_div(numerator: int, denominator: int) -> int:
    """Divide and round up to an integer."""
    return -(-numerator // denominator)
