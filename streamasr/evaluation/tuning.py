"""Find the decoder weights with the fewest errors on a manifest, with the decoder that the daemon runs.

The encoder runs once; its log-probs are decoded again for every choice of weights: a coarse grid first, then a
compass search around its best point whose step halves whenever no neighbour is better (Kolda, Lewis and
Torczon 2003). Shape suffixes: T encoder frames, V tokens.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from streamasr.config import DecoderConfig
from streamasr.decoding.beam import BeamDecoder
from streamasr.decoding.hypothesis import Final
from streamasr.decoding.utterance import UtteranceDecoder
from streamasr.errors import ConfigError, DataError
from streamasr.evaluation.settings import write_settings
from streamasr.manifest import Utterance
from streamasr.media.reader import read_audio
from streamasr.recognition.batch import LogProbs
from streamasr.recognition.chunking import Chunk
from streamasr.recognition.model import LoadedModel
from streamasr.recognition.streaming import stream_many
from streamasr.scoring import Edits, character_edits, word_edits
from streamasr.text import join_words, text_rules

DIRECTIONS = ((1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1))


class Weights(NamedTuple):
    """The tuned weights, with the names of :class:`~streamasr.config.DecoderConfig`."""

    alpha: float
    beta: float
    blank_penalty: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TuningOptions:
    """The search space."""

    alphas: tuple[float, ...] = (0.2, 0.5, 0.8, 1.1)
    """Language-model weights of the grid."""
    betas: tuple[float, ...] = (0.0, 1.5, 3.0)
    """Word bonuses of the grid."""
    blank_penalties: tuple[float, ...] = (0.0, 1.0)
    """Blank penalties of the grid."""
    alpha_step: float = 0.15
    """First step of ``alpha`` in the search around the grid's best point."""
    beta_step: float = 0.75
    """First step of ``beta``."""
    blank_penalty_step: float = 0.5
    """First step of ``blank_penalty``."""
    halvings: int = 2
    """How often the steps halve before the search ends; 0 searches the grid only."""

    def __post_init__(self) -> None:
        if not self.alphas or not self.betas or not self.blank_penalties:
            raise ConfigError("the grid needs at least one alpha, one beta and one blank penalty")
        if min(self.alphas) < 0:
            raise ConfigError(f"alpha must not be negative, got {min(self.alphas)}")
        if min(self.alpha_step, self.beta_step, self.blank_penalty_step) <= 0 or self.halvings < 0:
            raise ConfigError("steps must be positive, and halvings not negative")


@dataclass(frozen=True, slots=True)
class Trial:
    """Weights, and the errors that decoding with them makes."""

    weights: Weights
    errors: Edits
    """In the language's unit: words, or characters where it is not spaced."""
    characters: Edits

    @property
    def cost(self) -> tuple[int, int]:
        """The value to minimise; character errors break ties."""
        return self.errors.errors, self.characters.errors


@dataclass(frozen=True, slots=True)
class Recording:
    """The log-probs of an utterance, and its transcript."""

    log_probs_TV: LogProbs
    reference: str
    """Normalised."""


class _Recorder:
    """Keeps the log-probs of one utterance."""

    def __init__(self) -> None:
        self.pieces: list[LogProbs] = []

    def accept(self, _chunk: Chunk, log_probs_TV: LogProbs, _lookahead_TV: LogProbs) -> None:
        if len(log_probs_TV):
            self.pieces.append(log_probs_TV)


def record(
    model: LoadedModel, utterances: Sequence[Utterance], *, chunk_ms: int, batch: int
) -> Iterator[Recording]:
    """Run the encoder over every utterance, in chunks of the size nearest below ``chunk_ms``.

    Yields utterances as they finish, not in order.

    Raises:
        DataError: an audio file is missing, unreadable or empty.
    """
    rules = text_rules(model.config.language)
    audio = (read_audio(utterance.audio, model.sample_rate) for utterance in utterances)
    frames = model.chunk_frames_for(chunk_ms)
    for stream in stream_many(model, audio, frames, _Recorder, slots=batch):
        utterance = utterances[stream.index]
        if not stream.sink.pieces:
            raise DataError(f"{utterance.audio}: contains no samples")
        yield Recording(np.concatenate(stream.sink.pieces), rules.normalise(utterance.text))


