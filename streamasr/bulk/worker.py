"""Load the model for bulk work and recognise rows with it, in this process or in a worker of a cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch

from streamasr.bulk.recogniser import BulkRecogniser
from streamasr.config import Backend, PrecisionChoice
from streamasr.engine.precision import resolve_precision
from streamasr.media.inputs import AudioInput
from streamasr.processor import usable_cores
from streamasr.protocol.messages import Start
from streamasr.recognition.hotwords import unused_notice
from streamasr.recognition.model import load_model, pick_device
from streamasr.recognition.options import resolve_options

GPU_WORKERS = 2
"""Threads on a GPU: one decodes while the other's step runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkOptions:
    """How to recognise; every process of a run has the same."""

    model: str
    """A model folder, or the name of a packaged model."""
    start: Start
    device: str = "auto"
    backend: Backend = "auto"
    precision: PrecisionChoice = "auto"
    channel: int | None = None
    workers: int | None = None
    """Threads that recognise; by default one for each core, and :data:`GPU_WORKERS` on a GPU."""
    batch: int = 16
    retries: int = 2


class BulkWorker:
    """A loaded model. Sets PyTorch's number of threads in this process to 1: its own threads use the cores.

    Args:
        options: how to recognise.

    Raises:
        ModelError: as :func:`~streamasr.recognition.model.load_model`.
        ConfigError: likewise.
        ProtocolError: the model does not support an option of ``start``.
    """

    def __init__(self, options: BulkOptions) -> None:
        self._options = options
        torch.set_num_threads(1)
        on_cpu = pick_device(options.device).type == "cpu"
        self._workers = options.workers or (usable_cores() if on_cpu else GPU_WORKERS)
        precision = resolve_precision(options.precision, options.model, options.device, options.backend)
        self._model = load_model(
            options.model, options.device, backend=options.backend, precision=precision, threads=1
        )
        self._session = resolve_options(options.start, self._model)
        self.notice = unused_notice(self._session.hotwords)
        """A sentence about hotwords that the model cannot use, if there are any."""

    def recognise(self, indices: Iterable[int], source: Callable[[int], AudioInput]) -> BulkRecogniser:
        """Begin to recognise rows; see :class:`~streamasr.bulk.recogniser.BulkRecogniser`."""
        options = self._options
        return BulkRecogniser(
            self._model,
            self._session,
            indices,
            source,
            channel=options.channel,
            workers=self._workers,
            batch=options.batch,
            retries=options.retries,
        )
