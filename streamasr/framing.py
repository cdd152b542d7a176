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
"""A number, or one for every row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Framing:
    """The arithmetic of one front end before one encoder."""

    sample_rate: int
    """Samples a second."""
    hop: int
    """Samples between two mel frames."""
    subsampling: int
    """Mel frames for one encoder frame."""
    left_padding_frames: int
    """Mel frames that the encoder looks for before a stream's first one."""
    left_padding_samples: int
    """Samples that a stream's first chunk lacks."""
    right_padding_samples: int
    """Samples that the front end makes up behind a stream's end."""
    unit: int
    """Samples in whole numbers of which streams end …"""
    rounds_up: bool
    """… completed with silence to a whole one, or without the rest."""
    sample_delay: int
    """Samples by which an encoder frame lags the sound in the middle of what it sees without attention."""

    @property
    def frame_samples(self) -> int:
        """Samples of an encoder frame."""
        return self.hop * self.subsampling

    @property
    def frame_ms(self) -> float:
        """Milliseconds of an encoder frame."""
        return self.frame_samples * MS_PER_SECOND / self.sample_rate

    def padded_mel_frames(self, samples: Count) -> Count:
        """Mel frames, left padding included, in ``samples`` samples of the padded time line."""
        spare = self.unit - 1 if self.rounds_up else 0
        return (samples + spare) // self.unit * (self.unit // self.hop)

    def completed(self, samples: Count) -> Count:
        """So many samples of an utterance, and the silence that completes them to whole units."""
        return (samples + self.unit - 1) // self.unit * self.unit if self.rounds_up else samples

    def mel_frames(self, samples: Count) -> Count:
        """Mel frames of a whole utterance of so many samples; none where it has no sample."""
        frames = self.padded_mel_frames(samples + (self.left_padding_samples + self.right_padding_samples))
        return (frames - self.left_padding_frames) * (samples > 0)

    def encoder_frames(self, mel_frames: Count) -> Count:
        """Encoder frames of a whole utterance of so many mel frames."""
        return (
            (mel_frames + self.left_padding_frames + self.subsampling - 1)
            // self.subsampling
            * (mel_frames > 0)
        )


def framing_of(frontend: AnyFrontendConfig, encoder: EncoderConfig) -> Framing:
    """The arithmetic of ``frontend`` before ``encoder``."""
    left_padding_samples = (encoder.left_padding_frames + 1) * frontend.hop - frontend.lookahead_samples
    own_end = isinstance(frontend, NemoFrontendConfig)
    # Mel frame m lies around sample hop * m - mel_delay; the middle of what encoder frame i sees, some frames back.
    mel_delay = 0 if own_end else frontend.n_fft // 2 - frontend.hop
    frames_back = encoder.left_padding_frames or 1
    return Framing(
        sample_rate=frontend.sample_rate,
        hop=frontend.hop,
        subsampling=encoder.subsampling,
        left_padding_frames=encoder.left_padding_frames,
        left_padding_samples=left_padding_samples,
        right_padding_samples=frontend.right_padding_samples,
        # An encoder without a lead has no notion of a part of a frame either.
        unit=frontend.hop if encoder.left_padding_frames else frontend.hop * encoder.subsampling,
        rounds_up=not own_end,
        sample_delay=frames_back * frontend.hop + mel_delay + frontend.hop * encoder.subsampling // 2,
    )
