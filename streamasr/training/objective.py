"""Compute the loss of a batch, as one module that ``DistributedDataParallel`` can wrap.

Losses are sums, not means. The trainer divides them by the frames of the whole step, over all batches and processes,
so the gradient does not depend on how the step is divided into batches.
Shape suffixes: B rows, T encoder frames, M mel bands, V tokens, D model width.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from streamasr.acoustic import AnyEncoder
from streamasr.training import losses
from streamasr.training.config import TrainConfig
from streamasr.training.crf import CrfLoss
from streamasr.training.data.batches.prepare import FeatureBatch

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class LossSums(NamedTuple):
    """Sums over the frames of a batch; ``loss`` is minimised, the others are for reports."""

    loss: Tensor
    ctc: Tensor
    crf: Tensor
    intermediate: Tensor
    consistency: Tensor
    distillation: Tensor
    blanks: Tensor
    """Number of frames whose most probable token is the blank."""


class Objective(nn.Module):
    """The encoder with its losses.

    Args:
        config: the recipe.
        encoder: the encoder to train.
        blank: the blank's id.
        teacher: a frozen encoder of the same architecture, for distillation; ``None`` without distillation.
        crf: the CTC-CRF loss; ``None`` without it.
    """

    def __init__(
        self,
        config: TrainConfig,
        encoder: AnyEncoder,
        blank: int,
        teacher: AnyEncoder | None,
        crf: CrfLoss | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        self.blank = blank
        self.teacher = teacher
        self.crf = crf
        self.teacher_projection: nn.Linear | None = None
        if teacher is not None:
            dim = config.encoder.dim
            self.teacher_projection = nn.Linear(dim, dim, device=next(teacher.parameters()).device)
            nn.init.eye_(self.teacher_projection.weight)
        if config.compile:
            encoder.compile_layers()
        self.dtype = _DTYPES[config.precision]
        weights = config.loss
        middle = (config.encoder.layers + 1) // 2
        self.tap_layer = (weights.intermediate_layer or middle) if weights.intermediate else None

    def forward(self, batch: FeatureBatch) -> LossSums:
        """Compute the losses of a batch.

        Raises:
            ValueError: the lengths in the batch are inconsistent.
        """
        with torch.autocast(batch.mel_BTM.device.type, self.dtype, enabled=self.dtype != torch.float32):
            return self._losses(batch)

    def _losses(self, batch: FeatureBatch) -> LossSums:
        weights, encoder = self.config.loss, self.encoder
        hidden_BTD, frames_B, tapped_BTD = encoder.encode(
            batch.mel_BTM,
            batch.lengths_B,
            batch.chunk_B,
            batch.position_B,
            tap_layer=self.tap_layer,
            checkpoint_layers=self.config.checkpoint_layers and self.training,
        )
        log_probs_BTV = encoder.log_probs(hidden_BTD)
        mask_BT = torch.arange(hidden_BTD.shape[1], device=frames_B.device) < frames_B[:, None]
        zero = log_probs_BTV.new_zeros(())
        crf = intermediate = consistency = distillation = zero
        ctc = self._ctc(log_probs_BTV, frames_B, batch)
        loss = ctc
        if self.crf is not None:
            crf = self.crf(
                log_probs_BTV,
                frames_B,
                batch.targets,
                batch.target_lengths_B,
                transcribed_B=batch.transcribed_B,
            )
            loss = (1 - weights.crf) * loss + weights.crf * crf
        if tapped_BTD is not None:
            intermediate = self._ctc(encoder.log_probs(tapped_BTD), frames_B, batch)
            loss = (1 - weights.intermediate) * loss + weights.intermediate * intermediate
        if weights.label_smoothing:
            smooth = losses.smoothing(log_probs_BTV, mask_BT)
            loss = (1 - weights.label_smoothing) * loss + weights.label_smoothing * smooth
        if weights.consistency:
            consistency = losses.consistency(log_probs_BTV, mask_BT)
            loss = loss + weights.consistency * consistency
        if self.teacher is not None and self.teacher_projection is not None and batch.clean_BTM is not None:
            one_view = len(batch.clean_BTM)
            with torch.no_grad():
                teacher_BTD = self.teacher.encode(
                    batch.clean_BTM, batch.lengths_B[:one_view], None, batch.position_B[:one_view]
                ).hidden_BTD
            views = len(hidden_BTD) // one_view
            distillation = losses.distillation(
                self.teacher_projection(hidden_BTD), teacher_BTD.repeat(views, 1, 1), mask_BT
            )
            loss = loss + weights.distillation * distillation
        blanks = ((log_probs_BTV.argmax(dim=-1) == self.blank) & mask_BT).sum()
        return LossSums(
            loss=loss,
            ctc=ctc.detach(),
            crf=crf.detach(),
            intermediate=intermediate.detach(),
            consistency=consistency.detach(),
            distillation=distillation.detach(),
            blanks=blanks,
        )

    def _ctc(self, log_probs_BTV: Tensor, frames_B: Tensor, batch: FeatureBatch) -> Tensor:
        return losses.ctc(
            log_probs_BTV,
            frames_B,
            batch.targets,
            batch.target_lengths_B,
            self.blank,
            transcribed_B=batch.transcribed_B,
        )
