"""Recognition in this process, without thread or daemon: files and arrays in, the protocol's messages out.

Runs the very code that sessions of the daemon run, so that the same samples give the same text.
Shape suffixes: S samples, T frames, M mel bands, V tokens.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from streamasr.frontend.pcm import Samples
from streamasr.media.reader import open_file
from streamasr.protocol.messages import ServerMessage, Start
from streamasr.recognition.batch import BatchStep, LogProbs
from streamasr.recognition.captions import Captioner
from streamasr.recognition.chunking import Chunk, ChunkQueue, FinalizeMark, StopMark
from streamasr.recognition.model import LoadedModel
from streamasr.recognition.options import resolve_options


class LogProbsSink(Protocol):
    """What hears the log-probs of one stream; a :class:`Captioner` is one."""

    def accept(self, chunk: Chunk, log_probs_TV: LogProbs, /) -> object:
        """The log-probs of the next chunk; none where it has no sample."""


SinkT = TypeVar("SinkT", bound=LogProbsSink)


class LocalSession:
    """One session that answers at once.

    Args:
        model: what to run.
        start: the session's options; its encoding and rate mean nothing, samples come at the model's rate.

    Raises:
        ProtocolError: the model cannot do what ``start`` asks for.
    """

    def __init__(self, model: LoadedModel, start: Start | None = None) -> None:
        options = resolve_options(start or Start(), model)
        self._step = BatchStep(model, slots=1)
        self._captioner = Captioner(model, options)
        self._queue = model.chunk_queue(options.chunk_frames)

    def feed(self, samples_S: Samples) -> list[ServerMessage]:
        """Hear more samples; what they changed."""
        self._queue.append(samples_S)
        return self._run()

    def finalize(self, finalize_id: str = "") -> list[ServerMessage]:
        """Finish all audio so far; the stream starts afresh behind it."""
        self._queue.mark(FinalizeMark(finalize_id))
        return self._run()

    def stop(self) -> list[ServerMessage]:
        """The last finals and ``Done``; the session is over."""
        self._queue.mark(StopMark())
        return self._run()

    def _run(self) -> list[ServerMessage]:
        told: list[ServerMessage] = []
        while self._queue.ready:
            chunk = self._queue.take()
            (log_probs_TV,), _ = self._step.run([(0, chunk)])
            told.extend(self._captioner.accept(chunk, log_probs_TV))
        return told


def transcribe_blocks(
    model: LoadedModel, blocks: Iterable[Samples], start: Start | None = None
) -> Iterator[ServerMessage]:
    """Messages about mono samples at the model's rate, as soon as their blocks allow them; ``Done`` last.

    Raises:
        ProtocolError: the model cannot do what ``start`` asks for.
    """
    session = LocalSession(model, start)
    for samples_S in blocks:
        yield from session.feed(samples_S)
    yield from session.stop()


def transcribe_samples(
    model: LoadedModel, samples_S: Samples, start: Start | None = None
) -> list[ServerMessage]:
    """All messages about mono samples at the model's rate; see :func:`transcribe_blocks`."""
    return list(transcribe_blocks(model, [samples_S], start))


def transcribe_file(model: LoadedModel, path: Path, start: Start | None = None) -> Iterator[ServerMessage]:
    """Messages about an audio file of any rate; see :func:`transcribe_blocks`.

    Raises:
        DataError: no such file, not audio, or a sample that cannot be used.
        ProtocolError: the model cannot do what ``start`` asks for.
    """
    with open_file(path) as reader:
        yield from transcribe_blocks(model, reader.mono_blocks(model.sample_rate), start)


@dataclass(frozen=True, slots=True)
class StreamedUtteranceResult(Generic[SinkT]):
    """An utterance that is through."""

    index: int
    """Its place in the input."""
    sink: SinkT
    seconds: float
    """Its share of the time that its steps took, by their samples, and its own listener's."""


