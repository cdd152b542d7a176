"""Decode a session's bytes into samples at the model's rate.

Shape suffix: S samples.
"""

from __future__ import annotations

from streamasr.errors import AudioError
from streamasr.frontend.pcm import Samples, decode_pcm, frame_bytes
from streamasr.frontend.resample import Resampler
from streamasr.recognition.input_check import InputCheck
from streamasr.recognition.options import SessionOptions
from streamasr.recognition.rate_check import RateCheck


class PcmReader:
    """Decodes bytes in a session's encoding and resamples them to the model's rate.

    Messages may end anywhere: the bytes of an incomplete frame wait for the next message.

    Args:
        options: give the encoding, the number of channels and the rate of the bytes.
        sample_rate: the model's rate, in Hz.
    """

    def __init__(self, options: SessionOptions, sample_rate: int) -> None:
        self._options = options
        self._resampler = Resampler(options.sample_rate, sample_rate)
        self._input_check = InputCheck(options)
        self._rate_check = RateCheck(options.sample_rate)
        self._frame_bytes = frame_bytes(options.encoding, options.channels)
        self._partial_frame = b""
        self._warning: str | None = None

    @property
    def partial_frame_bytes(self) -> int:
        """Bytes that wait for the rest of their frame; fewer than a frame has."""
        return len(self._partial_frame)

    def drop_partial_frame(self) -> None:
        """Drop the bytes of an incomplete frame: the client sends the whole frame again."""
        self._partial_frame = b""

    def feed(self, data: bytes) -> Samples:
        """Return samples at the model's rate: those of ``data`` and those that the resampler held back before.

        Raises:
            AudioError: ``data`` does not fit the session's encoding.
        """
        data = self._partial_frame + data
        whole = len(data) - len(data) % self._frame_bytes
        self._warning = self._input_check.check(data[:whole]) or self._warning
        try:
            samples_S = decode_pcm(data[:whole], self._options.encoding, self._options.channels)
        except AudioError as error:
            error.message += self._input_check.explain(data[:whole])
            raise
        self._partial_frame = data[whole:]
        self._warning = self._warning or self._rate_check.check(samples_S)
        return self._resampler.feed(samples_S)

    def flush(self) -> Samples:
        """Return the samples that the resampler still holds, and reset it."""
        self._warning = self._input_check.judge() or self._warning
        return self._resampler.flush()

    def take_warning(self) -> str | None:
        """Return what is suspicious about the audio read so far, once."""
        warning, self._warning = self._warning, None
        return warning
