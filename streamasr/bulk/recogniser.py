"""Recognise many files on several threads, each of which steps a batch of streams through the model."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from streamasr.bulk.read_ahead import Job, OpenFile, ReadAhead
from streamasr.errors import StreamasrError
from streamasr.frontend.pcm import Samples
from streamasr.media.inputs import AudioInput
from streamasr.protocol.messages import Final
from streamasr.recognition.batch import BatchStep, LogProbs
from streamasr.recognition.captions import Captioner
from streamasr.recognition.chunking import Chunk, StopMark
from streamasr.recognition.model import LoadedModel
from streamasr.recognition.options import SessionOptions

logger = logging.getLogger(__name__)
POLL_S = 0.2
"""How often :meth:`BulkRecogniser.outcomes` returns to its caller while nothing has finished."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one row, or the error that it ended with."""

    index: int
    """Of the row in the manifest, counted from 0."""
    attempts: int
    audio_s: float = 0.0
    """Length of the audio that was recognised, in seconds."""
    finals: tuple[Final, ...] = ()
    warnings: tuple[str, ...] = ()
    incomplete_at_s: float | None = None
    """Where the audio was cut off, in seconds; ``None`` if it is complete."""
    error: str | None = None
    """Why the last attempt failed; ``None`` if the row was recognised."""


class BulkRecogniser:
    """Recognises rows on threads. A row's result does not depend on the others, and equals that of a live session.

    A row that fails is tried again when all others are done. If a step of the model fails, each stream in it is
    tried once more alone, so that one file cannot spoil others.

    Args:
        model: the model to run; its own number of threads should be 1.
        options: options of every stream, without partials.
        indices: the rows, in the order in which to begin them.
        source: returns the audio of a row; an error that it raises is the row's.
        channel: the channel to take, counted from 0; ``None`` mixes all of them.
        workers: threads that run the model and decode.
        batch: streams in one step of the model.
        retries: further attempts of a row that fails.
    """

    def __init__(
        self,
        model: LoadedModel,
        options: SessionOptions,
        indices: Iterable[int],
        source: Callable[[int], AudioInput],
        *,
        channel: int | None = None,
        workers: int = 1,
        batch: int = 16,
        retries: int = 2,
    ) -> None:
        self._model = model
        self._options = options
        self._source = source
        self._channel = channel
        self._batch = batch
        self._retries = retries
        self._outcomes: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._failure: Exception | None = None
        self._done_samples = [0] * workers
        rate = model.sample_rate
        self._ahead = ReadAhead(
            indices, source, rate, channel, files=workers * batch + batch, threads=workers + 1
        )
        self._workers = [
            threading.Thread(target=self._work, args=(number,), name=f"streamasr-bulk-{number}", daemon=True)
            for number in range(workers)
        ]
        for worker in self._workers:
            worker.start()

    @property
    def audio_s(self) -> float:
        """Seconds of audio recognised so far, unfinished files included."""
        return sum(self._done_samples) / self._model.sample_rate

    def outcomes(self) -> Iterator[Outcome | None]:
        """Yield each row's outcome as it finishes, and ``None`` now and then while none does.

        Raises:
            Exception: whatever ended a worker; it is an error of the program, not of a row.
        """
        while True:
            alive = any(worker.is_alive() for worker in self._workers)
            try:
                yield self._outcomes.get(timeout=POLL_S if alive else 0)
            except queue.Empty:
                if not alive:
                    if self._failure is not None:
                        raise self._failure from None
                    return
                yield None

    def stop(self) -> None:
        """End all threads soon. Rows that are not finished have no outcome."""
        self._stopping.set()
        self._ahead.stop()
        for worker in self._workers:
            worker.join()
        self._ahead.join()

    def _work(self, number: int) -> None:
        try:
            self._recognise(number)
        except Exception as error:  # noqa: BLE001 - outcomes() raises it
            self._failure = error
            self._stopping.set()
            self._ahead.stop()

    def _recognise(self, number: int) -> None:
        step = BatchStep(self._model, self._batch)
        running: dict[int, _Stream] = {}
        while not self._stopping.is_set():
            for slot in range(self._batch):
                if slot not in running:
                    if (file := self._ahead.claim(wait=not running)) is None:
                        break
                    running[slot] = _Stream(file, self._model, self._options)
            if not running:
                return
            hungry = {id(stream.file): stream for stream in running.values() if not stream.queue.ready}
            files = [stream.file for stream in hungry.values()]
            for file, blocks, ended in self._ahead.take(files, wait=len(hungry) == len(running)):
                hungry[id(file)].feed(blocks, ended=ended)
            self._step(step, {slot: stream for slot, stream in running.items() if stream.is_ready}, number)
            for slot, stream in list(running.items()):
                if stream.ended or stream.error is not None:
                    del running[slot]
                    self._finish(stream)

    def _step(self, step: BatchStep, streams: dict[int, _Stream], number: int) -> None:
        """Step streams that have a chunk each."""
        if not streams:
            return
        chunks = [(slot, stream.queue.take()) for slot, stream in streams.items()]
        try:
            log_probs, _, lookahead = step.run(chunks)
        except Exception:
            logger.exception("a step of the model failed; each of its %d rows is tried alone", len(chunks))
            for stream in streams.values():
                self._run_alone(stream, number)
            return
        for (slot, chunk), log_probs_TV, lookahead_TV in zip(chunks, log_probs, lookahead, strict=True):
            try:
                streams[slot].accept(chunk, log_probs_TV, lookahead_TV)
            except Exception as error:  # noqa: BLE001 - whatever is wrong with a stream, its row gets the error
                streams[slot].error = error
            self._done_samples[number] += chunk.audio_samples

    def _run_alone(self, stream: _Stream, number: int) -> None:
        """Recognise a file from its start, without others beside it; if that fails too, its row has failed."""
        self._done_samples[number] -= stream.samples
        stream.begin()
        step = BatchStep(self._model, slots=1)
        try:
            with self._source(stream.file.job.index).open() as reader:
                for block_S in reader.mono_blocks(self._model.sample_rate, self._channel):
                    stream.feed([block_S], ended=False)
                    self._step_alone(step, stream)
            stream.feed([], ended=True)
            self._step_alone(step, stream)
            stream.file.warnings, stream.file.incomplete_at_s = reader.warnings, reader.incomplete_at_s
        except Exception as error:  # noqa: BLE001 - as above
            stream.error = error
        self._done_samples[number] += stream.samples

    def _step_alone(self, step: BatchStep, stream: _Stream) -> None:
        while stream.is_ready and not stream.ended and not self._stopping.is_set():
            chunk = stream.queue.take()
            (log_probs_TV,), _, (lookahead_TV,) = step.run([(0, chunk)])
            stream.accept(chunk, log_probs_TV, lookahead_TV)

    def _finish(self, stream: _Stream) -> None:
        job, error = stream.file.job, stream.error or stream.file.error
        if error is None:
            self._outcomes.put(
                Outcome(
                    job.index,
                    job.attempt,
                    audio_s=stream.samples / self._model.sample_rate,
                    finals=tuple(stream.finals),
                    warnings=tuple(stream.file.warnings),
                    incomplete_at_s=stream.file.incomplete_at_s,
                )
            )
        elif job.attempt <= self._retries:
            self._ahead.retry(Job(job.index, job.attempt + 1))
        else:
            self._outcomes.put(Outcome(job.index, job.attempt, error=describe(error)))
        self._ahead.finish(stream.file)


