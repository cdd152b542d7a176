"""Sum losses and other figures over steps and processes for the next report.

The sums stay on the device, so no step waits for their values.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
from torch import Tensor

from streamasr.training.data.batches.prepare import FeatureBatch
from streamasr.training.distributed import ProcessGroup
from streamasr.training.monitoring.events import StepReport
from streamasr.training.objective import LossSums

_SUMS = len(LossSums._fields) + 2


class StepStatistics:
    """Sums over the steps since the last report.

    Args:
        group: the processes to sum over.
        seconds: seconds of audio that all processes together have trained on so far.
    """

    def __init__(self, group: ProcessGroup, seconds: float) -> None:
        self.group = group
        self._begin(seconds)

    def _begin(self, seconds: float) -> None:
        self._seconds_before = seconds
        self._started = time.perf_counter()
        self._sums = torch.zeros(_SUMS, device=self.group.device)
        self._norms: list[Tensor] = []

    def add(
        self, batches: Sequence[FeatureBatch], sums: Sequence[LossSums], frames: Tensor, norm: Tensor | None
    ) -> None:
        """Add a step.

        Args:
            batches: the batches of the step on this process.
            sums: the losses of each batch.
            frames: number of encoder frames of the batches.
            norm: norm of the gradient; ``None`` if it was not finite, in which case the step is ignored.
        """
        if norm is None:
            return
        padding = sum(batch.padding_share for batch in batches) / len(batches)
        losses = torch.stack([torch.stack([part.float() for part in parts]) for parts in sums]).sum(dim=0)
        self._sums += torch.cat((losses, frames[None].float(), losses.new_tensor([padding])))
        self._norms.append(norm)

    def report(self, *, step: int, seconds: float, learning_rate: float, unalignable: int) -> StepReport:
        """Return the means since the last report, the same on every process, and start new sums.

        Args:
            step: number of the last step.
            seconds: seconds of audio that all processes together have trained on so far.
            learning_rate: the highest learning rate of the parameter groups.
            unalignable: number of rows since the start of the run that CTC cannot align.
        """
        steps = max(1, len(self._norms))
        *sums, frames, padding = self.group.sum(self._sums).tolist()
        frames = max(1.0, frames)
        parts = dict(zip(LossSums._fields, (value / frames for value in sums), strict=True))
        elapsed = time.perf_counter() - self._started
        report = StepReport(
            step=step,
            hours=seconds / 3600,
            loss=parts["loss"],
            ctc=parts["ctc"],
            crf=parts["crf"],
            intermediate=parts["intermediate"],
            consistency=parts["consistency"],
            distillation=parts["distillation"],
            blank_share=parts["blanks"],
            gradient_norm=float(torch.stack(self._norms).mean()) if self._norms else float("nan"),
            learning_rate=learning_rate,
            speed=(seconds - self._seconds_before) / max(elapsed, 1e-9),
            padding_share=padding / (steps * self.group.size),
            unalignable=unalignable,
        )
        self._begin(seconds)
        return report