def stream_many(
    model: LoadedModel,
    utterances: Iterable[Samples],
    chunk_frames: int,
    make_sink: Callable[[], SinkT],
    *,
    slots: int = 16,
    clock: Callable[[], float] = time.perf_counter,
) -> Iterator[StreamedUtteranceResult[SinkT]]:
    """Stream each utterance on its own, up to ``slots`` of them stepped together.

    Args:
        model: what to run.
        utterances: mono samples at the model's rate; asked for only when a slot is free.
        chunk_frames: encoder frames of a chunk.
        make_sink: makes what hears one utterance's log-probs, chunk by chunk.
        slots: utterances at a time.
        clock: seconds, for ``StreamedUtteranceResult.seconds`` alone.

    Yields each utterance when it is through, which is not their order.
    """
    step = BatchStep(model, slots, clock)
    waiting = enumerate(utterances)
    running: dict[int, _Running[SinkT]] = {}
    while True:
        for slot in range(slots):
            if slot not in running and (following := next(waiting, None)) is not None:
                queue = model.chunk_queue(chunk_frames)
                queue.append(following[1])
                queue.mark(StopMark())
                running[slot] = _Running(following[0], queue, make_sink())
        if not running:
            return
        began = clock()
        work = [(slot, stream.queue.take()) for slot, stream in running.items()]
        log_probs, _ = step.run(work)
        per_sample_s = (clock() - began) / max(1, sum(len(chunk.samples_S) for _, chunk in work))
        for (slot, chunk), log_probs_TV in zip(work, log_probs, strict=True):
            stream = running[slot]
            began = clock()
            stream.sink.accept(chunk, log_probs_TV)
            stream.seconds += clock() - began + per_sample_s * len(chunk.samples_S)
            if chunk.end is not None:
                del running[slot]
                yield StreamedUtteranceResult(stream.index, stream.sink, stream.seconds)


class UtteranceOutput(NamedTuple):
    """What a whole utterance sounds like."""

    mel_TM: NDArray[np.float32]
    log_probs_TV: NDArray[np.float32]


@torch.inference_mode()
def run_whole(model: LoadedModel, samples_S: Samples, chunk_frames: int | None) -> UtteranceOutput:
    """Mel frames and log-probs of an utterance at once, under the mask that streaming in such chunks gives.

    With ``chunk_frames=None`` every frame sees the whole utterance.
    """
    framing = model.framing
    frames = framing.mel_frames(len(samples_S))
    padded_S = np.pad(samples_S, (0, max(0, frames * framing.hop - len(samples_S))))
    if not frames:
        padded_S = np.zeros(framing.frame_samples, dtype=np.float32)
    sounds_B = torch.tensor([len(samples_S)], device=model.device)
    mel_BTM = model.frontend(torch.from_numpy(padded_S)[None].to(model.device), sounds_B)
    lengths_B = torch.tensor([frames], device=model.device)
    log_probs_BTV, frames_B = model.encoder.forward(mel_BTM, lengths_B, chunk_frames)
    return UtteranceOutput(
        mel_BTM[0, :frames].cpu().numpy(), log_probs_BTV[0, : int(frames_B)].float().cpu().numpy()
    )


def run_streamed(
    model: LoadedModel, samples_S: Samples, chunk_frames: int, split_seed: int | None = None
) -> UtteranceOutput:
    """The same of a stream in chunks of that size, with a seed fed in pieces of random lengths."""
    mels: list[NDArray[np.float32]] = []
    step = BatchStep(model, slots=1, tap=lambda _, mel_TM: mels.append(mel_TM.cpu().numpy()))
    queue = model.chunk_queue(chunk_frames)
    log_probs: list[LogProbs] = []

    def run() -> None:
        while queue.ready:
            log_probs.extend(step.run([(0, queue.take())])[0])

    cuts: list[int] = []
    if split_seed is not None:
        rng = np.random.default_rng(split_seed)
        cuts = np.sort(
            rng.integers(0, len(samples_S) + 1, len(samples_S) // model.frame_samples + 1)
        ).tolist()
    for piece_S in np.split(samples_S, cuts):
        queue.append(piece_S)
        run()
    queue.mark(StopMark())
    run()
    heard = [part_TV for part_TV in log_probs if len(part_TV)]
    tokens, features = len(model.decoder.beams.tokens), model.config.frontend.features
    return UtteranceOutput(
        np.concatenate(mels) if mels else np.zeros((0, features), dtype=np.float32),
        np.concatenate(heard).astype(np.float32) if heard else np.zeros((0, tokens), dtype=np.float32),
    )


@dataclass(slots=True, eq=False)
class _Running(Generic[SinkT]):
    index: int
    queue: ChunkQueue
    sink: SinkT
    seconds: float = 0.0
