"""Run a punctuation model on a stream of words in NumPy, one word after the other.

Every word is computed by itself with the same operations, so the scores do not depend on how words are split into
steps, to the last bit. Shape suffixes: D size of an embedding, H size of a layer, L layers, W tokens of a window.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from streamasr.punctuation.base import END_MARKS, MARKS, Boundary, Punctuated
from streamasr.punctuation.features import number_words, word_features
from streamasr.punctuation.labels import Casing, apply_casing
from streamasr.punctuation.model_file import StoredModel, load_stored_model
from streamasr.punctuation.sizes import PAUSE_STEPS_MS
from streamasr.recurrent.arithmetic import RecurrentWeights, Vector, gelu, layer_norm, recurrent_step

CACHED_WORDS = 4_096
"""Most recent different words whose embeddings are kept."""
_END_MARKS = [index for index, mark in enumerate(MARKS) if mark in END_MARKS]


class _Token(NamedTuple):
    word: str | None
    """``None`` for a boundary token."""
    embedding_D: Vector
    ends: bool = False
    """Whether the utterance ends after it."""


class TaggerState(NamedTuple):
    """The state of a stream: the tokens that later windows need, and the carries [H] of the layers."""

    tokens: tuple[_Token, ...]
    carries: tuple[Vector, ...]


class Tagger:
    """Implements :class:`streamasr.punctuation.base.Punctuator` with a trained model. Immutable.

    Args:
        model: from :func:`streamasr.punctuation.model_file.load_stored_model`.
    """

    def __init__(self, model: StoredModel) -> None:
        self.language = model.language
        self._config = model.config
        self._mixed = model.mixed
        self._numbers = number_words(model.vocabulary)
        self._weights = {name: np.ascontiguousarray(value) for name, value in model.weights.items()}
        self._embed = functools.lru_cache(CACHED_WORDS)(self._compute_embedding)
        first = self._config.word_rows + self._config.ngram_rows
        self._boundary_tokens = {
            boundary: _Token(None, self._weights["table"][first + at]) for at, boundary in enumerate(Boundary)
        }
        self._layers = [
            RecurrentWeights.of(self._weights, f"layers.{layer}") for layer in range(self._config.layers)
        ]

    @classmethod
    def load(cls, path: Path) -> Tagger:
        """Load ``punctuation.safetensors``.

        Raises:
            ModelError: the file is missing or damaged; the message names it.
        """
        return cls(load_stored_model(path))

    @property
    def look_ahead(self) -> int:
        """Number of words after a word that are needed to decide about it."""
        return self._config.look_ahead

    def initial_state(self) -> TaggerState:
        """Return the state of a stream before its first word, as if an utterance had ended before it."""
        carries = tuple(np.zeros(self._config.hidden, np.float32) for _ in self._layers)
        return TaggerState((self._boundary_tokens[Boundary.END],) * self._config.left, carries)

    def step(
        self,
        state: TaggerState,
        words: Sequence[str],
        pauses_ms: Sequence[float] | None = None,
        boundary: Boundary | None = None,
    ) -> tuple[TaggerState, list[Punctuated]]:
        """Add words and return decisions; see :meth:`streamasr.punctuation.base.Punctuator.step`.

        Raises:
            ValueError: there are not as many pauses as words.
        """
        tokens = [*state.tokens, *self._tokens(words, pauses_ms)]
        if boundary is not None:
            if boundary is Boundary.END and tokens[-1].word is not None:
                tokens[-1] = tokens[-1]._replace(ends=True)
            tokens += [self._boundary_tokens[boundary]] * self._config.look_ahead
        left, carries, decisions = self._config.left, state.carries, []
        complete = max(0, len(tokens) - left - self._config.look_ahead)
        for at in range(complete):
            window = tokens[at : at + self._config.window]
            carries, marks, casings = self._scores(window, carries)
            token = window[left]
            if token.word is not None:
                decisions.append(self._decide(token.word, marks, casings, ends=token.ends))
        return TaggerState(tuple(tokens[complete:]), carries), decisions

    def _tokens(self, words: Sequence[str], pauses_ms: Sequence[float] | None) -> list[_Token]:
        if pauses_ms is None:
            return [_Token(word, self._embed(word)) for word in words]
        steps = (
            np.searchsorted(PAUSE_STEPS_MS, np.asarray(pauses_ms, dtype=np.float64).clip(min=0), "right") - 1
        )
        return [
            _Token(word, self._embed(word) + self._weights["pauses"][step])
            for word, step in zip(words, steps, strict=True)
        ]

    def _compute_embedding(self, word: str) -> Vector:
        rows = word_features(word, self._numbers, self._config.word_rows, self._config.ngram_rows)
        table = self._weights["table"]
        embedding: Vector = table[rows[0]] + table[rows[1:]].sum(axis=0) / max(1, len(rows) - 1)
        return embedding

    def _scores(
        self, window: Sequence[_Token], carries: tuple[Vector, ...]
    ) -> tuple[tuple[Vector, ...], Vector, Vector]:
        """Return the new carries, and the scores of the marks and of the casings of the window's own word."""
        weights = self._weights
        stacked = np.concatenate([token.embedding_D for token in window])
        h = gelu(weights["window.weight"] @ stacked + weights["window.bias"])
        new_carries = []
        for layer, carry in zip(self._layers, carries, strict=True):
            h, new_carry = recurrent_step(layer, h, carry)
            new_carries.append(new_carry)
        h = layer_norm(h, weights["norm.weight"], weights["norm.bias"])
        own = window[self._config.left].embedding_D
        marks = weights["marks.weight"] @ h + weights["marks.bias"]
        casings = weights["casings.weight"] @ np.concatenate((h, own)) + weights["casings.bias"]
        return tuple(new_carries), marks, casings

    def _decide(self, word: str, marks: Vector, casings: Vector, *, ends: bool) -> Punctuated:
        mark = max(_END_MARKS, key=lambda index: marks[index]) if ends else int(marks.argmax())
        return Punctuated(apply_casing(word, Casing(int(casings.argmax())), self._mixed), MARKS[mark])
