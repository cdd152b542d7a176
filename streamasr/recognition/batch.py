"""One forward pass for the chunks of many streams: front end, then encoder, states kept in slots.

Knows slots and chunks; no session, decoder or thread. Shape suffixes: B batch, S samples, T frames,
M mel bands, V tokens.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from streamasr.recognition.chunking import Chunk
from streamasr.recognition.model import LoadedModel
from streamasr.recognition.slots import SlotStates
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
        tap: given the mel frames [T, M] of every chunk as the encoder gets them, with their slot; leads left out.
    """

    def __init__(
        self,
        model: LoadedModel,
        slots: int,
        clock: Callable[[], float] = time.perf_counter,
        tap: Callable[[int, Tensor], None] | None = None,
    ) -> None:
        self._model = model
        self._framing = model.framing
        self._clock = clock
        self._tap = tap
        self._mel = SlotStates(model.frontend.initial_state(1, self._framing.left_padding_samples), slots)
        self._encoder = SlotStates(model.encoder.initial_state(1), slots)
        self._vocabulary = 0

    @torch.inference_mode()
    def run(self, work: Sequence[tuple[int, Chunk]]) -> tuple[list[LogProbs], StepTimes]:
        """The log-probs of every (slot, chunk), each slot at most once; where a stream ends there may be none."""
        for slot, chunk in work:
            if chunk.starts_stream:
                self._mel.reset(slot)
                self._encoder.reset(slot)
        sounds = [self._frames(chunk) > 0 for _, chunk in work]
        if not any(sounds):
            return [self._no_frames() for _ in work], StepTimes(0.0, 0.0)
        slots, chunks = zip(*compress(work, sounds), strict=True)
        heard, times = self._forward(list(slots), list(chunks))
        results = iter(heard)
        return [next(results) if sound else self._no_frames() for sound in sounds], times

    def _frames(self, chunk: Chunk) -> int:
        """Encoder frames of a chunk, its look-ahead left out."""
        slots = self._framing.padded_mel_frames(chunk.padded_samples)
        if chunk.starts_stream and (not len(chunk.samples_S) or slots <= self._framing.left_padding_frames):
            return 0
        return ceil_div(slots, self._framing.subsampling)

    def _forward(self, slots: list[int], chunks: list[Chunk]) -> tuple[list[LogProbs], StepTimes]:
        began = self._clock()
        # Rows move on together: one that ends may have more samples than the others' hop, and no look-ahead.
        hop = min((len(chunk.samples_S) for chunk in chunks if len(chunk.lookahead_S)), default=None)
        firsts = chunks if hop is None else [chunk.first(hop) for chunk in chunks]
        mel_state, mel_BTM, lengths_B = self._mel_frames(self._mel.gather(slots), firsts)
        self._mel.write(slots, mel_state)
        advance_B = None
        if hop is not None:
            _, behind_BTM, behind_B = self._mel_frames(mel_state, [chunk.rest(hop) for chunk in chunks])
            mel_BTM = torch.cat((mel_BTM, behind_BTM), dim=1)
            advance_B = self._slots(chunks)
            lengths_B = lengths_B + behind_B
        if self._tap is not None:
            heard_B = lengths_B if advance_B is None else advance_B
            for slot, chunk, mel_TM, count in zip(slots, chunks, mel_BTM, heard_B.tolist(), strict=True):
                self._tap(slot, mel_TM[self._framing.left_padding_frames * chunk.starts_stream : count])
        heard = self._clock()
        encoder_state, log_probs_BTV, frames_B = self._model.encoder.step(
            self._encoder.gather(slots), mel_BTM, lengths_B, advance_B
        )
        self._encoder.write(slots, encoder_state)
        log_probs = log_probs_BTV.float().cpu().numpy()
        self._vocabulary = log_probs.shape[-1]
        times = StepTimes(frontend_s=heard - began, encoder_s=self._clock() - heard)
        return [row_TV[:count] for row_TV, count in zip(log_probs, frames_B.tolist(), strict=True)], times

    def _mel_frames(self, state: Any, chunks: list[Chunk]) -> tuple[Any, Tensor, Tensor]:
        """The front end's new state, ``mel_BTM``, and how many of its frames each row has, leads included."""
        framing, device = self._framing, self._model.device
        slots_B = self._slots(chunks)
        longest = ceil_div(int(slots_B.max()), framing.subsampling) * framing.frame_samples
        line_BS = np.zeros((len(chunks), longest), dtype=np.float32)
        for row_S, chunk in zip(line_BS, chunks, strict=True):
            # What is behind the last whole hop of a stream's end belongs to no frame of some front ends.
            heard_S = chunk.samples_S[: longest - chunk.left_padding_samples]
            row_S[chunk.left_padding_samples :][: len(heard_S)] = heard_S
        ends_B = torch.tensor(
            [chunk.left_padding_samples + len(chunk.samples_S) for chunk in chunks], device=device
        )
        new_state, mel_BTM = self._model.frontend.step(state, torch.from_numpy(line_BS).to(device), ends_B)
        return new_state, mel_BTM, slots_B

    def _slots(self, chunks: list[Chunk]) -> Tensor:
        slots = [self._framing.padded_mel_frames(chunk.padded_samples) for chunk in chunks]
        return torch.tensor(slots, device=self._model.device)

    def _no_frames(self) -> LogProbs:
        return np.zeros((0, self._vocabulary), dtype=np.float32)
