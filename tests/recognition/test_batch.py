"""A stream's log-probs depend neither on its neighbours in the batch nor on the former stream of its slot."""

import time

import numpy as np
import pytest
import torch

from streamasr.frontend.pcm import Samples
from streamasr.recognition.batch import BatchStep, LogProbs, StepTimes
from streamasr.recognition.chunking import Chunk, StopMark
from streamasr.recognition.model import LoadedModel
from streamasr.recognition.streaming import stream_many
from tests.recognition.tiny import noise, tiny_model

FRAME = 320
TOLERANCE = 1e-4


def _chunk(samples: Samples, *, starts_stream: bool = False, end: bool = False) -> Chunk:
    return Chunk(samples, len(samples), starts_stream, None, StopMark() if end else None)


def _run_alone(step: BatchStep, slot: int, chunks: list[Samples]) -> LogProbs:
    parts = [step.run([(slot, _chunk(c, starts_stream=i == 0))])[0][0] for i, c in enumerate(chunks)]
    return np.concatenate(parts)


def test_streamed_equals_the_whole_utterance(model: LoadedModel) -> None:
    samples = noise(1.7)
    chunks = np.split(samples, range(8 * FRAME, len(samples), 8 * FRAME))
    streamed = _run_alone(BatchStep(model, 1), 0, chunks)
    frames = -(-len(samples) // FRAME)
    padded = np.pad(samples, (0, frames * FRAME - len(samples)))
    mel = model.frontend(torch.from_numpy(padded)[None])
    whole, _ = model.encoder.forward(mel, torch.tensor([frames * 2]), 8)
    assert streamed.shape == (frames, whole.shape[-1])
    assert np.abs(streamed - whole[0].numpy()).max() <= TOLERANCE


def test_look_ahead_is_computed_and_computed_again() -> None:
    """What the queue and the batch make of samples, against the encoder on the whole utterance's mel frames."""
    model, samples = tiny_model(hops_per_chunk=2), noise(1.23)
    queue = model.chunk_queue(8)
    queue.append(samples)
    queue.mark(StopMark())
    step, streamed = BatchStep(model, 1), []
    while queue.ready:
        streamed.append(step.run([(0, queue.take())])[0][0])
    frames = -(-len(samples) // FRAME)
    mel_BTM = model.frontend(torch.from_numpy(np.pad(samples, (0, frames * FRAME - len(samples))))[None])
    state, expected, at = model.encoder.initial_state(1), [], 0
    while at < frames:
        window_BTM = mel_BTM[:, 2 * at : 2 * (at + 8)]
        kept = 4 if len(samples) - at * FRAME >= 8 * FRAME else frames - at
        state, log_probs_BTV, _ = model.encoder.step(
            state, window_BTM, torch.tensor([window_BTM.shape[1]]), torch.tensor([2 * kept])
        )
        expected.append(log_probs_BTV[0, :kept].numpy())
        at += kept
    assert [len(chunk) for chunk in streamed] == [len(chunk) for chunk in expected] == [4] * 14 + [6]
    assert np.abs(np.concatenate(streamed) - np.concatenate(expected)).max() <= TOLERANCE


def test_rows_with_and_without_look_ahead_share_a_step() -> None:
    model = tiny_model(hops_per_chunk=2)
    long, short = noise(0.8, seed=1), noise(0.25, seed=2)

    def alone(samples: Samples) -> LogProbs:
        (result,) = stream_many(model, [samples], 8, _Parts)
        return np.concatenate(result.sink.parts)

    together = stream_many(model, [long, short], 8, _Parts)
    streamed = {result.index: np.concatenate(result.sink.parts) for result in together}
    assert np.abs(streamed[0] - alone(long)).max() <= TOLERANCE
    assert np.abs(streamed[1] - alone(short)).max() <= TOLERANCE


class _Parts:
    def __init__(self) -> None:
        self.parts: list[LogProbs] = []

    def accept(self, chunk: Chunk, log_probs_TV: LogProbs, lookahead_TV: LogProbs) -> None:
        self.parts.append(log_probs_TV)


def test_other_streams_and_their_lengths_change_nothing(model: LoadedModel) -> None:
    mine = np.split(noise(0.8, seed=1), 5)
    alone = _run_alone(BatchStep(model, 3), 0, mine)
    step = BatchStep(model, 3)
    together = []
    for index, chunk in enumerate(mine):
        work = [
            (2, _chunk(noise(0.16, seed=index), starts_stream=index == 0)),
            (0, _chunk(chunk, starts_stream=index == 0)),
        ]
        if index == 2:
            work.insert(0, (1, _chunk(noise(0.05, seed=9), starts_stream=True, end=True)))
        log_probs, _, _ = step.run(work)
        together.append(log_probs[[slot for slot, _ in work].index(0)])
    assert np.abs(np.concatenate(together) - alone).max() <= TOLERANCE


def test_a_reused_slot_equals_a_new_one(model: LoadedModel) -> None:
    chunks = np.split(noise(0.64, seed=3), 4)
    step = BatchStep(model, 2)
    _run_alone(step, 1, np.split(noise(0.96, seed=4), 6))
    assert np.array_equal(_run_alone(step, 1, chunks), _run_alone(BatchStep(model, 2), 1, chunks))


def test_chunks_without_samples_give_no_frames_and_disturb_none(model: LoadedModel) -> None:
    step = BatchStep(model, 2, time.perf_counter)
    empty = _chunk(np.zeros(0, dtype=np.float32), starts_stream=True, end=True)
    (nothing, something), times, _ = step.run([(0, empty), (1, _chunk(noise(0.16), starts_stream=True))])
    assert len(nothing) == 0
    assert len(something) == 8
    assert times.encoder_s > 0
    (nothing,), times, _ = step.run([(0, empty)])
    assert len(nothing) == 0
    assert times.encoder_s == 0


def test_an_empty_first_step_has_as_many_tokens_as_the_model(model: LoadedModel) -> None:
    empty = _chunk(np.zeros(0, dtype=np.float32), starts_stream=True, end=True)
    (nothing,), _, _ = BatchStep(model, 1).run([(0, empty)])
    assert nothing.shape == (0, model.vocab_size)


def test_without_a_clock_every_duration_is_zero(model: LoadedModel) -> None:
    _, times, _ = BatchStep(model, 1).run([(0, _chunk(noise(0.16), starts_stream=True))])
    assert times == StepTimes(0.0, 0.0)


@pytest.mark.parametrize(("samples", "frames"), [(1, 1), (319, 1), (320, 1), (321, 2)])
def test_the_last_frame_is_completed_with_silence(model: LoadedModel, samples: int, frames: int) -> None:
    samples_S = noise(0.1)[:samples]
    (short,), _, _ = BatchStep(model, 1).run([(0, _chunk(samples_S, starts_stream=True, end=True))])
    padded = np.pad(samples_S, (0, frames * FRAME - samples))
    (whole,), _, _ = BatchStep(model, 1).run([(0, _chunk(padded, starts_stream=True))])
    assert len(short) == frames
    assert np.array_equal(short, whole)
