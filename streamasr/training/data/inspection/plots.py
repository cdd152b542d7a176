"""Plot histograms of a manifest's statistics, and mel spectrograms of a preview, with matplotlib.

Shape suffixes: T mel frames, M mel bands.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from streamasr.errors import ConfigError
from streamasr.training.data.inspection.check import UtteranceValues

_MAX_BINS, _UTTERANCES_PER_BIN = 60, 5
_DPI = 110
_AXES = {
    "duration_s": "duration in seconds",
    "characters_per_second": "characters per second",
    "level_db": "level (RMS) in dB relative to full scale",
    "frames_per_needed": "encoder frames / frames that CTC needs",
}


def draw_histograms(values: UtteranceValues, title: str, path: Path) -> None:
    """Save a PNG with one histogram per statistic; CTC cannot align utterances to the left of the dotted line."""
    figure, axes = _figure(2, 2, width=11, height=7)
    for axis, (name, label) in zip(axes.flat, _AXES.items(), strict=True):
        shown = getattr(values, name)
        axis.hist(shown, bins=min(_MAX_BINS, 1 + len(shown) // _UTTERANCES_PER_BIN), color="#31688e")
        axis.yaxis.get_major_locator().set_params(integer=True)
        axis.set_xlabel(label)
        axis.set_ylabel("utterances")
        if name == "frames_per_needed":
            axis.axvline(1.0, color="#b5302f", linestyle=":")
    figure.suptitle(title)
    figure.savefig(path, dpi=_DPI)


def draw_mels(
    rows: Sequence[tuple[str, Sequence[tuple[str, npt.NDArray[np.float32]]]]],
    seconds_per_frame: float,
    path: Path,
) -> None:
    """Save a PNG of mel spectrograms, with one row per utterance and one column per stage.

    Args:
        rows: a title and the stages of each utterance; a stage is a name and its ``mel_TM``.
        seconds_per_frame: time between two mel frames.
        path: the PNG file.
    """
    figure, axes = _figure(len(rows), len(rows[0][1]), width=15, height=2.4 * len(rows) + 0.6)
    for row, (title, stages) in enumerate(rows):
        for column, (name, mel_TM) in enumerate(stages):
            axis = axes[row, column]
            extent = (0.0, len(mel_TM) * seconds_per_frame, 0.0, float(mel_TM.shape[1]))
            axis.imshow(mel_TM.T, origin="lower", aspect="auto", extent=extent, cmap="magma")
            axis.set_title(f"{title}: {name}" if column == 0 else name, fontsize=8, loc="left")
            axis.tick_params(labelsize=7)
    figure.supxlabel("seconds", fontsize=8)
    figure.supylabel("mel band", fontsize=8)
    figure.savefig(path, dpi=_DPI)


def _figure(rows: int, columns: int, *, width: float, height: float) -> tuple[Any, Any]:
    """Return a figure without a display and without global state, and its axes as an array."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise ConfigError("plots need matplotlib: pip install 'streamasr[train]'") from None
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False)
