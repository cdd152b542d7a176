"""Pictures of data, drawn by matplotlib without a screen: histograms of a manifest, mels of a preview.

Shape suffixes: T mel frames, M mel bands.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from streamasr.errors import ConfigError
from streamasr.training.data.inspection.check import Values

_MOST_BINS, _UTTERANCES_PER_BIN = 60, 5
_DPI = 110
_AXES = {
    "duration_s": "duration in seconds",
    "characters_per_second": "characters a second",
    "level_db": "level (RMS) in dB of full scale",
    "frames_per_needed": "output frames / frames that CTC needs",
}


def draw_histograms(values: Values, title: str, path: Path) -> None:
    """Save a PNG with one histogram a value; the dotted line is where CTC can no longer align."""
    figure, axes = _figure(2, 2, width=11, height=7)
    for axis, (name, label) in zip(axes.flat, _AXES.items(), strict=True):
        shown = getattr(values, name)
        axis.hist(shown, bins=min(_MOST_BINS, 1 + len(shown) // _UTTERANCES_PER_BIN), color="#31688e")
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
    """Save a PNG of spectrograms, one row an utterance, one column a stage.

    Args:
        rows: (title, stages) with a stage being (name, ``mel_TM``).
        seconds_per_frame: length of a mel frame.
        path: the PNG.
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
    """A figure that belongs to no screen and to no global state, and its axes as an array."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise ConfigError("pictures need matplotlib: pip install 'streamasr[train]'") from None
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False)
