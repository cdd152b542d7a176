"""A model on a manifest: error rates and speed, by the code that the daemon runs.

Prints nothing. Shape suffixes: S samples, T encoder frames, V tokens.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from streamasr.decoding.beam import BeamDecoder
from streamasr.decoding.greedy import greedy_text_of_ids
from streamasr.decoding.hypothesis import Final
from streamasr.decoding.utterance import UtteranceDecoder
from streamasr.engine.batch import LogProbs
from streamasr.engine.captions import Captioner
from streamasr.engine.intake import Chunk
from streamasr.engine.local import listen_many
from streamasr.engine.model import LoadedModel
from streamasr.engine.options import resolve_options
from streamasr.errors import ConfigError, DataError
from streamasr.frontend.files import read_audio
from streamasr.frontend.pcm import Samples
from streamasr.manifest import Utterance
from streamasr.protocol import messages
from streamasr.scoring import Interval, bootstrap_ratio, character_edits, word_edits
from streamasr.text import normalise_english
from streamasr.units import ceil_div


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationOptions:
    """How to recognise."""

    chunk_ms: int = 640
    """Latency; the nearest chunk size that is not longer."""
    offline: bool = False
    """Let every frame see its whole utterance instead: no stream can, this is what streaming costs."""
    greedy: bool = False
    """Take the best token of every frame: no beam, no language model, no endpoints."""
    lm: bool = True
    """Use the model's language model, where it has one."""
    batch: int = 16
    """Utterances at a time."""

    def __post_init__(self) -> None:
        if self.chunk_ms <= 0 or self.batch <= 0:
            raise ConfigError(
                f"--chunk-ms and --batch must be positive, got {self.chunk_ms} and {self.batch}"
            )


@dataclass(frozen=True, slots=True)
class Recognised:
    """One utterance's answer."""

    index: int
    """Its place in the manifest."""
    text: str
    audio_s: float
    seconds: float
    """Computing time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was measured; every interval is over utterances."""

    model: str
    mode: str
    chunk_ms: int | None
    """``None`` for offline."""
    utterances: int
    audio_s: float
    wer: Interval
    cer: Interval
    rtf: Interval
    """Computing seconds for one second of audio."""


def recognise(
    model: LoadedModel, utterances: Sequence[Utterance], options: EvaluationOptions
) -> Iterator[Recognised]:
    """Recognise every utterance; they come as they are finished, not in order.

    Raises:
        DataError: an audio file is missing or unreadable.
    """
    lengths: dict[int, int] = {}

    def audio() -> Iterator[Samples]:
        for index, utterance in enumerate(utterances):
            samples_S = read_audio(utterance.audio, model.sample_rate)
            if not len(samples_S):
                raise DataError(f"{utterance.audio}: holds no sample")
            lengths[index] = len(samples_S)
            yield samples_S

    if not options.lm:
        model = without_lm(model)
    texts = _offline(model, audio(), options) if options.offline else _streamed(model, audio(), options)
    for index, text, seconds in texts:
        yield Recognised(index, text, lengths[index] / model.sample_rate, seconds)


def summarise(
    model: LoadedModel,
    utterances: Sequence[Utterance],
    recognised: Sequence[Recognised],
    options: EvaluationOptions,
) -> Report:
    """Score what :func:`recognise` gave; references and hypotheses are normalised alike first."""
    normalise = normalise_english if model.config.language == "en" else _single_spaced
    pairs = [(normalise(utterances[r.index].text), normalise(r.text)) for r in recognised]
    words = [word_edits(reference, hypothesis) for reference, hypothesis in pairs]
    characters = [character_edits(reference, hypothesis) for reference, hypothesis in pairs]
    audio_s = [r.audio_s for r in recognised]
    return Report(
        model=model.config.name,
        mode=_mode(model, options),
        chunk_ms=None if options.offline else model.chunk_ms(model.chunk_frames_for(options.chunk_ms)),
        utterances=len(recognised),
        audio_s=round(sum(audio_s), 3),
        wer=bootstrap_ratio([e.errors for e in words], [e.length for e in words]),
        cer=bootstrap_ratio([e.errors for e in characters], [e.length for e in characters]),
        rtf=bootstrap_ratio([r.seconds for r in recognised], audio_s),
    )


def without_lm(model: LoadedModel) -> LoadedModel:
    """The same model with a beam search that knows letters alone."""
    decoder = model.decoder
    beams = BeamDecoder(decoder.beams.tokens, None, model.config.decoder)
    return replace(
        model, decoder=UtteranceDecoder(beams, frame_ms=decoder.frame_ms, endpointing=decoder.endpointing)
    )


