"""How samples become mel frames and encoder frames: arithmetic for whole utterances and for streams in chunks.

A stream's chunks are of equal length on a time line that begins ``lead_samples`` before the first sample and ends
``tail_samples`` after the last one. The lead is what makes the first chunk shorter than the others: an encoder frame
is ready as soon as the newest sample it looks at has come. Knows configurations; no tensor's content.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from streamasr.config import AnyFrontendConfig, EncoderConfig, NemoFrontendConfig

if TYPE_CHECKING:
    from torch import Tensor

Count = TypeVar("Count", int, "Tensor")
"""A number, or one for every row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Framing:
    """The arithmetic of one front end before one encoder."""

    hop: int
    """Samples between two mel frames."""
    subsampling: int
    """Mel frames for one encoder frame."""
    lead_frames: int
    """Mel frames that the encoder looks for before a stream's first one."""
    lead_samples: int
    """Samples that a stream's first chunk lacks."""
    tail_samples: int
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

    def slots(self, samples: Count) -> Count:
        """Mel frames, the lead included, in so many samples of the time line."""
        spare = self.unit - 1 if self.rounds_up else 0
        return (samples + spare) // self.unit * (self.unit // self.hop)

    def completed(self, samples: Count) -> Count:
        """So many samples of an utterance, and the silence that completes them to whole units."""
        return (samples + self.unit - 1) // self.unit * self.unit if self.rounds_up else samples

    def mel_frames(self, samples: Count) -> Count:
        """Mel frames of a whole utterance of so many samples; none where it has no sample."""
        slots = self.slots(samples + (self.lead_samples + self.tail_samples))
        return (slots - self.lead_frames) * (samples > 0)

    def encoder_frames(self, mel_frames: Count) -> Count:
        """Encoder frames of a whole utterance of so many mel frames."""
        return (mel_frames + self.lead_frames + self.subsampling - 1) // self.subsampling * (mel_frames > 0)


def framing_of(frontend: AnyFrontendConfig, encoder: EncoderConfig) -> Framing:
    """The arithmetic of ``frontend`` before ``encoder``."""
    lead_samples = (encoder.lead_frames + 1) * frontend.hop - frontend.lookahead_samples
    own_end = isinstance(frontend, NemoFrontendConfig)
    # Mel frame m lies around sample hop * m - mel_delay; the middle of what encoder frame i sees, some frames back.
    mel_delay = 0 if own_end else frontend.n_fft // 2 - frontend.hop
    frames_back = encoder.lead_frames or 1
    return Framing(
        hop=frontend.hop,
        subsampling=encoder.subsampling,
        lead_frames=encoder.lead_frames,
        lead_samples=lead_samples,
        tail_samples=frontend.tail_samples,
        # An encoder without a lead has no notion of a part of a frame either.
        unit=frontend.hop if encoder.lead_frames else frontend.hop * encoder.subsampling,
        rounds_up=not own_end,
        sample_delay=frames_back * frontend.hop + mel_delay + frontend.hop * encoder.subsampling // 2,
    )
