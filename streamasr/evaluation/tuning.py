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


class Weights(NamedTuple):
    """The tuned weights: three of :class:`~streamasr.config.DecoderConfig`, and the neural language model's."""

    alpha: float
    beta: float
    blank_penalty: float = 0.0
    rescoring: float | None = None
    """``RescoringConfig.weight``; ``None`` without a neural language model."""


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
    rescoring_step: float = 0.1
    """First step of the neural language model's weight."""
    halvings: int = 2
    """How often the steps halve before the search ends; 0 searches the grid only."""

    def __post_init__(self) -> None:
        if not self.alphas or not self.betas or not self.blank_penalties:
            raise ConfigError("the grid needs at least one alpha, one beta and one blank penalty")
        if min(self.alphas) < 0:
            raise ConfigError(f"alpha must not be negative, got {min(self.alphas)}")
        if min(self.first_steps) <= 0 or self.halvings < 0:
            raise ConfigError("steps must be positive, and halvings not negative")

    @property
    def first_steps(self) -> tuple[float, ...]:
        """The first step of each weight."""
        return self.alpha_step, self.beta_step, self.blank_penalty_step, self.rescoring_step


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
        rescorer = self._decoder.rescorer
        self.current = Weights(
            self._config.alpha,
            self._config.beta,
            self._config.blank_penalty,
            None if rescorer is None else rescorer.config.weight,
        )
        """The model's own weights."""
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
        self.attempt(self.current)
        for weights in itertools.product(options.alphas, options.betas, options.blank_penalties):
            self.attempt(Weights(*weights, self.current.rescoring))
        steps = options.first_steps[: 3 if self.current.rescoring is None else 4]
        best, scale, halvings = self.trials[0], 1.0, options.halvings
        while halvings:
            around = [
                self.attempt(_moved(best.weights, at, way * scale * step))
                for at, step in enumerate(steps)
                for way in (1, -1)
            ]
            nearest = min(around, key=lambda trial: trial.cost)
            if nearest.cost < best.cost:
                best = nearest
            else:
                scale, halvings = scale / 2, halvings - 1
        return best

    def attempt(self, weights: Weights) -> Trial:
        """Decode with these weights, unless that was done before."""
        weights = Weights._make(None if weight is None else round(weight, 4) for weight in weights)
        if weights not in self._trials:
            trial = self._decode(weights)
            self._trials[weights] = trial
            self._trial_done(trial)
        return self._trials[weights]

    def _decode(self, weights: Weights) -> Trial:
        decoder = self._decoder_of(weights)
        words, characters = Edits(), Edits()
        for recording in self._recordings:
            text = self._rules.normalise(join_words(decode_finals(decoder, recording)))
            words += word_edits(recording.reference, text)
            characters += character_edits(recording.reference, text)
        return Trial(weights, words if self._rules.unit == "word" else characters, characters)

    def _decoder_of(self, weights: Weights) -> UtteranceDecoder:
        beams, rescorer = self._decoder.beams, self._decoder.rescorer
        config = replace(
            self._config, alpha=weights.alpha, beta=weights.beta, blank_penalty=weights.blank_penalty
        )
        decoder = self._decoder.with_beam_decoder(
            BeamDecoder(beams.tokens, self._lm.with_weights(config), config, beams.hypothesis_builder)
        )
        if rescorer is None or weights.rescoring is None:
            return decoder
        rescoring = replace(rescorer.config, weight=weights.rescoring)
        return decoder.with_rescorer(replace(rescorer, config=rescoring))


def _moved(weights: Weights, at: int, by: float) -> Weights:
    """Move one weight; only ``beta`` may be negative."""
    name = Weights._fields[at]
    moved = getattr(weights, name) + by
    return weights._replace(**{name: moved if name == "beta" else max(0.0, moved)})


def write_weights(path: Path, weights: Weights) -> None:
    """Set the weights in a model folder's ``config.toml``; leave the rest unchanged.

    Raises:
        ConfigError: the file is not a model's configuration.
    """
    decoder = {"alpha": weights.alpha, "beta": weights.beta, "blank_penalty": weights.blank_penalty}
    write_settings(path, "decoder", decoder)
    if weights.rescoring is not None:
        write_settings(path, "rescoring", {"weight": weights.rescoring})
