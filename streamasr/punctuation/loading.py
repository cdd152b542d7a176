"""Load the punctuator of a model folder: its ``punctuation.safetensors``, or one that another package installs."""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path

from streamasr.errors import ModelError
from streamasr.punctuation.base import Punctuator
from streamasr.punctuation.model_file import PUNCTUATION_FILE
from streamasr.punctuation.tagger import Tagger

ENTRY_POINTS = "streamasr.punctuation"
"""Group of the entry points of other packages: functions of a model folder's path that return a punctuator."""


def load_punctuator(folder: Path, name: str = "") -> Punctuator | None:
    """Return the punctuator of a model folder, or ``None`` if it has none.

    Args:
        folder: the model folder.
        name: the name of an entry point of the group ``streamasr.punctuation``; empty for the folder's own
            ``punctuation.safetensors``.

    Raises:
        ModelError: no installed package has that entry point, or the file is damaged.
    """
    if not name:
        path = folder / PUNCTUATION_FILE
        return Tagger.load(path) if path.is_file() else None
    installed = entry_points(group=ENTRY_POINTS)
    if name not in installed.names:
        known = ", ".join(sorted(installed.names)) or "none"
        raise ModelError(
            f"{folder / 'config.toml'}: punctuation: no installed package has an entry point {name!r} in the "
            f"group {ENTRY_POINTS!r}; installed: {known}"
        )
    punctuator: Punctuator = installed[name].load()(folder)
    return punctuator
