"""Sums over the steps since the last report, over all processes; kept on the device: no step waits for them."""

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
    """What the next report will say.

    Args:
        group: the processes to sum over.
        seconds: audio heard so far, by all.
    """

    def __init__(self, group: ProcessGroup, seconds: float) -> None:
        self.group = group
        self._begin(seconds)

    def _begin(self, seconds: float) -> None:
        self._heard_before = seconds
        self._started = time.perf_counter()
        self._sums = torch.zeros(_SUMS, device=self.group.device)
        self._norms: list[Tensor] = []

    def add(
        self, batches: Sequence[FeatureBatch], sums: Sequence[LossSums], frames: Tensor, norm: Tensor | None
    ) -> None:
        """A step of ``batches`` with their ``frames``; ``norm`` is None where the gradient was not finite."""
        if norm is None:
            return
        padding = sum(batch.padding_share for batch in batches) / len(batches)
        own = torch.stack([torch.stack([part.float() for part in parts]) for parts in sums]).sum(dim=0)
        self._sums += torch.cat((own, frames[None].float(), own.new_tensor([padding])))
        self._norms.append(norm)

    def report(self, *, step: int, seconds: float, learning_rate: float, unalignable: int) -> StepReport:
        """The means since the last report, the same on every process; a new tally begins."""
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
            intermediate=parts["intermediate"],
            consistency=parts["consistency"],
            distillation=parts["distillation"],
            blank_share=parts["blanks"],
            gradient_norm=float(torch.stack(self._norms).mean()) if self._norms else float("nan"),
            learning_rate=learning_rate,
            speed=(seconds - self._heard_before) / max(elapsed, 1e-9),
            padding_share=padding / (steps * self.group.size),
            unalignable=unalignable,
        )
        self._begin(seconds)
        return report
