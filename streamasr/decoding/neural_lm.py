"""Score texts with a neural language model of words, in NumPy.

The network reads word after word: the embeddings of the last two words, a linear layer, recurrent layers, and a
linear layer back to the size of an embedding. Its product with the embedding table gives the scores of the next word
(tied embeddings, Press and Wolf 2017). ``streamasr lm train`` trains it.

Shape suffixes: N nodes or texts, D size of an embedding, H size of a layer, V words.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamasr.errors import ConfigError, ModelError
from streamasr.recurrent.arithmetic import RecurrentWeights, Vector, gelu, layer_norm, recurrent_step
from streamasr.recurrent.weights_file import Weights, check_shapes, load_weights, save_weights
from streamasr.toml import from_mapping

NEURAL_LM_FILE = "neural_lm.safetensors"
FORMAT = "streamasr neural language model 1"
"""Identifies the layout of the file, in its metadata as ``format``."""
UNKNOWN, END = 0, 1
"""Rows of the table: any word without a row, and the end of a sentence."""
FIRST_WORD = 2
"""Row of the first word of the vocabulary."""
NODES_AT_ONCE = 64
"""Scores of all words are computed for so many nodes at a time, which bounds the memory."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class NeuralLmConfig:
    """Sizes of the network."""

    words: int = 20_000
    """Rows of the table: the most frequent words of the text, and two rows that are no words."""
    dim: int = 256
    hidden: int = 384
    layers: int = 2
    unknown_words: int = 1
    """Different words of the text without a row of their own; each is as probable as the others."""

    def __post_init__(self) -> None:
        for name in ("dim", "hidden", "layers", "unknown_words"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be positive, got {getattr(self, name)}")
        if self.words <= FIRST_WORD:
            raise ConfigError(f"words must be more than {FIRST_WORD}, got {self.words}")


class StoredNeuralLm(NamedTuple):
    """The content of a file."""

    config: NeuralLmConfig
    vocabulary: tuple[str, ...]
    """The words that have a row of their own, from row :data:`FIRST_WORD` on."""
    weights: Weights
    """By the parameter names of :class:`streamasr.lm.neural_network.NeuralLmNetwork`, in float32."""


def save_neural_lm(path: Path, model: StoredNeuralLm) -> None:
    """Write a model, whole or not at all. Its matrices are rounded to 8 bits.

    Raises:
        ConfigError: the file cannot be written.
    """
    metadata = {
        "format": FORMAT,
        "config": json.dumps(dataclasses.asdict(model.config)),
        "vocabulary": " ".join(model.vocabulary),
    }
    matrices = [name for name, value in model.weights.items() if value.ndim == 2]
    save_weights(path, model.weights, metadata, int8=matrices)


def load_stored_neural_lm(path: Path) -> StoredNeuralLm:
    """Read a model.

    Raises:
        ModelError: the file is damaged or of another kind; the message names it.
    """
    metadata, weights = load_weights(path, kind="neural language model", formats=(FORMAT,))
    try:
        config = from_mapping(NeuralLmConfig, json.loads(metadata["config"]))
        vocabulary = tuple(metadata["vocabulary"].split())
    except (KeyError, ValueError, ConfigError) as error:
        raise ModelError(f"{path}: its metadata is damaged: {error}") from None
    if FIRST_WORD + len(vocabulary) != config.words:
        raise ModelError(
            f"{path}: it has {len(vocabulary)} words; its {config.words} rows are for {config.words - FIRST_WORD}"
        )
    check_shapes(path, weights, _shapes(config))
    return StoredNeuralLm(config, vocabulary, weights)


def _shapes(config: NeuralLmConfig) -> dict[str, tuple[int, ...]]:
    hidden, dim = config.hidden, config.dim
    shapes: dict[str, tuple[int, ...]] = {
        "table": (config.words, dim),
        "table_bias": (config.words,),
        "input.weight": (hidden, 2 * dim),
        "input.bias": (hidden,),
        "norm.weight": (hidden,),
        "norm.bias": (hidden,),
        "output.weight": (dim, hidden),
        "output.bias": (dim,),
    }
    return shapes | RecurrentWeights.shapes(config.layers, hidden)


class TextState(NamedTuple):
    """The state of a text: rows of its last two words, the newest last, and the carries [H] of the layers."""

    rows: tuple[int, int]
    carries: tuple[Vector, ...]


class NeuralLanguageModel:
    """A neural language model. Immutable; serves all sessions from any thread.

    Args:
        model: from :func:`load_stored_neural_lm`.
    """

    def __init__(self, model: StoredNeuralLm) -> None:
        weights = model.weights
        self.config = model.config
        self._rows: Mapping[str, int] = {
            word: row for row, word in enumerate(model.vocabulary, start=FIRST_WORD)
        }
        self._unknown_log_share = -math.log(model.config.unknown_words)
        self._weights = weights
        self._layers = [
            RecurrentWeights.of(weights, f"layers.{layer}") for layer in range(model.config.layers)
        ]

    @classmethod
    def load(cls, path: Path) -> NeuralLanguageModel:
        """Load ``neural_lm.safetensors``.

        Raises:
            ModelError: the file is damaged or of another kind; the message names it.
        """
        return cls(load_stored_neural_lm(path))

    def knows(self, word: str) -> bool:
        """Whether the word has a row of its own."""
        return word in self._rows

    def initial_state(self) -> TextState:
        """Return the state at the beginning of a text, as if a sentence had ended before it."""
        carries = tuple(np.zeros(self.config.hidden, np.float32) for _ in self._layers)
        return TextState((END, END), carries)

    def advance(self, state: TextState, words: Sequence[str], *, end_of_sentence: bool = False) -> TextState:
        """Return the state after ``words`` and, if it ends with them, the sentence."""
        rows = self._rows_of(words, end_of_sentence)
        last, carries = state.rows, [carry[None] for carry in state.carries]
        for row in rows:
            # The carries are those before the newest word: it is read together with the word after it.
            _, carries = self._read(np.array([last]), carries)
            last = (last[1], row)
        return TextState(last, tuple(carry[0] for carry in carries))

    def log_probs(
        self,
        state: TextState,
        texts: Sequence[Sequence[str]],
        *,
        end_of_sentence: bool = False,
        frequent_words: int | None = None,
    ) -> NDArray[np.float64]:
        """Return the natural-log probability [N] of each text, and of its end if ``end_of_sentence``.

        Words that several texts begin with are computed once: the texts form a tree.

        Args:
            state: what comes before the texts.
            texts: their words.
            end_of_sentence: whether a sentence ends after each.
            frequent_words: only this many of the most frequent words, unknown words and ends share the probability,
                instead of all words. That takes less time, and makes every word somewhat more probable.
        """
        tree = _PrefixTree([self._rows_of(text, end_of_sentence) for text in texts])
        if len(tree.parents) == 1:
            return np.zeros(len(texts))
        nodes, hidden_NH = self._hidden(state, tree)
        normed_NH = layer_norm(hidden_NH, self._weights["norm.weight"], self._weights["norm.bias"])
        expected_ND = normed_NH @ self._weights["output.weight"].T + self._weights["output.bias"]
        rows = None if frequent_words is None else FIRST_WORD + frequent_words
        normalisers_N = self._normalisers(expected_ND, rows)
        place_of = {node: place for place, node in enumerate(nodes)}
        places = [place_of[parent] for parent in tree.parents[1:]]
        rows_C = np.array(tree.rows[1:])
        table, bias = self._weights["table"], self._weights["table_bias"]
        logits_C = (expected_ND[places] * table[rows_C]).sum(axis=1) + bias[rows_C]
        log_probs_C = (logits_C - normalisers_N[places]).astype(np.float64)
        log_probs_C[rows_C == UNKNOWN] += self._unknown_log_share
        scores = [0.0]
        for parent, log_prob in zip(tree.parents[1:], log_probs_C.tolist(), strict=True):
            scores.append(scores[parent] + log_prob)
        return np.array([scores[node] for node in tree.ends])

    def _normalisers(self, expected_ND: Vector, rows: int | None) -> Vector:
        """Return the log of the sum of the exponentials [N] of the first ``rows`` words' scores, or of all."""
        table, bias = self._weights["table"][:rows], self._weights["table_bias"][:rows]
        normalisers = []
        for start in range(0, len(expected_ND), NODES_AT_ONCE):
            logits_NV = expected_ND[start : start + NODES_AT_ONCE] @ table.T
            logits_NV += bias
            highest_N1 = logits_NV.max(axis=1, keepdims=True)
            logits_NV -= highest_N1
            normalisers.append(np.log(np.exp(logits_NV, out=logits_NV).sum(axis=1)) + highest_N1[:, 0])
        return np.concatenate(normalisers)

    def _rows_of(self, words: Sequence[str], end_of_sentence: bool) -> list[int]:
        rows = [self._rows.get(word, UNKNOWN) for word in words]
        return [*rows, END] if end_of_sentence else rows

    def _hidden(self, state: TextState, tree: _PrefixTree) -> tuple[list[int], Vector]:
        """Return the nodes with children, and the output of the layers [N, H] after reading each."""
        nodes: list[int] = []
        outputs: list[Vector] = []
        level, pairs = [0], [state.rows]
        carries = [carry[None] for carry in state.carries]
        while level:
            hidden_NH, carries = self._read(np.array(pairs), carries)
            nodes += level
            outputs.append(hidden_NH)
            following = [
                (place, child)
                for place, node in enumerate(level)
                for child in tree.children[node]
                if tree.children[child]
            ]
            origins = [place for place, _ in following]
            carries = [carry[origins] for carry in carries]
            pairs = [(pairs[place][1], tree.rows[child]) for place, child in following]
            level = [child for _, child in following]
        return nodes, np.concatenate(outputs)

    def _read(self, pairs_N2: NDArray[np.int64], carries: Sequence[Vector]) -> tuple[Vector, list[Vector]]:
        """Read the newest word of N texts; return the output of the layers [N, H], and the new carries."""
        table = self._weights["table"]
        both = np.concatenate((table[pairs_N2[:, 1]], table[pairs_N2[:, 0]]), axis=1)
        h = gelu(both @ self._weights["input.weight"].T + self._weights["input.bias"])
        new_carries = []
        for layer, carry in zip(self._layers, carries, strict=True):
            h, new_carry = recurrent_step(layer, h, carry)
            new_carries.append(new_carry)
        return h, new_carries


class _PrefixTree:
    """Texts as a tree: the path from node 0 to a node is what some texts begin with. A child follows its parent."""

    def __init__(self, texts: Sequence[Sequence[int]]) -> None:
        self.parents = [0]
        self.rows = [UNKNOWN]
        """The row of each node's word; of the root, none."""
        self.children: list[list[int]] = [[]]
        self.ends: list[int] = []
        """The node at which each text ends."""
        places: dict[tuple[int, int], int] = {}
        for text in texts:
            node = 0
            for row in text:
                child = places.get((node, row))
                if child is None:
                    child = places[node, row] = len(self.parents)
                    self.parents.append(node)
                    self.rows.append(row)
                    self.children.append([])
                    self.children[node].append(child)
                node = child
            self.ends.append(node)
