"""Run front end and encoder once for the chunks of many streams, and keep the streams' states in slots.

Shape suffixes: B batch, S samples, T frames, M mel bands, V tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from streamasr.recognition.chunking import Chunk
from streamasr.recognition.model import LoadedModel
from streamasr.recognition.slots import SlotStates, encoder_slots
from streamasr.units import ceil_div

LogProbs = NDArray[np.floating[Any]]
"""Natural-log token probabilities [T, V] of one stream."""
Clock = Callable[[], float]
"""Returns the time in seconds, as ``time.perf_counter`` does."""


def no_clock() -> float:
    """Return 0, so that every duration is 0: the clock of callers that measure nothing."""
    return 0.0


@dataclass(frozen=True, slots=True)
class StepTimes:
    """The durations of one step, in seconds; 0 without a clock."""

    frontend_s: float
    encoder_s: float


class StepResult(NamedTuple):
    """What a step returns: a list has one entry for each chunk, in their order."""

    log_probs: list[LogProbs]
    """Log-probs [T, V] of the hops. T is 0 for a chunk without an encoder frame, which only a stream's end has."""
    times: StepTimes
    lookahead: list[LogProbs]
    """Log-probs [T, V] of the look-ahead, which saw nothing of what follows: the next step computes these frames
    again. T is 0 without look-ahead."""


class BatchStep:
    """Steps the streams of any of its slots in one batch. A stream's result does not depend on its neighbours.

    Args:
        model: the model to run.
        slots: number of slots: streams whose states are kept.
        clock: measures :class:`StepTimes`.
        mel_observer: called with the slot and the mel frames [T, M] of every chunk, without left padding and
            look-ahead.
    """

    def __init__(
        self,
        model: LoadedModel,
        slots: int,
        clock: Clock = no_clock,
        mel_observer: Callable[[int, Tensor], None] | None = None,
    ) -> None:
        self._model = model
        self._framing = model.framing
        self._clock = clock
        self._mel_observer = mel_observer
        self._mel_states = SlotStates(
            model.frontend.initial_state(1, self._framing.left_padding_samples), slots
        )
        self._encoder_slots = encoder_slots(model.encoder, slots)
        self._no_log_probs_TV: LogProbs = np.zeros((0, model.vocab_size), dtype=np.float32)

    @torch.inference_mode()
    def run(self, chunks: Sequence[tuple[int, Chunk]]) -> StepResult:
        """Run one step.

        Args:
            chunks: slots and their next chunks; each slot at most once.
        """
        for slot, chunk in chunks:
            if chunk.starts_stream:
                self._mel_states.reset(slot)
                self._encoder_slots.reset(slot)
        has_frames = [self._encoder_frames(chunk) > 0 for _, chunk in chunks]
        nothing = [self._no_log_probs_TV for _ in chunks]
        if not any(has_frames):
            return StepResult(nothing, StepTimes(0.0, 0.0), nothing)
        slots, with_frames = zip(*compress(chunks, has_frames), strict=True)
        log_probs, times, lookahead = self._forward(list(slots), list(with_frames))

        def in_all_places(results: list[LogProbs]) -> list[LogProbs]:
            following = iter(results)
            return [next(following) if some else self._no_log_probs_TV for some in has_frames]

        return StepResult(in_all_places(log_probs), times, in_all_places(lookahead))

    def _encoder_frames(self, chunk: Chunk) -> int:
        """Return the number of encoder frames of a chunk, without look-ahead."""
        mel_frames = self._framing.padded_mel_frames(chunk.padded_samples)
        no_audio = not len(chunk.samples_S) or mel_frames <= self._framing.left_padding_frames
        if chunk.starts_stream and no_audio:
            return 0
        return ceil_div(mel_frames, self._framing.subsampling)

    def _forward(self, slots: list[int], chunks: list[Chunk]) -> StepResult:
        start = self._clock()
        # All rows advance by the same hop. A row at its stream's end may have more samples, and has no look-ahead.
        hop = min((len(chunk.samples_S) for chunk in chunks if len(chunk.lookahead_S)), default=None)
        firsts = chunks if hop is None else [chunk.first(hop) for chunk in chunks]
        mel_state, mel_BTM, lengths_B = self._mel_frames(self._mel_states.gather(slots), firsts)
        self._mel_states.write(slots, mel_state)
        advance_B = None
        if hop is not None:
            _, rest_BTM, rest_B = self._mel_frames(mel_state, [chunk.rest(hop) for chunk in chunks])
            mel_BTM = torch.cat((mel_BTM, rest_BTM), dim=1)
            advance_B = self._padded_mel_frames(chunks)
            lengths_B = lengths_B + rest_B
        if self._mel_observer is not None:
            kept_B = lengths_B if advance_B is None else advance_B
            for slot, chunk, mel_TM, count in zip(slots, chunks, mel_BTM, kept_B.tolist(), strict=True):
                padding = self._framing.left_padding_frames if chunk.starts_stream else 0
                self._mel_observer(slot, mel_TM[padding:count])
        frontend_end = self._clock()
        log_probs_BTV, frames_B = self._encoder_slots.step(slots, mel_BTM, lengths_B, advance_B)
        log_probs = log_probs_BTV.float().cpu().numpy()
        times = StepTimes(frontend_s=frontend_end - start, encoder_s=self._clock() - frontend_end)
        ends_B = torch.div(lengths_B, self._framing.subsampling, rounding_mode="floor")
        spans = list(zip(log_probs, frames_B.tolist(), ends_B.tolist(), strict=True))
        return StepResult(
            [row_TV[:count] for row_TV, count, _ in spans],
            times,
            [
                row_TV[count : max(count, end)] if advance_B is not None else row_TV[:0]
                for row_TV, count, end in spans
            ],
        )

    def _mel_frames(self, state: Any, chunks: list[Chunk]) -> tuple[Any, Tensor, Tensor]:
        """Return the front end's new state, ``mel_BTM`` and each row's number of frames, left padding included."""
        framing, device = self._framing, self._model.device
        frames_B = self._padded_mel_frames(chunks)
        longest = ceil_div(int(frames_B.max()), framing.subsampling) * framing.frame_samples
        padded_BS = np.zeros((len(chunks), longest), dtype=np.float32)
        for row_S, chunk in zip(padded_BS, chunks, strict=True):
            # Some front ends make no frame of an incomplete last hop of a stream: its samples are left out.
            samples_S = chunk.samples_S[: longest - chunk.left_padding_samples]
            row_S[chunk.left_padding_samples :][: len(samples_S)] = samples_S
        ends_B = torch.tensor(
            [chunk.left_padding_samples + len(chunk.samples_S) for chunk in chunks], device=device
        )
        new_state, mel_BTM = self._model.frontend.step(state, torch.from_numpy(padded_BS).to(device), ends_B)
        return new_state, mel_BTM, frames_B

    def _padded_mel_frames(self, chunks: list[Chunk]) -> Tensor:
        counts = [self._framing.padded_mel_frames(chunk.padded_samples) for chunk in chunks]
        return torch.tensor(counts, device=self._model.device)
