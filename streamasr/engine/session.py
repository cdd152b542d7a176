"""Accept one live session's audio and requests, and send its messages to a sink.

Every method returns at once, so an event loop may call it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from streamasr.engine.schedule import QueuedSession, Scheduler
from streamasr.errors import ProtocolError
from streamasr.protocol.messages import HotwordSpec, Ready, ServerMessage, Warning
from streamasr.recognition.captions import Captioner
from streamasr.recognition.chunking import FinalizeMark, HotwordsMark, StopMark
from streamasr.recognition.hotwords import read_hotwords
from streamasr.recognition.model import LoadedModel
from streamasr.recognition.options import SessionOptions
from streamasr.recognition.pcm_reader import PcmReader

MessageSink = Callable[[ServerMessage], None]
"""Receives a session's messages, in order, on the engine's worker thread, and warnings about the input on the thread
that feeds it. It must return at once and not raise."""


class Session:
    """One session, opened by :meth:`streamasr.engine.Engine.open`. Its methods may be called from any thread.

    It is over when ``Done`` or ``Error`` has been sent to the sink, or after :meth:`abort`. What is fed to it then
    is ignored.
    """

    def __init__(
        self,
        *,
        model: LoadedModel,
        options: SessionOptions,
        scheduler: Scheduler,
        queued: QueuedSession,
        sink: MessageSink,
        resume: Callable[[], None],
        leave: Callable[[Session], None],
    ) -> None:
        self._model = model
        self._scheduler = scheduler
        self._queued = queued
        self._sink = sink
        self._leave = leave
        self._reader = PcmReader(options, model.sample_rate)
        self._input_lock = threading.Lock()
        self._stopped = False
        self._over = False
        self.resume = resume
        """Called on the worker thread when a congested session may be fed again."""
        self.captioner = Captioner(model, options)
        """Used by the worker thread only."""
        self.ready = Ready(
            session=queued.id,
            sample_rate=options.sample_rate,
            latency_ms=model.chunk_ms(options.chunk_frames),
            hop_ms=model.chunk_ms(options.chunk_frames // model.encoder.hops_per_chunk),
            model=model.config.name,
            hotwords=options.hotwords.readings,
        )
        """The first message for the client."""

    @property
    def id(self) -> str:
        """Unique over the life of the engine."""
        return self._queued.id

    @property
    def queued(self) -> QueuedSession:
        """The session's entry in the scheduler."""
        return self._queued

    @property
    def over(self) -> bool:
        """Whether the last message has been sent, or the session aborted."""
        return self._over

    @property
    def is_live(self) -> bool:
        """Whether it counts as live load: its end makes room for another live session."""
        return self._scheduler.is_live(self._queued)

    @property
    def backlog_ms(self) -> int:
        """Audio that waits to be recognised, in milliseconds."""
        return self._scheduler.backlog_ms(self._queued)

    @property
    def congested(self) -> bool:
        """Whether to read no more audio from the client until :attr:`resume` is called."""
        return self._queued.congested

    def feed(self, data: bytes) -> None:
        """Queue audio in the encoding that the session was opened with. A frame may be split over two calls.

        Raises:
            AudioError: the bytes are not in that encoding.
            OverloadedError: the queue is full, because ``congested`` was ignored.
            ProtocolError: after :meth:`stop`.
        """
        with self._input_lock:
            self._refuse_after_stop("audio")
            samples_S = self._reader.feed(data)
            self._warn_of_suspicious_audio()
            self._scheduler.append(self._queued, samples_S)

    def drop_partial_frame(self) -> None:
        """Drop the bytes of an incomplete frame: the client sends the whole frame again."""
        with self._input_lock:
            self._reader.drop_partial_frame()

    def finalize(self, finalize_id: str) -> None:
        """Finish all audio so far and send its finals, then ``finalized``. The next audio starts a new stream.

        Raises:
            OverloadedError: too many requests are waiting.
            ProtocolError: after :meth:`stop`.
        """
        with self._input_lock:
            self._refuse_after_stop("finalize")
            rest_S = self._reader.flush()
            self._warn_of_suspicious_audio()
            self._scheduler.mark(self._queued, FinalizeMark(finalize_id), rest_S)

    def configure(self, hotwords: Iterable[HotwordSpec]) -> None:
        """Replace the hotwords, from the chunk with the next audio on.

        If the model cannot spell one of them, the old hotwords stay, and a warning names those that it cannot spell.

        Raises:
            ProtocolError: after :meth:`stop`.
            OverloadedError: too many requests are waiting.
        """
        read = read_hotwords(hotwords, self._model)
        with self._input_lock:
            self._refuse_after_stop("configure")
            if read.problems:
                text = f"the hotwords stay as they were; {read.summary}"
                self.emit(Warning(code="bad_hotwords", message=text))
                return
            self._scheduler.mark(self._queued, HotwordsMark(read.hotwords))

    def stop(self) -> None:
        """End the audio; the last finals and ``done`` follow. Stopping twice is allowed."""
        with self._input_lock:
            if not self._stopped:
                self._stopped = True
                rest_S = self._reader.flush()
                self._warn_of_suspicious_audio()
                self._scheduler.mark(self._queued, StopMark(), rest_S)

    def abort(self) -> None:
        """End the session at once and drop its waiting audio. At most a message that is being sent still follows."""
        self._over = True
        self._leave(self)

    def emit(self, message: ServerMessage) -> None:
        """Send a message to the sink, unless the session is over. For the engine."""
        if not self._over:
            self._over = message.type in ("done", "error")
            self._sink(message)

    def _warn_of_suspicious_audio(self) -> None:
        text = self._reader.take_warning()
        if text is None and self._stopped and (count := self._reader.partial_frame_bytes):
            text = f"the audio ended in the middle of a sample; its last {count} bytes are ignored"
        if text is not None:
            self.emit(Warning(code="suspicious_audio", message=text))

    def _refuse_after_stop(self, what: str) -> None:
        if self._stopped and not self._over:
            raise ProtocolError(f"{what} came after stop", code="out_of_order")
