"""What a training run tells while it runs, as values; every listener (terminal, file, TensorBoard) takes the same.

Knows nothing of who listens. Losses are per encoder frame, rates are shares of one, times are seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted:
    """A run begins, or goes on after a checkpoint: what was told of later steps before did not happen."""

    step: int
    """Steps done already; 0 for a new run."""
    steps: int
    """Steps of the whole schedule."""
    name: str
    """Of the model."""
    frame_ms: float
    """Length of an encoder frame, for chunk sizes in milliseconds."""
    recipe: str = ""
    """The recipe as TOML."""
    unit: Literal["word", "character"] = "word"
    """What the headline error rate counts: words (WER), or characters (CER) where words are not spaced."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepReport:
    """The state of training after a step, averaged over the steps since the last report."""

    step: int
    hours: float
    """Audio heard since the run began, in hours."""
    loss: float
    """The weighted sum that is minimised."""
    ctc: float
    intermediate: float
    consistency: float
    distillation: float
    blank_share: float
    """Share of frames whose best token is the blank."""
    gradient_norm: float
    learning_rate: float
    """The highest of the layers' rates."""
    speed: float
    """Audio seconds a second."""
    padding_share: float
    """Share of the batch's samples that are padding."""
    unalignable: int
    """Rows, since the run began, whose text is longer than their frames allow; they count nothing in the loss."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DevReport:
    """Greedy error rates of the averaged weights on a dev manifest, at one chunk size, with a few samples."""

    step: int
    manifest: str
    chunk_frames: int
    loss: float
    """CTC per encoder frame."""
    wer: float
    cer: float
    substitutions: int
    insertions: int
    deletions: int
    words: int
    samples: tuple[tuple[str, str], ...] = ()
    """(reference, hypothesis) pairs, always the same utterances."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """Something that goes wrong in training, in plain words."""

    step: int
    kind: str
    """Short name: ``not_finite``, ``all_blank``, ``repeats``, ``lengths`` or ``transcripts``."""
    finding: str
    cause: str
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparationProgress:
    """Before a run begins: something that it hears is decoded, or simulated, into its cache.

    For those who watch. It is no part of what a run was, so no log keeps it.
    """

    what: str
    """``speech``, a dev manifest's name, or ``noises and rooms``."""
    done: int
    total: int
    """Utterances, sounds or rooms."""
    hours: float
    """Of audio decoded so far; 0 where nobody counts them."""


Event = RunStarted | StepReport | DevReport | Diagnosis
Observer = Callable[[Event | PreparationProgress], None]
