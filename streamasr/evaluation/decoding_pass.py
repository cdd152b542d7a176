"""Run one model pass over audio files and decode its log-probs in several modes at once.

The encoder runs once for all modes. Streams run through the same code as the daemon's sessions.
Shape suffixes: S samples, T encoder frames, V tokens, M mel bands.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Protocol

import numpy as np

from streamasr.decoding.beam import BeamDecoder
from streamasr.decoding.greedy import greedy_text
from streamasr.errors import ConfigError, DataError
from streamasr.evaluation.pyctcdecode_reference import PyctcdecodeReference
from streamasr.frontend.pcm import Samples
from streamasr.media.reader import read_audio
from streamasr.protocol import messages
from streamasr.recognition.batch import LogProbs
from streamasr.recognition.captions import Captioner
from streamasr.recognition.chunking import Chunk, StopMark
from streamasr.recognition.encoder_output import run_whole
from streamasr.recognition.model import LoadedModel
from streamasr.recognition.options import resolve_options
from streamasr.recognition.streaming import stream_many
from streamasr.text import join_words


class Mode(StrEnum):
    """How log-probs become text."""

    GREEDY = "greedy"
    """The best token of every frame: no beam, no language model, no endpoints."""
    BEAM = "beam"
    """Beam search over the model's tokens, without a language model."""
    BEAM_LM = "beam+lm"
    """Beam search with the model's language models, as in the daemon."""
    PYCTCDECODE = "pyctcdecode"
    """pyctcdecode's beam search with the same n-gram model and settings, as a reference; no neural language model, no
    endpoints."""


@dataclass(frozen=True, slots=True)
class DecodedUtterance:
    """One utterance, decoded in one mode."""

    index: int
    """Its place in the input."""
    mode: Mode
    text: str
    audio_s: float
    seconds: float
    """Its share of the encoder's wall time, and the mode's own wall time."""
    cpu_s: float
    """CPU seconds of decoding alone; :class:`PassCost` has the encoder's."""


@dataclass(slots=True)
class PassCost:
    """CPU seconds, over all threads, of the encoder and the front end in a pass; complete at its end."""

    encoder_cpu_s: float = 0.0


def default_modes(model: LoadedModel) -> tuple[Mode, ...]:
    """The mode that the daemon uses with this model."""
    return (Mode.BEAM if model.decoder.beams.lm is None else Mode.BEAM_LM,)


def decode_files(
    model: LoadedModel,
    paths: Sequence[Path],
    *,
    chunk_frames: int | None,
    modes: Sequence[Mode],
    batch: int,
    cost: PassCost,
) -> Iterator[list[DecodedUtterance]]:
    """Recognise every file once in each mode; yields a file's results when it is finished, not in order.

    Args:
        model: what to run.
        paths: audio files of any rate.
        chunk_frames: encoder frames of a chunk; ``None`` lets every frame see its whole file.
        modes: at least one.
        batch: streams at a time.
        cost: receives the encoder's CPU time.

    Raises:
        DataError: an audio file is missing, unreadable or empty.
        ConfigError: a mode needs a language model and the model has none, or pyctcdecode is not installed.
    """
    if Mode.BEAM_LM in modes and model.decoder.beams.lm is None:
        raise ConfigError(f"{model.config.name} has no language model (lm.bin); use greedy or beam")
    started_cpu_s, other_cpu_s = time.process_time(), 0.0
    lengths: dict[int, int] = {}

    def audio() -> Iterator[Samples]:
        nonlocal other_cpu_s
        for index, path in enumerate(paths):
            read_started = time.process_time()
            samples_S = read_audio(path, model.sample_rate)
            other_cpu_s += time.process_time() - read_started
            if not len(samples_S):
                raise DataError(f"{path}: contains no samples")
            lengths[index] = len(samples_S)
            yield samples_S

    factories = {mode: _decoder_factory(model, mode) for mode in modes}

    def make_decoders() -> _ModeDecoders:
        return _ModeDecoders({mode: make() for mode, make in factories.items()})

    if chunk_frames is None:
        results = _decode_whole(model, audio(), make_decoders)
    else:
        streams = stream_many(
            model, audio(), chunk_frames, make_decoders, slots=batch, clock=time.perf_counter
        )
        results = ((stream.index, stream.sink, stream.seconds) for stream in streams)
    for index, decoders, seconds in results:
        shared_s = seconds - sum(decoders.seconds.values())
        other_cpu_s += sum(decoders.cpu_s.values())
        yield [
            DecodedUtterance(
                index,
                mode,
                decoder.text(),
                lengths[index] / model.sample_rate,
                shared_s + decoders.seconds[mode],
                decoders.cpu_s[mode],
            )
            for mode, decoder in decoders.by_mode.items()
        ]
        cost.encoder_cpu_s = max(0.0, time.process_time() - started_cpu_s - other_cpu_s)