def describe(error: Exception) -> str:
    """Return the sentence about an error that a result holds."""
    return error.message if isinstance(error, StreamasrError) else f"{type(error).__name__}: {error}"


class _Stream:
    """A file on its way through the model."""

    def __init__(self, file: OpenFile, model: LoadedModel, options: SessionOptions) -> None:
        self.file = file
        self._model = model
        self._options = options
        self.error: Exception | None = None
        self.begin()

    def begin(self) -> None:
        """Start from the file's first sample."""
        self._captioner = Captioner(self._model, self._options)
        self.queue = self._model.chunk_queue(self._options.chunk_frames)
        self.finals: list[Final] = []
        self.samples = 0
        """Samples recognised so far."""
        self.ended = False

    @property
    def is_ready(self) -> bool:
        """Whether there is a chunk to step."""
        return self.error is None and self.queue.ready

    def feed(self, blocks: Sequence[Samples], *, ended: bool) -> None:
        """Queue samples, and the end of the stream if the file has ended."""
        for block_S in blocks:
            self.queue.append(block_S)
        if ended:
            self.error = self.file.error
            self.queue.mark(StopMark())

    def accept(self, chunk: Chunk, log_probs_TV: LogProbs, lookahead_TV: LogProbs) -> None:
        """Decode the log-probs of the next chunk and its look-ahead."""
        messages = self._captioner.accept(chunk, log_probs_TV, lookahead_TV)
        self.finals += [message for message in messages if isinstance(message, Final)]
        self.samples += chunk.audio_samples
        self.ended = chunk.end is not None
