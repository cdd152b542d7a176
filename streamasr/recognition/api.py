"""Transcribe files and streams from Python: the public in-process API, re-exported by ``streamasr``.

Results equal those of the daemon for the same samples. Shape suffix: S samples.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamasr.errors import AudioError, ConfigError, ProtocolError
from streamasr.frontend.pcm import MAX_FLOAT_LEVEL, Samples
from streamasr.frontend.resample import Resampler
from streamasr.media.reader import read_audio
from streamasr.protocol.messages import Final, HotwordReading, HotwordSpec, Partial, ServerMessage, Start
from streamasr.protocol.serialisation import encode, parse_client_message
from streamasr.recognition.batch import LogProbs
from streamasr.recognition.captions import Captioner
from streamasr.recognition.chunking import Chunk
from streamasr.recognition.hotwords import read_hotwords as _read_hotwords
from streamasr.recognition.hotwords import unused_notice
from streamasr.recognition.local import LocalSession
from streamasr.recognition.model import LoadedModel
from streamasr.recognition.options import SessionOptions, resolve_options
from streamasr.recognition.streaming import stream_many
from streamasr.text import join_words

Audio = str | Path | NDArray[np.float32] | NDArray[np.float64]
"""An audio file, or mono samples [S] in -1..1."""
StreamEvent = Partial | Final
"""A result of a stream: the unfinished or the finished text of an utterance."""


@dataclass(frozen=True, slots=True)
class Transcript:
    """The text of a whole recording."""

    text: str
    """All utterances, joined."""
    utterances: tuple[Final, ...]
    """Each with text, confidence and times in ms; word times with ``words=True``."""


def options(
    *,
    latency_ms: int = Start().latency_ms,
    hotwords: Iterable[str] = (),
    words: bool = True,
    written: bool = False,
) -> Start:
    """Collect the options of a transcription.

    Args:
        latency_ms: audio per step; the largest chunk of the model that is not longer is used.
        hotwords: words and phrases to favour, with the model's own boost, in any spelling; :func:`read_hotwords`
            returns how a model reads them. Those that it cannot use cause a ``UserWarning`` later.
        words: whether results have word times and confidences.
        written: write capitals, punctuation and digits instead of bare words as spoken.

    Raises:
        ProtocolError: a value is of the wrong type or beyond the limits of docs/protocol.md.
    """
    if isinstance(hotwords, str):
        raise ProtocolError(f"start.hotwords: expected a list of strings, got the string {hotwords!r}")
    start = Start(
        latency_ms=latency_ms,
        hotwords=tuple(HotwordSpec(text=hotword) for hotword in hotwords),
        words=words,
        format="written" if written else "plain",
    )
    try:
        parse_client_message(encode(start))  # makes the checks of the daemon
    except TypeError as error:
        raise ProtocolError(f"start: options must be plain Python numbers and strings: {error}") from None
    return start


def read_hotwords(model: LoadedModel, hotwords: Iterable[str]) -> tuple[HotwordReading, ...]:
    """Return how the model reads each of ``hotwords``; ``read_as`` is ``None`` for those that it cannot use.

    Raises:
        ProtocolError: a value is of the wrong type or beyond the limits of docs/protocol.md.
    """
    return _read_hotwords(options(hotwords=hotwords).hotwords, model).readings


def transcribe(
    model: LoadedModel, audio: Audio, *, sample_rate: int | None = None, start: Start | None = None
) -> Transcript:
    """Transcribe one recording.

    Args:
        model: from :func:`streamasr.load_model`.
        audio: a file that libsndfile reads, or mono samples [S] in -1..1.
        sample_rate: of samples, in Hz; by default the model's (16,000 for ``en-small``).
        start: from :func:`options`.

    Raises:
        DataError: the file does not exist or is not audio.
        AudioError: the samples have another shape, type or scale, or are not finite.
        ConfigError: ``sample_rate`` is not positive.
        ProtocolError: the model does not support an option.
    """
    session = _session_options(model, start)
    (transcript,) = _transcribe(model, [audio], sample_rate, session, slots=1)
    return transcript


def transcribe_batch(
    model: LoadedModel,
    audio: Iterable[Audio],
    *,
    sample_rate: int | None = None,
    start: Start | None = None,
    slots: int = 8,
) -> list[Transcript]:
    """Transcribe many recordings, up to ``slots`` of them in each step of the model.

    Returns transcripts in the order of the input, equal to those of :func:`transcribe`; for the other
    arguments and errors see there. Memory holds the samples of ``slots`` recordings at a time.
    """
    if slots < 1:
        raise ConfigError(f"slots must be 1 or more, got {slots}")
    return _transcribe(model, audio, sample_rate, _session_options(model, start), slots)


def _session_options(model: LoadedModel, start: Start | None) -> SessionOptions:
    session = resolve_options(replace(start or options(), partials=False), model)
    _warn_of_unused_hotwords(session, stacklevel=4)
    return session


def _transcribe(
    model: LoadedModel,
    audio: Iterable[Audio],
    sample_rate: int | None,
    session: SessionOptions,
    slots: int,
) -> list[Transcript]:
    recordings = (_samples(recording, sample_rate, model.sample_rate) for recording in audio)
    done: dict[int, Transcript] = {}
    for stream in stream_many(
        model, recordings, session.chunk_frames, lambda: _Finals(Captioner(model, session)), slots=slots
    ):
        finals = tuple(stream.sink.finals)
        done[stream.index] = Transcript(join_words(final.text for final in finals), finals)
    return [done[index] for index in sorted(done)]


class Stream:
    """Transcribes a stream of samples, with partial results.

    Args:
        model: from :func:`streamasr.load_model`.
        sample_rate: of the samples, in Hz; by default the model's.
        start: from :func:`options`.

    Raises:
        ConfigError: ``sample_rate`` is not positive.
        ProtocolError: the model does not support an option.
    """

    def __init__(
        self, model: LoadedModel, *, sample_rate: int | None = None, start: Start | None = None
    ) -> None:
        self._session = LocalSession(model, start or options())
        _warn_of_unused_hotwords(self._session.options, stacklevel=3)
        self._resampler = _resampler(sample_rate, model.sample_rate)
        self._stopped = False

    def feed(self, samples_S: NDArray[np.floating[Any]]) -> list[StreamEvent]:
        """Add mono samples [S] in -1..1, any number of them; return the results that they complete.

        Raises:
            AudioError: the samples have another shape, type or scale, or are not finite.
            ProtocolError: after :meth:`stop`, like the other methods.
        """
        self._refuse_after_stop("samples")
        return _results(self._session.feed(self._resampler.feed(_checked(samples_S))))

    def finalize(self) -> list[StreamEvent]:
        """Finish the current utterance, for example after push-to-talk; the stream continues afterwards."""
        self._refuse_after_stop("finalize")
        rest = self._session.feed(self._resampler.flush())
        return _results([*rest, *self._session.finalize()])

    def stop(self) -> list[StreamEvent]:
        """Finish the stream; return its last results."""
        self._refuse_after_stop("stop")
        self._stopped = True
        rest = self._session.feed(self._resampler.flush())
        return _results([*rest, *self._session.stop()])

    def _refuse_after_stop(self, what: str) -> None:
        if self._stopped:
            raise ProtocolError(f"{what} came after stop; use a new Stream", code="out_of_order")


class _Finals:
    """Keeps the finals of one recording."""

    def __init__(self, captioner: Captioner) -> None:
        self._captioner = captioner
        self.finals: list[Final] = []

    def accept(self, chunk: Chunk, log_probs_TV: LogProbs, lookahead_TV: LogProbs, /) -> None:
        messages = self._captioner.accept(chunk, log_probs_TV, lookahead_TV)
        self.finals += [message for message in messages if isinstance(message, Final)]


def _samples(audio: Audio, sample_rate: int | None, model_rate: int) -> Samples:
    if isinstance(audio, str | Path):
        return read_audio(Path(audio), model_rate)
    resampler = _resampler(sample_rate, model_rate)
    return np.concatenate((resampler.feed(_checked(audio)), resampler.flush()))


def _resampler(sample_rate: int | None, model_rate: int) -> Resampler:
    if sample_rate is not None and sample_rate <= 0:
        raise ConfigError(f"sample_rate must be a positive number of Hz, got {sample_rate}")
    return Resampler(sample_rate or model_rate, model_rate)


def _checked(samples_S: NDArray[np.floating[Any]]) -> Samples:
    samples = np.asarray(samples_S)
    if samples.ndim != 1 or not np.issubdtype(samples.dtype, np.floating):
        raise AudioError(
            f"expected mono float samples of shape [S] in -1..1, got {samples.dtype} of shape "
            f"{list(samples.shape)}; divide 16-bit integers by 32768, and take the mean of channels"
        )
    if not np.isfinite(samples).all():
        raise AudioError(f"sample {int(np.flatnonzero(~np.isfinite(samples))[0])} is not finite")
    level = float(np.abs(samples).max(initial=0.0))
    if level > MAX_FLOAT_LEVEL:
        raise AudioError(
            f"a sample has the level {level:g}, full scale is 1; divide 16-bit integers by 32768"
        )
    return samples.astype(np.float32).clip(-1.0, 1.0)


def _warn_of_unused_hotwords(session: SessionOptions, stacklevel: int) -> None:
    if (notice := unused_notice(session.hotwords)) is not None:
        warnings.warn(notice, stacklevel=stacklevel)


def _results(messages: Iterable[ServerMessage]) -> list[StreamEvent]:
    return [message for message in messages if isinstance(message, (Partial, Final))]
