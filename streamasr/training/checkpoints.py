"""Checkpoints of a run: written whole or not at all, the newest few kept, the newest readable one found again."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from streamasr.training.averaging import mean_weights

_NAME = re.compile(r"step-(\d+)\.pt")


class Checkpoints:
    """The checkpoints in ``folder``.

    Args:
        folder: made when the first one is saved.
        keep: how many of the newest stay.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder = folder
        self.keep = keep

    def paths(self) -> list[Path]:
        """All of them, newest first."""
        found = self.folder.glob("step-*.pt") if self.folder.is_dir() else ()
        named = [(match, path) for path in found if (match := _NAME.fullmatch(path.name))]
        return [path for match, path in sorted(named, key=lambda pair: -int(pair[0][1]))]

    def save(self, step: int, state: dict[str, Any]) -> Path:
        """Write one and drop the oldest beyond ``keep``; a crash at any moment leaves the earlier ones whole."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"step-{step:08d}.pt"
        write_atomically(path, state)
        for old in self.paths()[self.keep :]:
            old.unlink()
        return path

    def newest(self, device: torch.device) -> dict[str, Any] | None:
        """The newest that can be read (a broken disk or copy may have hurt one), or ``None``."""
        return next(self._readable(device), None)

    def mean(self, device: torch.device, name: str) -> dict[str, Tensor]:
        """The mean over the kept checkpoints of the weights under ``name`` (Vaswani et al. 2017, section 6.1)."""
        return mean_weights([state[name] for state in self._readable(device)])

    def _readable(self, device: torch.device) -> Iterator[dict[str, Any]]:
        for path in self.paths():
            try:
                yield torch.load(path, map_location=device, weights_only=True)
            except (RuntimeError, EOFError, OSError, ValueError):
                continue


def write_atomically(path: Path, state: dict[str, Any]) -> None:
    """Save ``state`` so that ``path`` holds either all of it or what it held before."""
    unfinished = path.with_suffix(".unfinished")
    with unfinished.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
