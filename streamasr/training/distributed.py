"""The processes of a run: one by default, or those that ``torchrun`` started. Knows no model.

``torchrun`` sets each process's rank in the environment, starts all of them anew when one fails (elastic restarts),
and the run then goes on at its last checkpoint.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist

_BARRIER_TIMEOUT = timedelta(days=1)
"""How long the others wait for the first, which may be decoding thousands of hours; torch's own limit is minutes."""


@dataclass(frozen=True, slots=True)
class ProcessGroup:
    """This process among those that train together."""

    rank: int
    size: int
    device: torch.device
    barrier_group: Any = None
    """The group of all processes that may wait for long; ``None`` where there is but one."""

    @classmethod
    def from_environment(cls, device: str = "auto") -> ProcessGroup:
        """Join the processes that ``torchrun`` started, or be alone.

        Args:
            device: ``auto`` takes CUDA where there is one, each process of a machine its own device.
        """
        name = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        size, local = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("LOCAL_RANK", "0"))
        if name == "cuda" and size > 1:
            name = f"cuda:{local}"
        chosen = torch.device(name)
        if size == 1:
            return cls(0, 1, chosen)
        if chosen.type == "cuda":
            torch.cuda.set_device(chosen)
        dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
        return cls(dist.get_rank(), size, chosen, dist.new_group(backend="gloo", timeout=_BARRIER_TIMEOUT))

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and reports."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """The sum of every process's ``values``, on all of them."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def any(self, flag: bool) -> bool:
        """Whether it holds on any process."""
        return flag if self.size == 1 else bool(self.sum(torch.tensor(float(flag), device=self.device)))

    def all_gather(self, value: Any) -> list[Any]:
        """Every process's value, in order of rank, on all of them."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def barrier(self) -> None:
        """Go on when all have come here, however long that takes."""
        if self.size > 1:
            dist.barrier(group=self.barrier_group)

    def close(self) -> None:
        """Part from the others at the end of the run."""
        if self.size > 1:
            dist.destroy_process_group()
