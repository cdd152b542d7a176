"""Resample streams to the model's sample rate.

Shape suffix: S samples.
"""

from __future__ import annotations

import numpy as np
import soxr

from streamasr.frontend.pcm import Samples


class Resampler:
    """Resamples one stream with soxr, in high quality. Any split of the samples gives the same output.

    soxr holds some 20 ms back until more samples come or :meth:`flush` is called. Its state is opaque and has a
    fixed size. If both rates (in Hz) are equal, samples pass unchanged.
    """

    def __init__(self, source_rate: int, target_rate: int) -> None:
        self._soxr: soxr.ResampleStream | None = None
        if source_rate != target_rate:
            self._soxr = soxr.ResampleStream(source_rate, target_rate, 1, dtype="float32")

    def feed(self, samples_S: Samples) -> Samples:
        """Return the samples at the target rate that are ready; none for empty input."""
        if self._soxr is None or not samples_S.size:
            return samples_S
        resampled_S: Samples = self._soxr.resample_chunk(samples_S)
        return resampled_S

    def flush(self) -> Samples:
        """End the stream: return the samples that were held back, and start afresh."""
        if self._soxr is None:
            return np.zeros(0, dtype=np.float32)
        rest_S: Samples = self._soxr.resample_chunk(np.zeros(0, dtype=np.float32), last=True)
        self._soxr.clear()
        return rest_S