class _Finals:
    """Hears one utterance as a session does and keeps its finals."""

    def __init__(self, captioner: Captioner) -> None:
        self._captioner = captioner
        self._texts: list[str] = []

    def hear(self, chunk: Chunk, log_probs_TV: LogProbs) -> None:
        told = self._captioner.hear(chunk, log_probs_TV)
        self._texts.extend(m.text for m in told if isinstance(m, messages.Final))

    def text(self) -> str:
        return " ".join(self._texts)


class _BestTokens:
    """Hears one utterance and keeps the best token of every frame."""

    def __init__(self, model: LoadedModel) -> None:
        self._tokens = model.decoder.beams.tokens
        self._ids: list[int] = []

    def hear(self, chunk: Chunk, log_probs_TV: LogProbs) -> None:
        if len(chunk.samples_S):
            self._ids.extend(log_probs_TV.argmax(axis=1).tolist())

    def text(self) -> str:
        return greedy_text_of_ids(self._ids, self._tokens)


def _streamed(
    model: LoadedModel, audio: Iterator[Samples], options: EvaluationOptions
) -> Iterator[tuple[int, str, float]]:
    start = messages.Start(latency_ms=options.chunk_ms, partials=False, words=False)
    session = resolve_options(start, model)

    def listener() -> _Finals | _BestTokens:
        return _BestTokens(model) if options.greedy else _Finals(Captioner(model, session))

    for heard in listen_many(model, audio, session.chunk_frames, listener, slots=options.batch):
        yield heard.index, heard.listener.text(), heard.seconds


def _offline(
    model: LoadedModel, audio: Iterator[Samples], options: EvaluationOptions
) -> Iterator[tuple[int, str, float]]:
    for index, samples_S in enumerate(audio):
        began = time.perf_counter()
        log_probs_TV = _whole(model, samples_S)
        text = _greedy_text(model, log_probs_TV) if options.greedy else _beam_text(model, log_probs_TV)
        yield index, text, time.perf_counter() - began


@torch.inference_mode()
def _whole(model: LoadedModel, samples_S: Samples) -> LogProbs:
    frames = ceil_div(len(samples_S), model.frame_samples)
    padded_S = np.pad(samples_S, (0, frames * model.frame_samples - len(samples_S)))
    mel_BTM = model.frontend(torch.from_numpy(padded_S)[None].to(model.device))
    lengths_B = torch.tensor([frames * model.encoder.subsampling], device=model.device)
    log_probs_BTV, _ = model.encoder.forward(mel_BTM, lengths_B, None)
    log_probs_TV: LogProbs = log_probs_BTV[0].float().cpu().numpy()
    return log_probs_TV


def _greedy_text(model: LoadedModel, log_probs_TV: LogProbs) -> str:
    return greedy_text_of_ids(log_probs_TV.argmax(axis=1).tolist(), model.decoder.beams.tokens)


def _beam_text(model: LoadedModel, log_probs_TV: LogProbs) -> str:
    state = model.decoder.initial_state(replace(model.decoder.default_options(), partials=False))
    state, events = model.decoder.step(state, log_probs_TV)
    _, last = model.decoder.flush(state)
    return " ".join(event.hypothesis.text for event in (*events, *last) if isinstance(event, Final))


def _mode(model: LoadedModel, options: EvaluationOptions) -> str:
    search = "greedy" if options.greedy else "beam"
    if not options.greedy:
        search += " with LM" if options.lm and model.decoder.beams.lm is not None else " without LM"
    return ("offline, " if options.offline else "streaming, ") + search


def _single_spaced(text: str) -> str:
    return " ".join(text.split())


Progress = Callable[[Recognised], None]


def evaluate(
    model: LoadedModel,
    utterances: Sequence[Utterance],
    options: EvaluationOptions,
    progress: Progress = lambda _: None,
) -> tuple[Report, list[Recognised]]:
    """Recognise and score; the answers come back in the manifest's order.

    ``progress`` hears of every utterance as it is finished.

    Raises:
        DataError: an audio file is missing or unreadable.
    """
    done: list[Recognised] = []
    for answer in recognise(model, utterances, options):
        progress(answer)
        done.append(answer)
    done.sort(key=lambda answer: answer.index)
    return summarise(model, utterances, done, options), done
