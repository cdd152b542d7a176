"""One pass of a model over audio, decoded in several ways at once: the encoder runs once, every mode hears it.

Streams run through the code that sessions of the daemon run. Knows audio and modes; no reference and no score.
Shape suffixes: S samples, T encoder frames, V tokens, M mel bands.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from streamasr.decoding.beam import BeamDecoder
from streamasr.decoding.greedy import greedy_text_of_ids
from streamasr.errors import ConfigError, DataError
from streamasr.frontend.files import read_audio
from streamasr.frontend.pcm import Samples
from streamasr.protocol import messages
from streamasr.recognition.batch import LogProbs
from streamasr.recognition.captions import Captioner
from streamasr.recognition.chunking import Chunk, StopMark
from streamasr.recognition.local import run_whole, stream_many
from streamasr.recognition.model import LoadedModel
from streamasr.recognition.options import resolve_options
from streamasr.text import join_words


class Mode(StrEnum):
    """How log-probs become text."""

    GREEDY = "greedy"
    """The best token of every frame: no beam, no language model, no endpoints."""
    BEAM = "beam"
    """Beam search that knows the model's tokens alone."""
    BEAM_LM = "beam+lm"
    """Beam search with the model's language model: what the daemon does."""


@dataclass(frozen=True, slots=True)
class Heard:
    """One utterance, as one mode decoded it."""

    index: int
    """Its place in the input."""
    mode: Mode
    text: str
    audio_s: float
    seconds: float
    """Its share of the encoder's time, and this mode's own."""
    cpu_s: float
    """CPU seconds of the decoding alone; the encoder's are the pass's."""


@dataclass(slots=True)
class PassCost:
    """CPU seconds, over all threads, that the encoder and the front end took in a pass; complete at its end."""

    encoder_cpu_s: float = 0.0


def default_modes(model: LoadedModel) -> tuple[Mode, ...]:
    """What the daemon does with this model."""
    return (Mode.BEAM if model.decoder.beams.lm is None else Mode.BEAM_LM,)


def hear(
    model: LoadedModel,
    paths: Sequence[Path],
    *,
    chunk_frames: int | None,
    modes: Sequence[Mode],
    batch: int,
    cost: PassCost,
) -> Iterator[list[Heard]]:
    """Recognise every file once for each mode; files come as they are finished, not in order.

    Args:
        model: what to run.
        paths: audio files of any rate.
        chunk_frames: encoder frames of a chunk; ``None`` lets every frame see its whole file.
        modes: at least one.
        batch: streams at a time.
        cost: takes the encoder's CPU time.

    Raises:
        DataError: an audio file is missing, unreadable or empty.
        ConfigError: a language model is asked for and there is none.
    """
    if Mode.BEAM_LM in modes and model.decoder.beams.lm is None:
        raise ConfigError(f"{model.config.name} has no language model (lm.bin); use greedy or beam")
    began, other_cpu_s = time.process_time(), 0.0
    lengths: dict[int, int] = {}

    def audio() -> Iterator[Samples]:
        nonlocal other_cpu_s
        for index, path in enumerate(paths):
            reading = time.process_time()
            samples_S = read_audio(path, model.sample_rate)
            other_cpu_s += time.process_time() - reading
            if not len(samples_S):
                raise DataError(f"{path}: holds no sample")
            lengths[index] = len(samples_S)
            yield samples_S

    ears = {mode: _ear_maker(model, mode) for mode in modes}

    def listener() -> _Ears:
        return _Ears({mode: make() for mode, make in ears.items()})

    if chunk_frames is None:
        passes = _offline(model, audio(), listener)
    else:
        streams = stream_many(model, audio(), chunk_frames, listener, slots=batch)
        passes = ((heard.index, heard.sink, heard.seconds) for heard in streams)
    for index, listening, seconds in passes:
        shared_s = seconds - sum(listening.seconds.values())
        other_cpu_s += sum(listening.cpu_s.values())
        yield [
            Heard(
                index,
                mode,
                ear.text(),
                lengths[index] / model.sample_rate,
                shared_s + listening.seconds[mode],
                listening.cpu_s[mode],
            )
            for mode, ear in listening.ears.items()
        ]
        cost.encoder_cpu_s = max(0.0, time.process_time() - began - other_cpu_s)


class _Ear(Protocol):
    """Hears the log-probs of one utterance, chunk by chunk."""

    def accept(self, chunk: Chunk, log_probs_TV: LogProbs, /) -> None: ...

    def text(self) -> str: ...


class _Ears:
    """Every mode's ear for one utterance, and what each costs."""

    def __init__(self, ears: dict[Mode, _Ear]) -> None:
        self.ears = ears
        self.seconds = dict.fromkeys(ears, 0.0)
        self.cpu_s = dict.fromkeys(ears, 0.0)

    def accept(self, chunk: Chunk, log_probs_TV: LogProbs) -> None:
        for mode, ear in self.ears.items():
            began, cpu = time.perf_counter(), time.process_time()
            ear.accept(chunk, log_probs_TV)
            self.seconds[mode] += time.perf_counter() - began
            self.cpu_s[mode] += time.process_time() - cpu


class _Finals:
    """Hears one utterance as a session does and keeps its finals."""

    def __init__(self, captioner: Captioner) -> None:
        self._captioner = captioner
        self._texts: list[str] = []

    def accept(self, chunk: Chunk, log_probs_TV: LogProbs) -> None:
        told = self._captioner.accept(chunk, log_probs_TV)
        self._texts.extend(m.text for m in told if isinstance(m, messages.Final))

    def text(self) -> str:
        return join_words(self._texts)


class _BestTokens:
    """Hears one utterance and keeps the best token of every frame."""

    def __init__(self, model: LoadedModel) -> None:
        self._tokens = model.decoder.beams.tokens
        self._ids: list[int] = []

    def accept(self, _chunk: Chunk, log_probs_TV: LogProbs) -> None:
        if len(log_probs_TV):
            self._ids.extend(log_probs_TV.argmax(axis=1).tolist())

    def text(self) -> str:
        return greedy_text_of_ids(self._ids, self._tokens)


class _EarMaker(Protocol):
    def __call__(self) -> _Ear: ...


def _ear_maker(model: LoadedModel, mode: Mode) -> _EarMaker:
    if mode is Mode.GREEDY:
        return lambda: _BestTokens(model)
    used = _without_lm(model) if mode is Mode.BEAM else model
    session = resolve_options(messages.Start(partials=False, words=False), used)
    return lambda: _Finals(Captioner(used, session))


def _without_lm(model: LoadedModel) -> LoadedModel:
    """The same model with a beam search that knows the tokens alone."""
    beams = model.decoder.beams
    deaf = BeamDecoder(beams.tokens, None, model.config.decoder, beams.hypothesis_builder)
    return replace(model, decoder=model.decoder.with_beam_decoder(deaf))


class _EarsMaker(Protocol):
    def __call__(self) -> _Ears: ...


def _offline(
    model: LoadedModel, audio: Iterator[Samples], listener: _EarsMaker
) -> Iterator[tuple[int, _Ears, float]]:
    for index, samples_S in enumerate(audio):
        began = time.perf_counter()
        listening = listener()
        whole = Chunk(samples_S, len(samples_S), starts_stream=True, hotwords=None, end=StopMark())
        listening.accept(whole, run_whole(model, samples_S, None).log_probs_TV)
        yield index, listening, time.perf_counter() - began
