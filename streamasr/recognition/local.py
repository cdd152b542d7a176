"""Recognise audio in this process, without a daemon: samples or a file in, protocol messages out.

It runs the code that the daemon's sessions run, so the same samples give the same text. Shape suffix: S samples.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from streamasr.frontend.pcm import Samples
from streamasr.media.reader import open_file
from streamasr.protocol.messages import ServerMessage, Start, Warning
from streamasr.recognition.batch import BatchStep
from streamasr.recognition.captions import Captioner
from streamasr.recognition.chunking import FinalizeMark, StopMark
from streamasr.recognition.hotwords import unused_notice
from streamasr.recognition.model import LoadedModel
from streamasr.recognition.options import resolve_options


class LocalSession:
    """One session whose methods return the messages that a daemon would send.

    Args:
        model: the model to run.
        start: the session's options. Its encoding and rate are ignored: samples come at the model's rate.

    Raises:
        ProtocolError: the model does not support an option.
    """

    def __init__(self, model: LoadedModel, start: Start | None = None) -> None:
        self.options = options = resolve_options(start or Start(), model)
        """The session's options."""
        self._step = BatchStep(model, slots=1)
        self._captioner = Captioner(model, options)
        self._queue = model.chunk_queue(options.chunk_frames)
        notice = unused_notice(options.hotwords)
        self._opening = [] if notice is None else [Warning(code="bad_hotwords", message=notice)]

    def feed(self, samples_S: Samples) -> list[ServerMessage]:
        """Recognise more samples, as far as they complete chunks."""
        self._queue.append(samples_S)
        return self._run()

    def finalize(self, finalize_id: str = "") -> list[ServerMessage]:
        """Recognise all samples so far; the next sample starts a new stream. ``Finalized`` is the last message."""
        self._queue.mark(FinalizeMark(finalize_id))
        return self._run()

    def stop(self) -> list[ServerMessage]:
        """Recognise all samples so far and end the session. ``Done`` is the last message."""
        self._queue.mark(StopMark())
        return self._run()

    def _run(self) -> list[ServerMessage]:
        emitted: list[ServerMessage] = [*self._opening]
        self._opening.clear()
        while self._queue.ready:
            chunk = self._queue.take()
            (log_probs_TV,), _, (lookahead_TV,) = self._step.run([(0, chunk)])
            emitted.extend(self._captioner.accept(chunk, log_probs_TV, lookahead_TV))
        return emitted


def transcribe_blocks(
    model: LoadedModel, blocks: Iterable[Samples], start: Start | None = None
) -> Iterator[ServerMessage]:
    """Recognise blocks of mono samples at the model's rate.

    Yields:
        Messages as soon as their audio has been read; ``Done`` is the last one.

    Raises:
        ProtocolError: the model does not support an option of ``start``.
    """
    session = LocalSession(model, start)
    for samples_S in blocks:
        yield from session.feed(samples_S)
    yield from session.stop()


def transcribe_file(model: LoadedModel, path: Path, start: Start | None = None) -> Iterator[ServerMessage]:
    """Recognise an audio file of any sample rate; see :func:`transcribe_blocks`.

    Raises:
        DataError: no such file, not audio, or a sample that is not usable.
        ProtocolError: the model does not support an option of ``start``.
    """
    with open_file(path) as reader:
        yield from transcribe_blocks(model, reader.mono_blocks(model.sample_rate), start)
