"""Decode a session's bytes into samples at the model's rate.

Shape suffix: S samples.
"""

from __future__ import annotations

from streamasr.frontend.pcm import Samples, decode_pcm
from streamasr.frontend.resample import Resampler
from streamasr.recognition.options import SessionOptions


class PcmReader:
    """Decodes bytes in a session's encoding and resamples them to the model's rate.

    Args:
        options: give the encoding, the number of channels and the rate of the bytes.
        sample_rate: the model's rate, in Hz.
    """

    def __init__(self, options: SessionOptions, sample_rate: int) -> None:
        self._options = options
        self._resampler = Resampler(options.sample_rate, sample_rate)

    def feed(self, data: bytes) -> Samples:
        """Samples at the model's rate from ``data`` and what the resampler held back before.

        Raises:
            AudioError: ``data`` does not fit the session's encoding.
        """
        return self._resampler.feed(decode_pcm(data, self._options.encoding, self._options.channels))

    def flush(self) -> Samples:
        """The samples that the resampler still held; the reader then starts afresh."""
        return self._resampler.flush()
