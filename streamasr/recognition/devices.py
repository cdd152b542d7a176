"""Name the device that a model computes on, without PyTorch, which not every model needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class Device(Protocol):
    """A ``torch.device``, or :data:`CPU`. Its string is a name that PyTorch knows, such as ``cuda:0``."""

    @property
    def type(self) -> str:
        """``cpu`` or ``cuda``."""


@dataclass(frozen=True, slots=True)
class _Cpu:
    type: str = "cpu"

    def __str__(self) -> str:
        return self.type


CPU = _Cpu()
"""The processor, where PyTorch is not installed."""
