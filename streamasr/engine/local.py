"""Recognition in this process, without thread or daemon: files and arrays in, the protocol's messages out.

Runs the very code that sessions of the daemon run, so that the same samples give the same text.
Shape suffix: S samples.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from streamasr.engine.batch import BatchStep
from streamasr.engine.captions import Captioner
from streamasr.engine.intake import ChunkQueue, FinalizeMark, StopMark
from streamasr.engine.model import LoadedModel
from streamasr.engine.options import resolve_options
from streamasr.frontend.files import read_blocks
from streamasr.frontend.pcm import Samples
from streamasr.protocol.messages import ServerMessage, Start


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
        self._queue = ChunkQueue(options.chunk_frames * model.frame_samples)

    def feed(self, samples_S: Samples) -> list[ServerMessage]:
        """Hear more samples; what they changed."""
        self._queue.append(samples_S)
        return self._run()

    def finalize(self, identity: str = "") -> list[ServerMessage]:
        """Finish all audio so far; the stream starts afresh behind it."""
        self._queue.mark(FinalizeMark(identity))
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
            told.extend(self._captioner.hear(chunk, log_probs_TV))
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
        DataError: no such file, or not audio.
        ProtocolError: the model cannot do what ``start`` asks for.
    """
    return transcribe_blocks(model, read_blocks(path, model.sample_rate), start)


def transcribe_many(
    model: LoadedModel, utterances: Iterable[Samples], start: Start | None = None, *, slots: int = 16
) -> Iterator[tuple[int, list[ServerMessage]]]:
    """Each utterance as a session of its own, up to ``slots`` of them stepped together.

    Yields the index of each utterance with all its messages, as they are finished: not in order.

    Raises:
        ProtocolError: the model cannot do what ``start`` asks for.
    """
    options = resolve_options(start or Start(), model)
    step = BatchStep(model, slots)
    waiting = enumerate(utterances)
    running: dict[int, tuple[int, ChunkQueue, Captioner, list[ServerMessage]]] = {}
    while True:
        for slot in range(slots):
            if slot not in running and (following := next(waiting, None)) is not None:
                index, samples_S = following
                queue = ChunkQueue(options.chunk_frames * model.frame_samples)
                queue.append(samples_S)
                queue.mark(StopMark())
                running[slot] = (index, queue, Captioner(model, options), [])
        if not running:
            return
        work = [(slot, queue.take()) for slot, (_, queue, _, _) in running.items()]
        log_probs, _ = step.run(work)
        for (slot, chunk), log_probs_TV in zip(work, log_probs, strict=True):
            index, _, captioner, told = running[slot]
            told.extend(captioner.hear(chunk, log_probs_TV))
            if chunk.end is not None:
                del running[slot]
                yield index, told
