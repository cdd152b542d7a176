"""Stream many utterances through one model in this process, several in each step.

Shape suffixes: S samples, T encoder frames, V tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from streamasr.frontend.pcm import Samples
from streamasr.recognition.batch import BatchStep, Clock, LogProbs, no_clock
from streamasr.recognition.chunking import Chunk, ChunkQueue, StopMark
from streamasr.recognition.model import LoadedModel


class LogProbsSink(Protocol):
    """Accepts the log-probs of one stream; a :class:`~streamasr.recognition.captions.Captioner` is one."""

    def accept(self, chunk: Chunk, log_probs_TV: LogProbs, lookahead_TV: LogProbs, /) -> object:
        """Accept the log-probs [T, V] of the next chunk and its look-ahead; T is 0 for one without frames."""


SinkT = TypeVar("SinkT", bound=LogProbsSink)


@dataclass(frozen=True, slots=True)
class StreamedUtteranceResult(Generic[SinkT]):
    """A finished utterance."""

    index: int
    """Its place in the input."""
    sink: SinkT
    """Its sink, which has accepted all of its chunks."""
    seconds: float
    """The time of its own sink, and its share, by samples, of the steps' time; 0 without a clock."""


def stream_many(
    model: LoadedModel,
    utterances: Iterable[Samples],
    chunk_frames: int,
    make_sink: Callable[[], SinkT],
    *,
    slots: int = 16,
    clock: Clock = no_clock,
) -> Iterator[StreamedUtteranceResult[SinkT]]:
    """Stream every utterance as a session of its own, up to ``slots`` of them in each step.

    Args:
        model: the model to run.
        utterances: mono samples at the model's rate; the next one is fetched when a slot is free.
        chunk_frames: encoder frames per chunk.
        make_sink: makes the sink of one utterance.
        slots: number of utterances that run at the same time.
        clock: measures ``StreamedUtteranceResult.seconds``.

    Yields:
        Utterances as they finish, which is not their order in the input.
    """
    step = BatchStep(model, slots, clock)
    waiting = enumerate(utterances)
    running: dict[int, _RunningUtterance[SinkT]] = {}
    while True:
        for slot in range(slots):
            if slot not in running and (following := next(waiting, None)) is not None:
                queue = model.chunk_queue(chunk_frames)
                queue.append(following[1])
                queue.mark(StopMark())
                running[slot] = _RunningUtterance(following[0], queue, make_sink())
        if not running:
            return
        start = clock()
        chunks = [(slot, utterance.queue.take()) for slot, utterance in running.items()]
        log_probs, _, lookahead = step.run(chunks)
        per_sample_s = (clock() - start) / max(1, sum(chunk.audio_samples for _, chunk in chunks))
        for (slot, chunk), log_probs_TV, lookahead_TV in zip(chunks, log_probs, lookahead, strict=True):
            utterance = running[slot]
            start = clock()
            utterance.sink.accept(chunk, log_probs_TV, lookahead_TV)
            utterance.seconds += clock() - start + per_sample_s * chunk.audio_samples
            if chunk.end is not None:
                del running[slot]
                yield StreamedUtteranceResult(utterance.index, utterance.sink, utterance.seconds)


@dataclass(slots=True, eq=False)
class _RunningUtterance(Generic[SinkT]):
    index: int
    queue: ChunkQueue
    sink: SinkT
    seconds: float = 0.0
