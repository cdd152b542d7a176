"""One forward pass for the chunks of many streams: front end, then encoder, states kept in slots.

Knows slots and chunks; no session, decoder or thread. Shape suffixes: B batch, S samples, T frames,
M mel bands, V tokens.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from streamasr.engine.intake import Chunk
from streamasr.engine.model import LoadedModel
from streamasr.engine.slots import SlotStates
from streamasr.units import ceil_div

LogProbs = NDArray[np.floating[Any]]
"""Natural-log token probabilities [T, V] of one stream."""


@dataclass(frozen=True, slots=True)
class StepTimes:
    """Seconds that the parts of one step took."""

    frontend_s: float
    encoder_s: float


class BatchStep:
    """Steps any of a fixed number of streams together. A stream's result does not depend on its neighbours.

    Args:
        model: what to run.
        slots: streams at a time.
        clock: seconds, for :class:`StepTimes` alone.
    """

    def __init__(
        self, model: LoadedModel, slots: int, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._model = model
        self._clock = clock
        self._mel = SlotStates(model.frontend.initial_state(1), slots)
        self._encoder = SlotStates(model.encoder.initial_state(1), slots)
        self._vocabulary = 0

    @torch.inference_mode()
    def run(self, work: Sequence[tuple[int, Chunk]]) -> tuple[list[LogProbs], StepTimes]:
        """The log-probs of every (slot, chunk), each slot at most once; a chunk without samples has no frame.

        The last frame of a chunk that ends inside one is completed with digital silence: so streams end.
        """
        for slot, chunk in work:
            if chunk.fresh:
                self._mel.reset(slot)
                self._encoder.reset(slot)
        rows = [(slot, chunk.samples_S) for slot, chunk in work if len(chunk.samples_S)]
        if not rows:
            return [self._no_frames() for _ in work], StepTimes(0.0, 0.0)
        heard, times = self._forward([slot for slot, _ in rows], [samples_S for _, samples_S in rows])
        results = iter(heard)
        return [next(results) if len(chunk.samples_S) else self._no_frames() for _, chunk in work], times

    def _forward(self, slots: list[int], rows: list[NDArray[np.float32]]) -> tuple[list[LogProbs], StepTimes]:
        began = self._clock()
        frame_samples = self._model.frame_samples
        frames = [ceil_div(len(samples_S), frame_samples) for samples_S in rows]
        padded_BS = np.zeros((len(rows), max(frames) * frame_samples), dtype=np.float32)
        for row_S, samples_S in zip(padded_BS, rows, strict=True):
            row_S[: len(samples_S)] = samples_S
        pcm_BS = torch.from_numpy(padded_BS).to(self._model.device)
        mel_state, mel_BTM = self._model.frontend.step(self._mel.gather(slots), pcm_BS)
        self._mel.write(slots, mel_state)
        heard = self._clock()
        lengths_B = torch.tensor(frames, device=self._model.device) * self._model.encoder.subsampling
        encoder_state, log_probs_BTV, _ = self._model.encoder.step(
            self._encoder.gather(slots), mel_BTM, lengths_B
        )
        self._encoder.write(slots, encoder_state)
        log_probs = log_probs_BTV.float().cpu().numpy()
        self._vocabulary = log_probs.shape[-1]
        times = StepTimes(frontend_s=heard - began, encoder_s=self._clock() - heard)
        return [row_TV[:count] for row_TV, count in zip(log_probs, frames, strict=True)], times

    def _no_frames(self) -> LogProbs:
        return np.zeros((0, self._vocabulary), dtype=np.float32)