def decode_finals(decoder: UtteranceDecoder, recording: Recording) -> list[str]:
    """Decode a recording, and return the texts of its finals."""
    options = replace(decoder.default_options(), partials=False)
    state, events = decoder.step(decoder.initial_state(options), recording.log_probs_TV)
    _, last = decoder.flush(state)
    return [event.hypothesis.text for event in (*events, *last) if isinstance(event, Final)]


class Tuner:
    """Decodes recorded log-probs with different weights, each combination once.

    Args:
        model: the model; its decoder's other settings stay.
        recordings: from :func:`record`.
        trial_done: called with every new trial.
        beam_width: replaces the model's own.

    Raises:
        ConfigError: the model has no language model.
        DataError: there is no recording.
    """

    def __init__(
        self,
        model: LoadedModel,
        recordings: Iterable[Recording],
        trial_done: Callable[[Trial], None] = lambda _: None,
        *,
        beam_width: int | None = None,
    ) -> None:
        lm = model.decoder.beams.lm
        if lm is None:
            raise ConfigError(
                f"{model.config.name} has no language model to tune; build one with `streamasr lm build`"
            )
        self._lm = lm
        self._decoder = model.decoder
        self._config = self._decoder.beams.config
        if beam_width is not None:
            self._config = replace(self._config, beam_width=beam_width)
        self._recordings = list(recordings)
        if not self._recordings:
            raise DataError("nothing to tune on: the manifest contains no utterances")
        self._rules = text_rules(model.config.language)
        self._trial_done = trial_done
        self._trials: dict[Weights, Trial] = {}

    @property
    def trials(self) -> list[Trial]:
        """All trials so far, best first; ties in order of time."""
        return sorted(self._trials.values(), key=lambda trial: trial.cost)

    def search(self, options: TuningOptions) -> Trial:
        """Try the model's own weights, the grid, then the neighbours of the best; return the best trial."""
        self.attempt(weights_of(self._config))
        for weights in itertools.product(options.alphas, options.betas, options.blank_penalties):
            self.attempt(Weights(*weights))
        steps = options.alpha_step, options.beta_step, options.blank_penalty_step
        best, scale, halvings = self.trials[0], 1.0, options.halvings
        while halvings:
            around = [
                self.attempt(
                    _moved(best.weights, [way * scale * step for way, step in zip(ways, steps, strict=True)])
                )
                for ways in DIRECTIONS
            ]
            nearest = min(around, key=lambda trial: trial.cost)
            if nearest.cost < best.cost:
                best = nearest
            else:
                scale, halvings = scale / 2, halvings - 1
        return best

    def attempt(self, weights: Weights) -> Trial:
        """Decode with these weights, unless that was done before."""
        weights = Weights(*(round(weight, 4) for weight in weights))
        if weights not in self._trials:
            trial = self._decode(weights)
            self._trials[weights] = trial
            self._trial_done(trial)
        return self._trials[weights]

    def _decode(self, weights: Weights) -> Trial:
        config = replace(self._config, **weights._asdict())
        decoder = self._decoder_of(config)
        words, characters = Edits(), Edits()
        for recording in self._recordings:
            text = self._rules.normalise(join_words(decode_finals(decoder, recording)))
            words += word_edits(recording.reference, text)
            characters += character_edits(recording.reference, text)
        return Trial(weights, words if self._rules.unit == "word" else characters, characters)

    def _decoder_of(self, config: DecoderConfig) -> UtteranceDecoder:
        beams = self._decoder.beams
        return self._decoder.with_beam_decoder(
            BeamDecoder(beams.tokens, self._lm.with_weights(config), config, beams.hypothesis_builder)
        )


def weights_of(config: DecoderConfig) -> Weights:
    """The weights in a decoder's configuration."""
    return Weights(config.alpha, config.beta, config.blank_penalty)


def _moved(weights: Weights, by: Sequence[float]) -> Weights:
    alpha, beta, blank_penalty = (weight + step for weight, step in zip(weights, by, strict=True))
    return Weights(max(0.0, alpha), beta, max(0.0, blank_penalty))


def write_weights(path: Path, weights: Weights) -> None:
    """Set the weights under ``[decoder]`` in a model folder's ``config.toml``; leave the rest unchanged.

    Raises:
        ConfigError: the file is not a model's configuration.
    """
    write_settings(path, "decoder", weights._asdict())
