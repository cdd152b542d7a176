"""Write a run's events for TensorBoard, as scalars and texts; TensorBoard is imported when a writer is created."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import TracebackType

from streamasr.errors import ConfigError
from streamasr.training.monitoring.events import DevReport, Diagnosis, Event, RunStarted, StepReport

TENSORBOARD_FOLDER = "tensorboard"
"""Name of the folder in a run's folder."""

_LOSSES = ("loss", "ctc", "crf", "intermediate", "consistency", "distillation")


class TensorBoardWriter:
    """Writes a run's events for ``tensorboard --logdir``; use it as a context manager.

    Args:
        folder: folder of the event files.

    Raises:
        ConfigError: TensorBoard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise ConfigError(
                "TensorBoard is not installed: pip install 'streamasr[train]', or use --no-tensorboard"
            ) from None
        self._folder = folder
        self._make = SummaryWriter
        self._writer: SummaryWriter | None = None
        self._frame_ms = 0.0

    def __enter__(self) -> TensorBoardWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def __call__(self, event: Event) -> None:
        """Write one event; a resumed run removes what was written of later steps."""
        if isinstance(event, RunStarted):
            self._close()
            self._frame_ms = event.frame_ms
            self._writer = self._make(str(self._folder), purge_step=event.step + 1)
            self._writer.add_text("recipe", _code(event.recipe), event.step)
            return
        if self._writer is None:
            self._writer = self._make(str(self._folder))
        match event:
            case StepReport():
                for name, value in dataclasses.asdict(event).items():
                    if name != "step":
                        group = "loss" if name in _LOSSES else "train"
                        self._writer.add_scalar(f"{group}/{name}", value, event.step)
            case DevReport():
                chunk = (
                    f"{event.chunk_frames * self._frame_ms:.0f}ms"
                    if self._frame_ms
                    else f"{event.chunk_frames}f"
                )
                for name in ("wer", "cer", "loss"):
                    self._writer.add_scalar(
                        f"dev/{event.manifest}/{name}/{chunk}", getattr(event, name), event.step
                    )
                if event.samples:
                    lines = "\n".join(
                        f"ref  {reference}\nhyp  {hypothesis}\n" for reference, hypothesis in event.samples
                    )
                    self._writer.add_text(f"dev/{event.manifest}/{chunk}", _code(lines), event.step)
            case Diagnosis():
                text = f"**{event.finding}**\n\nLikely cause: {event.cause}\n\nRemedy: {event.remedy}"
                self._writer.add_text(f"diagnosis/{event.kind}", text, event.step)
        if not isinstance(event, StepReport):
            self._writer.flush()

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def _code(text: str) -> str:
    """Return Markdown that shows ``text`` verbatim."""
    return "\n".join(f"    {line}" for line in text.splitlines())
