"""The parts of the training loss, each summed over rows and frames; the trainer divides by the frames.

Shape suffixes: B rows, T encoder frames, V tokens, D model width.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def ctc(
    log_probs_BTV: Tensor,
    frames_B: Tensor,
    targets: Tensor,
    target_lengths_B: Tensor,
    blank: int,
    *,
    transcribed_B: Tensor | None = None,
) -> Tensor:
    """Connectionist temporal classification (Graves et al. 2006), summed; a row too short for its text counts 0.

    Args:
        log_probs_BTV: natural-log token probabilities.
        frames_B: real encoder frames of each row (not mel frames, not samples).
        targets: token ids of all rows, one after another, without blanks.
        target_lengths_B: tokens of each row.
        blank: the blank's id.
        transcribed_B: false where nobody knows what is said: such a row counts 0, too. All are known by default.

    Raises:
        ValueError: lengths that cannot be: torch would read past a row's end, or give a wrong loss in silence.
    """
    rows, frames, _ = log_probs_BTV.shape
    if not len(frames_B) == len(target_lengths_B) == rows:
        raise ValueError(
            f"{rows} rows, but {len(frames_B)} frame counts and {len(target_lengths_B)} target lengths"
        )
    if int(frames_B.max()) > frames:
        raise ValueError(
            f"a row of {int(frames_B.max())} frames in a batch of {frames}: lengths must be in encoder frames"
        )
    if int(target_lengths_B.sum()) != len(targets):
        raise ValueError(
            f"target lengths add up to {int(target_lengths_B.sum())}, targets are {len(targets)}"
        )
    loss_B = F.ctc_loss(
        log_probs_BTV.transpose(0, 1),
        targets,
        frames_B,
        target_lengths_B,
        blank=blank,
        reduction="none",
        zero_infinity=True,
    )
    return (loss_B if transcribed_B is None else loss_B * transcribed_B).sum()


def consistency(log_probs_BTV: Tensor, mask_BT: Tensor) -> Tensor:
    """CR-CTC (Yao et al. 2024): each half of the batch is drawn towards the other half, which stands still.

    Summed over the frames of both views, as CTC is: divided by them, half of each sum remains, as in the paper.

    Args:
        log_probs_BTV: rows ``0 … B/2`` are one view of the sound, the rest another of the same sound.
        mask_BT: 1 for real frames.
    """
    first, second = log_probs_BTV.chunk(2)
    other = F.kl_div(first, second.detach(), reduction="none", log_target=True)
    back = F.kl_div(second, first.detach(), reduction="none", log_target=True)
    return ((other + back).sum(dim=-1) * mask_BT[: len(first)]).sum()


def smoothing(log_probs_BTV: Tensor, mask_BT: Tensor) -> Tensor:
    """Cross entropy between the uniform distribution and each frame's tokens, summed over real frames."""
    return -(log_probs_BTV.mean(dim=-1) * mask_BT).sum()


def distillation(student_BTD: Tensor, teacher_BTD: Tensor, mask_BT: Tensor) -> Tensor:
    """One minus the cosine between the student's and the teacher's hidden states, summed over real frames."""
    similarity = F.cosine_similarity(student_BTD.float(), teacher_BTD.float(), dim=-1)
    return ((1.0 - similarity) * mask_BT).sum()
