"""Compare two encoders: step both through the same audio, each with its own state.

Shape suffixes: B batch, T mel frames, F frames of a long recording, M mel bands, V tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from streamasr.acoustic.interface import AnyStreamingEncoder

LOG_PROB_TOLERANCE = 5e-4
"""Largest allowed difference between a log-prob of a float32 graph and of the float64 encoder (docs/export.md) …"""
PROBABILITY_TOLERANCE = 1e-4
"""… and between two probabilities."""
FRAMES = 256
"""Encoder frames of a row in each chunk size, within :data:`STEPS`."""
STEPS = (8, 48)
"""Fewest and most steps of a row."""
_BATCHES = (1, 3)


@dataclass(frozen=True, slots=True)
class Agreement:
    """How closely two encoders agree."""

    steps: int
    frames: int
    worst: float
    """The largest difference of two log-probs."""
    worst_probability: float
    """Largest absolute difference between two probabilities."""
    mean: float
    """Mean absolute difference between two log-probs."""
    same_best: float
    """Share of frames with the same most probable token."""

    @property
    def within_tolerance(self) -> bool:
        """Whether both differences are within what rounding in float32 explains on any processor."""
        return self.worst <= LOG_PROB_TOLERANCE and self.worst_probability <= PROBABILITY_TOLERANCE


@torch.inference_mode()
def compare(
    reference: AnyStreamingEncoder, other: AnyStreamingEncoder, mel_FM: Tensor, seed: int = 0
) -> Agreement:
    """Step both through ``mel_FM`` in every chunk size, alone and in batches of rows of different lengths.

    Each gets the audio in its own precision, so that rounding of the input is no part of the difference. Each row
    begins at a random frame of ``mel_FM``, which is repeated as needed. About half of the rows of
    a step are shorter than the chunk, by whole encoder frames; in a stream's last step by any number of mel frames.
    """
    generator = torch.Generator().manual_seed(seed)
    differences, probabilities, best, steps = [], [], [], 0
    for chunk in reference.chunk_frames:
        for batch in _BATCHES:
            states = [encoder.initial_state(batch) for encoder in (reference, other)]
            time_T = torch.arange(chunk * reference.subsampling)
            position_B = torch.randint(len(mel_FM), (batch,), generator=generator)
            count = min(max(FRAMES // chunk, STEPS[0]), STEPS[1])
            for number in range(count):
                mel_BTM = mel_FM[(position_B[:, None] + time_T) % len(mel_FM)]
                lengths_B = _lengths(batch, chunk, reference.subsampling, number == count - 1, generator)
                advance_B = _advance(reference, chunk, lengths_B)
                position_B = position_B + (lengths_B if advance_B is None else advance_B)
                outs = [
                    encoder.step(state, mel_BTM.to(_precision(state)), lengths_B, advance_B)
                    for encoder, state in zip((reference, other), states, strict=True)
                ]
                states = [out.state for out in outs]
                steps += 1
                for row, frames in enumerate(outs[0].lengths_B.tolist()):
                    a_TV, b_TV = (out.log_probs_BTV[row, :frames] for out in outs)
                    differences.append((a_TV - b_TV).abs().flatten())
                    probabilities.append((a_TV.exp() - b_TV.exp()).abs().flatten())
                    best.append(a_TV.argmax(-1) == b_TV.argmax(-1))
    difference, same = torch.cat(differences), torch.cat(best)
    return Agreement(
        steps=steps,
        frames=len(same),
        worst=_largest(difference),
        worst_probability=_largest(torch.cat(probabilities)),
        mean=float(difference.mean()),
        same_best=float(same.float().mean()),
    )


def _largest(differences: Tensor) -> float:
    """Return the maximum; infinity if any value is NaN or infinite, so that NaN never counts as agreement."""
    return float(differences.max()) if bool(differences.isfinite().all()) else float("inf")


def _precision(state: tuple[Tensor, ...]) -> torch.dtype:
    precision: torch.dtype = next(leaf.dtype for leaf in state if leaf.is_floating_point())
    return precision


def _advance(encoder: AnyStreamingEncoder, chunk: int, lengths_B: Tensor) -> Tensor | None:
    """One hop for a whole chunk; a shorter row is at its end and has no look-ahead."""
    if encoder.hops_per_chunk == 1:
        return None
    full = chunk * encoder.subsampling
    return torch.where(lengths_B == full, full // encoder.hops_per_chunk, lengths_B)


def _lengths(batch: int, chunk: int, subsampling: int, last: bool, generator: torch.Generator) -> Tensor:
    full = chunk * subsampling
    shorter = torch.randint(chunk + 1, (batch,), generator=generator) * subsampling
    if last:
        shorter = torch.randint(1, full + 1, (batch,), generator=generator)
    ragged = torch.rand(batch, generator=generator) < 0.5
    return torch.where(ragged, shorter, torch.full_like(shorter, full))
