"""Any sample rate to the model's, streaming. Knows no encoding and no session.

Shape suffix: S samples.
"""

from __future__ import annotations

import numpy as np
import soxr

from streamasr.frontend.pcm import Samples


class Resampler:
    """One stream's resampler (soxr, high quality). Any split of the samples gives the same output.

    soxr holds some 20 ms back until more comes or :meth:`flush` is called; its state is opaque and of fixed
    size. Where both rates (in Hz) are equal the samples pass through.
    """

    def __init__(self, source_rate: int, target_rate: int) -> None:
        self._soxr: soxr.ResampleStream | None = None
        if source_rate != target_rate:
            self._soxr = soxr.ResampleStream(source_rate, target_rate, 1, dtype="float32")

    def feed(self, samples_S: Samples) -> Samples:
        """What can be said at the target rate after these samples; empty where none came in."""
        if self._soxr is None or not samples_S.size:
            return samples_S
        resampled_S: Samples = self._soxr.resample_chunk(samples_S)
        return resampled_S

    def flush(self) -> Samples:
        """What was held back, ending the stream; the resampler is then as new."""
        if self._soxr is None:
            return np.zeros(0, dtype=np.float32)
        rest_S: Samples = self._soxr.resample_chunk(np.zeros(0, dtype=np.float32), last=True)
        self._soxr.clear()
        return rest_S
