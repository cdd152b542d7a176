"""Connect the processes of a run: one process by default, or those that ``torchrun`` started.

``torchrun`` sets each process's rank in the environment. With elastic restarts it starts all processes again when one
fails, and the run resumes from its last checkpoint.
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
"""Longest time to wait at a barrier. The first process may decode thousands of hours before the others go on; torch's
default timeout is some minutes."""


@dataclass(frozen=True, slots=True)
class ProcessGroup:
    """The processes that train together, as one of them sees the group."""

    rank: int
    size: int
    device: torch.device
    barrier_group: Any = None
    """A torch process group with a long timeout, for :meth:`barrier`; ``None`` with one process."""

    @classmethod
    def from_environment(cls, device: str = "auto") -> ProcessGroup:
        """Join the processes that ``torchrun`` started; without ``torchrun``, return a group of one process.

        Args:
            device: a torch device name, or ``auto`` for CUDA if available, else the CPU. With CUDA, each process of a
                machine uses its own device.
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
        """Whether this process writes files and emits events."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """Sum ``values`` over all processes, in place, and return them (all-reduce)."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def any(self, flag: bool) -> bool:
        """Return whether ``flag`` is true on any process."""
        return flag if self.size == 1 else bool(self.sum(torch.tensor(float(flag), device=self.device)))

    def all_gather(self, value: Any) -> list[Any]:
        """Return the values of all processes, in order of rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def barrier(self) -> None:
        """Wait until all processes have called this method."""
        if self.size > 1:
            dist.barrier(group=self.barrier_group)

    def close(self) -> None:
        """Leave the group at the end of the run."""
        if self.size > 1:
            dist.destroy_process_group()
