"""Save and load the checkpoints of a run; files are written atomically and only the newest ones are kept."""

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
    """The checkpoints in a folder.

    Args:
        folder: the folder; it is created with the first checkpoint.
        keep: number of newest checkpoints to keep.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder = folder
        self.keep = keep

    def paths(self) -> list[Path]:
        """Return the paths of all checkpoints, newest first."""
        found = self.folder.glob("step-*.pt") if self.folder.is_dir() else ()
        named = [(match, path) for path in found if (match := _NAME.fullmatch(path.name))]
        return [path for match, path in sorted(named, key=lambda pair: -int(pair[0][1]))]

    def save(self, step: int, state: dict[str, Any]) -> Path:
        """Save a checkpoint, delete all but the newest ``keep``, and return its path.

        A crash at any time leaves the earlier checkpoints intact.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"step-{step:08d}.pt"
        write_atomically(path, state)
        for old in self.paths()[self.keep :]:
            old.unlink()
        return path

    def newest(self, device: torch.device) -> dict[str, Any] | None:
        """Load the newest readable checkpoint; damaged ones are skipped. ``None`` if there is none."""
        return next(self._readable(device), None)

    def mean(self, device: torch.device, name: str) -> dict[str, Tensor]:
        """Return the mean over the kept checkpoints of the weights under ``name``.

        See Vaswani et al. 2017, section 6.1.
        """
        return mean_weights([state[name] for state in self._readable(device)])

    def _readable(self, device: torch.device) -> Iterator[dict[str, Any]]:
        for path in self.paths():
            try:
                yield torch.load(path, map_location=device, weights_only=True)
            except (RuntimeError, EOFError, OSError, ValueError):
                continue


def write_atomically(path: Path, state: dict[str, Any]) -> None:
    """Save ``state`` so that ``path`` holds either all of it or its previous content, also after a crash."""
    unfinished = path.with_suffix(".unfinished")
    with unfinished.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
