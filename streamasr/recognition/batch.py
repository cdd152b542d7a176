"""Run front end and encoder once for the chunks of many streams, and keep the streams' states in slots.

Shape suffixes: B batch, S samples, T frames, M mel bands, V tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamasr.acoustic.interface import AnyArray, EncoderSlots, FrameCounts, InPlaceEncoder
from streamasr.frontend.numpy_mel import NumpyLogMel
from streamasr.recognition.chunking import Chunk
from streamasr.recognition.frontend_slots import FrontEndSlots, NumpyFrontEndSlots, PaddedSamples
from streamasr.recognition.model import LoadedModel, has_torch
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
        mel_observer: called with the slot and the mel frames [T, M] of every chunk, a NumPy array or a tensor,
            without left padding and look-ahead.
    """

    def __init__(
        self,
        model: LoadedModel,
        slots: int,
        clock: Clock = no_clock,
        mel_observer: Callable[[int, AnyArray], None] | None = None,
    ) -> None:
        self._model = model
        self._framing = model.framing
        self._clock = clock
        self._mel_observer = mel_observer
        self._frontend_slots = _frontend_slots(model, slots)
        self._encoder_slots = _encoder_slots(model, slots)
        self._no_log_probs_TV: LogProbs = np.zeros((0, model.vocab_size), dtype=np.float32)

    def run(self, chunks: Sequence[tuple[int, Chunk]]) -> StepResult:
        """Run one step.

        Args:
            chunks: slots and their next chunks; each slot at most once.
        """
        for slot, chunk in chunks:
            if chunk.starts_stream:
                self._frontend_slots.reset(slot)
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
        lengths_B, advance_B, rest = self._padded_mel_frames(firsts), None, None
        if hop is not None:
            rests = [chunk.rest(hop) for chunk in chunks]
            rest = self._padded(rests)
            advance_B = self._padded_mel_frames(chunks)
            lengths_B = lengths_B + self._padded_mel_frames(rests)
        mel_BTM = self._frontend_slots.step(slots, self._padded(firsts), rest)
        if self._mel_observer is not None:
            kept_B = lengths_B if advance_B is None else advance_B
            for slot, chunk, mel_TM, count in zip(slots, chunks, mel_BTM, kept_B.tolist(), strict=True):
                padding = self._framing.left_padding_frames if chunk.starts_stream else 0
                self._mel_observer(slot, mel_TM[padding:count])
        frontend_end = self._clock()
        log_probs, frames_B = self._encoder_slots.step(slots, mel_BTM, lengths_B, advance_B)
        times = StepTimes(frontend_s=frontend_end - start, encoder_s=self._clock() - frontend_end)
        ends_B = lengths_B // self._framing.subsampling
        spans = list(zip(log_probs, frames_B.tolist(), ends_B.tolist(), strict=True))
        return StepResult(
            [row_TV[:count] for row_TV, count, _ in spans],
            times,
            [
                row_TV[count : max(count, end)] if advance_B is not None else row_TV[:0]
                for row_TV, count, end in spans
            ],
        )

    def _padded(self, chunks: list[Chunk]) -> PaddedSamples:
        """Return the samples of the chunks, with left padding, as rows of the same length."""
        framing = self._framing
        frames_B = self._padded_mel_frames(chunks)
        longest = ceil_div(int(frames_B.max()), framing.subsampling) * framing.frame_samples
        padded_BS = np.zeros((len(chunks), longest), dtype=np.float32)
        for row_S, chunk in zip(padded_BS, chunks, strict=True):
            # Some front ends make no frame of an incomplete last hop of a stream: its samples are left out.
            samples_S = chunk.samples_S[: longest - chunk.left_padding_samples]
            row_S[chunk.left_padding_samples :][: len(samples_S)] = samples_S
        ends = [chunk.left_padding_samples + len(chunk.samples_S) for chunk in chunks]
        return PaddedSamples(padded_BS, np.array(ends, dtype=np.int64))

    def _padded_mel_frames(self, chunks: list[Chunk]) -> FrameCounts:
        """Return each chunk's number of mel frames, left padding included."""
        return np.array([self._framing.padded_mel_frames(c.padded_samples) for c in chunks], dtype=np.int64)


def _frontend_slots(model: LoadedModel, slots: int) -> FrontEndSlots:
    frontend: object = model.frontend
    if isinstance(frontend, NumpyLogMel):
        return NumpyFrontEndSlots(frontend, slots)
    from streamasr.recognition.slots import TorchFrontEndSlots

    return TorchFrontEndSlots(model.frontend, slots, model.framing.left_padding_samples, str(model.device))


def _encoder_slots(model: LoadedModel, slots: int) -> EncoderSlots:
    """Return room for ``slots`` streams: the encoder's own, if it updates states in place."""
    if isinstance(model.encoder, InPlaceEncoder):
        return model.encoder.open_slots(slots)
    if model.device.type == "cuda":
        from streamasr.recognition.device_slots import DeviceSlots

        return DeviceSlots(model.encoder, slots, str(model.device), record=True)
    from streamasr.recognition.slots import CopiedSlots

    return CopiedSlots(model.encoder, slots, str(model.device))


def set_step_threads(model: LoadedModel, threads: int) -> None:
    """Set PyTorch's number of threads for steps on the calling thread; 0 keeps it. Does nothing without PyTorch."""
    if not has_torch():
        return
    import torch

    if model.encoder.arithmetic.backend != "torch":
        # The encoder has threads of its own. The front end's operations are small: PyTorch's other threads would
        # mostly wait for them, busily, on cores that the decoder and the event loop need.
        torch.set_num_threads(1)
    elif threads:
        torch.set_num_threads(threads)