class _ModeDecoder(Protocol):
    """Decodes the log-probs of one utterance, chunk by chunk."""

    def accept(self, chunk: Chunk, log_probs_TV: LogProbs, lookahead_TV: LogProbs, /) -> None: ...

    def text(self) -> str: ...


class _ModeDecoders:
    """The decoders of all modes for one utterance, and the time that each takes."""

    def __init__(self, by_mode: dict[Mode, _ModeDecoder]) -> None:
        self.by_mode = by_mode
        self.seconds = dict.fromkeys(by_mode, 0.0)
        self.cpu_s = dict.fromkeys(by_mode, 0.0)

    def accept(self, chunk: Chunk, log_probs_TV: LogProbs, lookahead_TV: LogProbs) -> None:
        for mode, decoder in self.by_mode.items():
            started, started_cpu = time.perf_counter(), time.process_time()
            decoder.accept(chunk, log_probs_TV, lookahead_TV)
            self.seconds[mode] += time.perf_counter() - started
            self.cpu_s[mode] += time.process_time() - started_cpu


class _SessionDecoder:
    """Decodes one utterance as a session does and keeps its finals."""

    def __init__(self, captioner: Captioner) -> None:
        self._captioner = captioner
        self._texts: list[str] = []

    def accept(self, chunk: Chunk, log_probs_TV: LogProbs, lookahead_TV: LogProbs) -> None:
        sent = self._captioner.accept(chunk, log_probs_TV, lookahead_TV)
        self._texts.extend(m.text for m in sent if isinstance(m, messages.Final))

    def text(self) -> str:
        return join_words(self._texts)


class _GreedyDecoder:
    """Keeps the best token of every frame of one utterance."""

    def __init__(self, model: LoadedModel) -> None:
        self._tokens = model.decoder.beams.tokens
        self._ids: list[int] = []

    def accept(self, _chunk: Chunk, log_probs_TV: LogProbs, _lookahead_TV: LogProbs) -> None:
        if len(log_probs_TV):
            self._ids.extend(log_probs_TV.argmax(axis=1).tolist())

    def text(self) -> str:
        return greedy_text(self._ids, self._tokens)


class _ReferenceDecoder:
    """Collects the log-probs of one utterance and decodes them at its end."""

    def __init__(self, reference: PyctcdecodeReference) -> None:
        self._reference = reference
        self._pieces: list[LogProbs] = []
        self._text = ""

    def accept(self, chunk: Chunk, log_probs_TV: LogProbs, _lookahead_TV: LogProbs) -> None:
        if len(log_probs_TV):
            self._pieces.append(log_probs_TV)
        if isinstance(chunk.end, StopMark) and self._pieces:
            self._text = self._reference.text(np.concatenate(self._pieces))

    def text(self) -> str:
        return self._text


def _decoder_factory(model: LoadedModel, mode: Mode) -> Callable[[], _ModeDecoder]:
    if mode is Mode.GREEDY:
        return lambda: _GreedyDecoder(model)
    if mode is Mode.PYCTCDECODE:
        reference = PyctcdecodeReference(model.decoder.beams)
        return lambda: _ReferenceDecoder(reference)
    used = _without_lm(model) if mode is Mode.BEAM else model
    options = resolve_options(messages.Start(partials=False, words=False), used)
    return lambda: _SessionDecoder(Captioner(used, options))


def _without_lm(model: LoadedModel) -> LoadedModel:
    """The same model with a decoder that uses no language model."""
    beams = model.decoder.beams
    without_lm = BeamDecoder(beams.tokens, None, model.config.decoder, beams.hypothesis_builder)
    return replace(model, decoder=model.decoder.with_beam_decoder(without_lm).with_rescorer(None))


def _decode_whole(
    model: LoadedModel, audio: Iterator[Samples], make_decoders: Callable[[], _ModeDecoders]
) -> Iterator[tuple[int, _ModeDecoders, float]]:
    for index, samples_S in enumerate(audio):
        started = time.perf_counter()
        decoders = make_decoders()
        whole = Chunk(samples_S, len(samples_S), starts_stream=True, hotwords=None, end=StopMark())
        log_probs_TV = run_whole(model, samples_S, None).log_probs_TV
        decoders.accept(whole, log_probs_TV, log_probs_TV[:0])
        yield index, decoders, time.perf_counter() - started
