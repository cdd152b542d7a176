"""Define the events of a training run, which all observers (log, terminal, TensorBoard, page) receive.

Losses are per encoder frame, rates are shares from 0 to 1, times are in seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted:
    """A run starts, or resumes from a checkpoint. Events of later steps that were emitted before are void."""

    step: int
    """Number of steps that are done; 0 for a new run."""
    steps: int
    """Number of steps of the whole schedule."""
    name: str
    """Name of the model."""
    frame_ms: float
    """Length of an encoder frame in milliseconds."""
    recipe: str = ""
    """The recipe as TOML."""
    unit: Literal["word", "character"] = "word"
    """Unit of the main error rate: words (WER), or characters (CER) for languages without spaces."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepReport:
    """Figures after a step, as means over the steps since the last report."""

    step: int
    hours: float
    """Hours of audio that the run has trained on."""
    loss: float
    """The weighted sum of the losses, which is minimised."""
    ctc: float
    crf: float = 0.0
    """CTC-CRF."""
    intermediate: float
    consistency: float
    distillation: float
    blank_share: float
    """Share of frames whose best token is the blank."""
    gradient_norm: float
    learning_rate: float
    """The highest learning rate of the layers."""
    speed: float
    """Seconds of audio per second."""
    padding_share: float
    """Share of the batches' samples that are padding."""
    unalignable: int
    """Number of rows since the start of the run with more tokens than their frames allow; they count as 0 in the
    loss."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DevReport:
    """Error rates of the averaged weights on a dev manifest at one chunk size, with greedy decoding."""

    step: int
    manifest: str
    chunk_frames: int
    loss: float
    """CTC loss per encoder frame."""
    wer: float
    cer: float
    substitutions: int
    insertions: int
    deletions: int
    words: int
    samples: tuple[tuple[str, str], ...] = ()
    """(reference, hypothesis) pairs of a few utterances, the same ones in each report."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """A problem that was detected in training."""

    step: int
    kind: str
    """Short name: ``not_finite``, ``all_blank``, ``repeats``, ``lengths`` or ``transcripts``."""
    finding: str
    cause: str
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparationProgress:
    """Progress of decoding audio or simulating rooms before a run starts.

    It is shown in the terminal and not logged.
    """

    what: str
    """``speech``, a dev manifest's name, or ``noises and rooms``."""
    done: int
    total: int
    """Number of utterances, noises or rooms."""
    hours: float
    """Hours of audio decoded so far; 0 for noises and rooms."""


Event = RunStarted | StepReport | DevReport | Diagnosis
Observer = Callable[[Event | PreparationProgress], None]
