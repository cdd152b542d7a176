"""Streaming laws: the result depends neither on how audio is split nor on the other streams of the batch."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamasr.frontend.pcm import Samples
from streamasr.protocol.messages import Final, Partial, Start
from streamasr.recognition.batch import BatchStep, LogProbs
from streamasr.recognition.chunking import Chunk, StopMark
from streamasr.recognition.encoder_output import run_whole
from streamasr.recognition.local import transcribe_blocks
from streamasr.recognition.model import LoadedModel
from tests.recognition.tiny import in_place, messages_of, noise, tiny_fastconformer, tiny_model

pytestmark = pytest.mark.timeout(600)
TOLERANCE = 1e-4
SLOTS = 3


def _with_silence(hops_per_chunk: int, end_silence_ms: int) -> LoadedModel:
    model = tiny_model(hops_per_chunk=hops_per_chunk)
    return replace(model, config=replace(model.config, end_silence_ms=end_silence_ms))


FAMILIES: dict[str, Callable[[], LoadedModel]] = {
    "whisper": tiny_model,
    "whisper, silence at the end": lambda: _with_silence(1, 130),
    "whisper in place": lambda: in_place(tiny_model()),
    "fastconformer": lambda: tiny_fastconformer("current"),
    "fastconformer in place": lambda: in_place(tiny_fastconformer("current")),
    "fastconformer, legacy": lambda: tiny_fastconformer("legacy"),
}


@pytest.fixture(scope="module", params=FAMILIES)
def model(request: pytest.FixtureRequest) -> LoadedModel:
    return FAMILIES[request.param]()


def _offline(model: LoadedModel, samples: Samples, chunk_frames: int) -> LogProbs:
    return run_whole(model, samples, chunk_frames).log_probs_TV


def _split(samples: Samples, cuts: list[float]) -> list[Samples]:
    return np.split(samples, sorted(int(cut * len(samples)) for cut in cuts))


def _chunks(model: LoadedModel, samples: Samples, chunk_frames: int) -> list[Chunk]:
    queue = model.chunk_queue(chunk_frames)
    queue.append(samples)
    queue.mark(StopMark())
    chunks = []
    while queue.ready:
        chunks.append(queue.take())
    return chunks


def _same(streamed: list[LogProbs], whole: LogProbs) -> bool:
    """Whether chunks of log-probs are those of the whole utterance, which may have no frame."""
    together = np.concatenate([part for part in streamed if len(part)] or [whole[:0]])
    return together.shape == whole.shape and bool(np.all(np.abs(together - whole) <= TOLERANCE))


utterance = st.builds(noise, st.floats(0.001, 2.0), st.integers(0, 1_000))
cuts = st.lists(st.floats(0, 1), max_size=12)
chunk_sizes = st.integers(0, 2)
"""Place among the sizes that a model offers."""


@given(samples=utterance, cuts=cuts, size=chunk_sizes)
@settings(deadline=None, max_examples=40)
def test_streamed_log_probs_equal_those_of_the_whole_utterance(
    model: LoadedModel, samples: Samples, cuts: list[float], size: int
) -> None:
    chunk_frames = model.encoder.chunk_frames[size]
    queue = model.chunk_queue(chunk_frames)
    step = BatchStep(model, 1)
    streamed: list[LogProbs] = []
    for part in _split(samples, cuts):
        queue.append(part)
        while queue.ready:
            streamed.extend(step.run([(0, queue.take())])[0])
    queue.mark(StopMark())
    while queue.ready:
        streamed.extend(step.run([(0, queue.take())])[0])
    assert _same(streamed, _offline(model, samples, chunk_frames))


@given(takes=st.lists(utterance, min_size=1, max_size=7), size=chunk_sizes, data=st.data())
@settings(deadline=None, max_examples=30)
def test_streams_that_join_and_leave_change_nothing(
    model: LoadedModel, takes: list[Samples], size: int, data: st.DataObject
) -> None:
    chunk_frames = model.encoder.chunk_frames[size]
    step = BatchStep(model, SLOTS)
    waiting = [(i, _chunks(model, samples, chunk_frames)) for i, samples in enumerate(takes)]
    running: dict[int, tuple[int, list[Chunk]]] = {}
    streamed: dict[int, list[LogProbs]] = {i: [] for i in range(len(takes))}
    while waiting or running:
        for slot in range(SLOTS):
            if slot not in running and waiting and (not running or data.draw(st.booleans(), "joins")):
                running[slot] = waiting.pop(0)
        stepping = [s for s in running if data.draw(st.booleans(), "steps")] or [next(iter(running))]
        work = [(slot, running[slot][1].pop(0)) for slot in data.draw(st.permutations(stepping))]
        for (slot, _), log_probs in zip(work, step.run(work)[0], strict=True):
            streamed[running[slot][0]].append(log_probs)
            if not running[slot][1]:
                del running[slot]
    for index, samples in enumerate(takes):
        assert _same(streamed[index], _offline(model, samples, chunk_frames))


@given(samples=utterance, cuts=cuts, latency_ms=st.sampled_from([80, 160, 320]))
@settings(deadline=None, max_examples=25)
def test_any_split_gives_the_same_messages(
    model: LoadedModel, samples: Samples, cuts: list[float], latency_ms: int
) -> None:
    start = Start(latency_ms=latency_ms)
    whole = messages_of(model, samples, start)
    assert list(transcribe_blocks(model, _split(samples, cuts), start)) == whole


@pytest.mark.parametrize("hops_per_chunk", [1, 2])
@pytest.mark.parametrize("end_silence_ms", [130, 410])
@pytest.mark.parametrize("size", [0, 1, 2])
def test_silence_behind_the_end_is_as_if_it_had_been_sent(
    hops_per_chunk: int, end_silence_ms: int, size: int
) -> None:
    added = _with_silence(hops_per_chunk, end_silence_ms)
    sent = replace(added, config=replace(added.config, end_silence_ms=0))
    chunk_frames = added.encoder.chunk_frames[size]
    silence = np.zeros(end_silence_ms * added.sample_rate // 1000, dtype=np.float32)

    def streamed(model: LoadedModel, samples: Samples) -> LogProbs:
        step = BatchStep(model, 1)
        parts = [step.run([(0, chunk)])[0][0] for chunk in _chunks(model, samples, chunk_frames)]
        return np.concatenate([part for part in parts if len(part)])

    for seconds in (0.001, 0.16, 0.3, 0.5, 0.777):
        samples = noise(seconds, 1)
        assert _same([streamed(added, samples)], streamed(sent, np.concatenate((samples, silence))))


@given(samples=utterance, latency_ms=st.sampled_from([80, 160, 320]))
@settings(deadline=None, max_examples=25)
def test_committed_text_only_grows_and_stays_in_the_final(
    model: LoadedModel, samples: Samples, latency_ms: int
) -> None:
    committed: dict[int, str] = {}
    for message in messages_of(model, samples, Start(latency_ms=latency_ms)):
        if isinstance(message, Partial):
            assert message.committed.startswith(committed.get(message.utterance, ""))
            committed[message.utterance] = message.committed
        elif isinstance(message, Final):
            assert message.text.startswith(committed.pop(message.utterance, ""))
