"""The laws of streaming: however audio is cut and whoever shares the batch, the answer is the same."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from streamasr.engine.batch import BatchStep, LogProbs
from streamasr.engine.intake import Chunk, ChunkQueue, StopMark
from streamasr.engine.local import transcribe_blocks, transcribe_samples
from streamasr.engine.model import LoadedModel
from streamasr.frontend.pcm import Samples
from streamasr.protocol.messages import Start
from streamasr.units import ceil_div
from tests.engine.tiny import noise, tiny_model

TOLERANCE = 1e-4
SLOTS = 3


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    return tiny_model()


def _offline(model: LoadedModel, samples: Samples, chunk_frames: int) -> LogProbs:
    frames = ceil_div(len(samples), model.frame_samples)
    padded = np.pad(samples, (0, frames * model.frame_samples - len(samples)))
    with torch.inference_mode():
        mel = model.frontend(torch.from_numpy(padded)[None])
        log_probs, _ = model.encoder.forward(mel, torch.tensor([frames * 2]), chunk_frames)
    return log_probs[0].numpy()


def _split(samples: Samples, cuts: list[float]) -> list[Samples]:
    return np.split(samples, sorted(int(cut * len(samples)) for cut in cuts))


def _chunks(samples: Samples, chunk_samples: int) -> list[Chunk]:
    queue = ChunkQueue(chunk_samples)
    queue.append(samples)
    queue.mark(StopMark())
    chunks = []
    while queue.ready:
        chunks.append(queue.take())
    return chunks


utterance = st.builds(noise, st.floats(0.001, 2.0), st.integers(0, 1_000))
cuts = st.lists(st.floats(0, 1), max_size=12)
chunk_sizes = st.sampled_from([4, 8, 16])


@given(samples=utterance, cuts=cuts, chunk_frames=chunk_sizes)
@settings(deadline=None, max_examples=40)
def test_streamed_log_probs_are_the_whole_utterances(
    model: LoadedModel, samples: Samples, cuts: list[float], chunk_frames: int
) -> None:
    queue = ChunkQueue(chunk_frames * model.frame_samples)
    step = BatchStep(model, 1)
    heard: list[LogProbs] = []
    for part in _split(samples, cuts):
        queue.append(part)
        while queue.ready:
            heard.extend(step.run([(0, queue.take())])[0])
    queue.mark(StopMark())
    while queue.ready:
        heard.extend(step.run([(0, queue.take())])[0])
    streamed = np.concatenate([part for part in heard if len(part)])
    whole = _offline(model, samples, chunk_frames)
    assert streamed.shape == whole.shape
    assert np.abs(streamed - whole).max() <= TOLERANCE


@given(takes=st.lists(utterance, min_size=1, max_size=7), chunk_frames=chunk_sizes, data=st.data())
@settings(deadline=None, max_examples=30)
def test_batch_mates_that_join_and_leave_change_nothing(
    model: LoadedModel, takes: list[Samples], chunk_frames: int, data: st.DataObject
) -> None:
    step = BatchStep(model, SLOTS)
    waiting = [(i, _chunks(samples, chunk_frames * model.frame_samples)) for i, samples in enumerate(takes)]
    running: dict[int, tuple[int, list[Chunk]]] = {}
    heard: dict[int, list[LogProbs]] = {i: [] for i in range(len(takes))}
    while waiting or running:
        for slot in range(SLOTS):
            if slot not in running and waiting and (not running or data.draw(st.booleans(), "joins")):
                running[slot] = waiting.pop(0)
        stepping = [s for s in running if data.draw(st.booleans(), "steps")] or [next(iter(running))]
        work = [(slot, running[slot][1].pop(0)) for slot in data.draw(st.permutations(stepping))]
        for (slot, _), log_probs in zip(work, step.run(work)[0], strict=True):
            heard[running[slot][0]].append(log_probs)
            if not running[slot][1]:
                del running[slot]
    for index, samples in enumerate(takes):
        together = np.concatenate([part for part in heard[index] if len(part)])
        assert np.abs(together - _offline(model, samples, chunk_frames)).max() <= TOLERANCE


@given(samples=utterance, cuts=cuts, latency_ms=st.sampled_from([80, 160, 320]))
@settings(deadline=None, max_examples=25)
def test_any_split_gives_the_same_messages(
    model: LoadedModel, samples: Samples, cuts: list[float], latency_ms: int
) -> None:
    start = Start(latency_ms=latency_ms)
    whole = transcribe_samples(model, samples, start)
    assert list(transcribe_blocks(model, _split(samples, cuts), start)) == whole


@given(samples=utterance, latency_ms=st.sampled_from([80, 160, 320]))
@settings(deadline=None, max_examples=25)
def test_committed_text_only_grows_and_stays_in_the_final(
    model: LoadedModel, samples: Samples, latency_ms: int
) -> None:
    committed: dict[int, str] = {}
    for message in transcribe_samples(model, samples, Start(latency_ms=latency_ms)):
        if message.type == "partial":
            assert message.committed.startswith(committed.get(message.utterance, ""))
            committed[message.utterance] = message.committed
        elif message.type == "final":
            assert message.text.startswith(committed.pop(message.utterance, ""))
