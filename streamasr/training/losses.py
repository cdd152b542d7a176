"""Compute the parts of the training loss, each summed over rows and frames; the trainer divides by the frames.

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
    """Compute the CTC loss of :func:`ctc_rows`, summed over the rows."""
    return ctc_rows(
        log_probs_BTV, frames_B, targets, target_lengths_B, blank, transcribed_B=transcribed_B
    ).sum()


def ctc_rows(
    log_probs_BTV: Tensor,
    frames_B: Tensor,
    targets: Tensor,
    target_lengths_B: Tensor,
    blank: int,
    *,
    transcribed_B: Tensor | None = None,
) -> Tensor:
    """Compute each row's CTC loss (Graves et al. 2006); a row with too few frames for its tokens counts as 0.

    Args:
        log_probs_BTV: natural-log token probabilities.
        frames_B: number of encoder frames in each row (not mel frames or samples), without padding.
        targets: token ids of all rows, concatenated, without blanks.
        target_lengths_B: number of tokens in each row.
        blank: the blank's id.
        transcribed_B: false for rows without a transcript, which count as 0; ``None`` if all rows have one.

    Raises:
        ValueError: the lengths are inconsistent, for which torch would read past the end of a row, or return a wrong
            loss without an error.
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
    return loss_B if transcribed_B is None else loss_B * transcribed_B


def consistency(log_probs_BTV: Tensor, mask_BT: Tensor) -> Tensor:
    """Compute the consistency loss of CR-CTC (Yao et al. 2024) between two views of the same audio.

    It is the Kullback-Leibler divergence of each view from the other, whose gradient is stopped. As with CTC, the sum
    is divided later by the frames of both views, which leaves half of each divergence, as in the paper.

    Args:
        log_probs_BTV: the first B/2 rows are one view of the audio, the others the second view in the same order.
        mask_BT: true for frames that are not padding.
    """
    first, second = log_probs_BTV.chunk(2)
    other = F.kl_div(first, second.detach(), reduction="none", log_target=True)
    back = F.kl_div(second, first.detach(), reduction="none", log_target=True)
    return ((other + back).sum(dim=-1) * mask_BT[: len(first)]).sum()


def smoothing(log_probs_BTV: Tensor, mask_BT: Tensor) -> Tensor:
    """Compute the cross entropy between the uniform distribution and each frame's token probabilities.

    The result is summed over the frames that are not padding.
    """
    return -(log_probs_BTV.mean(dim=-1) * mask_BT).sum()


def distillation(student_BTD: Tensor, teacher_BTD: Tensor, mask_BT: Tensor) -> Tensor:
    """Compute one minus the cosine similarity of the student's and the teacher's hidden states.

    The result is summed over the frames that are not padding.
    """
    similarity = F.cosine_similarity(student_BTD.float(), teacher_BTD.float(), dim=-1)
    return ((1.0 - similarity) * mask_BT).sum()
