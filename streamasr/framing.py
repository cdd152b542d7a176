"""Compute how samples become mel frames and encoder frames, for whole utterances and for streams in chunks.

A stream's chunks have equal lengths on a padded time line. It begins ``left_padding_samples`` before the first
sample and ends ``right_padding_samples`` after the last one. Left padding makes the first chunk shorter than the
others: an encoder frame is ready as soon as the newest sample that it depends on has arrived.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from streamasr.config import AnyFrontendConfig, EncoderConfig, NemoFrontendConfig
from streamasr.units import MS_PER_SECOND

if TYPE_CHECKING:
    from torch import Tensor

Count = TypeVar("Count", int, "Tensor")
"""A number, or a tensor with one number for each row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Framing:
    """The sample and frame arithmetic of a front end with an encoder."""

    sample_rate: int
    """Samples per second."""
    hop: int
    """Samples between two mel frames."""
    subsampling: int
    """Mel frames per encoder frame."""
    left_padding_frames: int
    """Mel frames of padding before a stream's first one."""
    left_padding_samples: int
    """Samples of padding before a stream's first one; its first chunk is shorter by them."""
    right_padding_samples: int
    """Samples of padding after a stream's end."""
    unit: int
    """A stream's length is a whole number of units of this many samples."""
    rounds_up: bool
    """Whether silence completes the last unit; otherwise the rest is dropped."""
    sample_delay: int
    """Samples from the middle of an encoder frame's receptive field, without attention, to the frame."""

    @property
    def frame_samples(self) -> int:
        """Samples for each encoder frame."""
        return self.hop * self.subsampling

    @property
    def frame_ms(self) -> float:
        """Milliseconds for each encoder frame."""
        return self.frame_samples * MS_PER_SECOND / self.sample_rate

    def padded_mel_frames(self, samples: Count) -> Count:
        """Return the mel frames, left padding included, in ``samples`` samples of the padded time line."""
        spare = self.unit - 1 if self.rounds_up else 0
        return (samples + spare) // self.unit * (self.unit // self.hop)

    def padded_samples(self, samples: Count) -> Count:
        """The length of an utterance of ``samples`` samples with the silence that completes its last unit."""
        return (samples + self.unit - 1) // self.unit * self.unit if self.rounds_up else samples

    def mel_frames(self, samples: Count) -> Count:
        """Mel frames of a whole utterance of ``samples`` samples; 0 if it is empty."""
        frames = self.padded_mel_frames(samples + (self.left_padding_samples + self.right_padding_samples))
        return (frames - self.left_padding_frames) * (samples > 0)

    def encoder_frames(self, mel_frames: Count) -> Count:
        """Encoder frames of a whole utterance of ``mel_frames`` mel frames."""
        return (
            (mel_frames + self.left_padding_frames + self.subsampling - 1)
            // self.subsampling
            * (mel_frames > 0)
        )


def framing_of(frontend: AnyFrontendConfig, encoder: EncoderConfig) -> Framing:
    """Return the framing of ``frontend`` with ``encoder``."""
    left_padding_samples = (encoder.left_padding_frames + 1) * frontend.hop - frontend.lookahead_samples
    is_nemo = isinstance(frontend, NemoFrontendConfig)
    # Mel frame m is centred at sample hop * m - mel_delay; an encoder frame's receptive field ends at its last one.
    mel_delay = 0 if is_nemo else frontend.n_fft // 2 - frontend.hop
    frames_back = encoder.left_padding_frames or 1
    return Framing(
        sample_rate=frontend.sample_rate,
        hop=frontend.hop,
        subsampling=encoder.subsampling,
        left_padding_frames=encoder.left_padding_frames,
        left_padding_samples=left_padding_samples,
        right_padding_samples=frontend.right_padding_samples,
        # An encoder without left padding has whole frames only.
        unit=frontend.hop if encoder.left_padding_frames else frontend.hop * encoder.subsampling,
        rounds_up=not is_nemo,
        sample_delay=frames_back * frontend.hop + mel_delay + frontend.hop * encoder.subsampling // 2,
    )
