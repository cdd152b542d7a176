"""Score texts with a neural language model of words, in NumPy.

The network reads word after word: the embeddings of the last two words, a linear layer, recurrent layers, and a
linear layer back to the size of an embedding. Its product with the embedding table gives the scores of the next word
(tied embeddings, Press and Wolf 2017). ``streamasr lm train`` trains it.

Shape suffixes: N nodes or texts, D size of an embedding, H size of a layer, V words.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import operator
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
MAX_OUTPUTS = 256
"""A context with more outputs than this forgets those that were not used last."""


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


Rows = tuple[int, ...]
"""The rows of a text's words."""


class Output(NamedTuple):
    """What the network gives after a text."""

    expected_D: Vector
    """Its product with a word's row of the table is the word's score."""
    normaliser: float
    """The log of the sum of the exponentials of the words' scores."""
    carries: tuple[Vector, ...]
    """The carries [H] of the layers."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Context:
    """A state, and the outputs after it that are known, so that no word is read twice. Immutable."""

    state: TextState
    frequent_words: int | None = None
    """Only this many of the most frequent words, unknown words and ends share the probability, instead of all words.
    That takes less time, and makes every word somewhat more probable."""
    outputs: Mapping[Rows, Output] = dataclasses.field(default_factory=dict)
    """By the rows of the words after ``state``."""


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

    def advance_context(self, context: Context, words: Sequence[str]) -> Context:
        """Return the context after ``words``, with the outputs that are known after them."""
        rows = tuple(self._rows_of(words, end_of_sentence=False))
        if not rows:
            return context
        before = context.outputs.get(rows[:-1])
        if before is None:
            state = self.advance(context.state, words)
        else:
            older, newest = (context.state.rows + rows)[-2:]
            state = TextState((older, newest), before.carries)
        outputs = {
            text[len(rows) :]: output for text, output in context.outputs.items() if text[: len(rows)] == rows
        }
        return dataclasses.replace(context, state=state, outputs=outputs)

    def log_probs(
        self,
        state: TextState,
        texts: Sequence[Sequence[str]],
        *,
        end_of_sentence: bool = False,
        frequent_words: int | None = None,
    ) -> NDArray[np.float64]:
        """Return the natural-log probability [N] of each text, and of its end if ``end_of_sentence``.

        Args:
            state: what comes before the texts.
            texts: their words.
            end_of_sentence: whether a sentence ends after each.
            frequent_words: see :attr:`Context.frequent_words`.
        """
        work = [(Context(state, frequent_words), texts)]
        ((log_probs, _),) = self.read(work, end_of_sentence=end_of_sentence)
        return log_probs

    def read(
        self, work: Sequence[tuple[Context, Sequence[Sequence[str]]]], *, end_of_sentence: bool = False
    ) -> list[tuple[NDArray[np.float64], Context]]:
        """Do :meth:`log_probs` for the texts of several contexts at once, which takes less time.

        Words that several texts of a context begin with are computed once: the texts form a tree.

        Args:
            work: contexts that agree in ``frequent_words``, each with its texts.
            end_of_sentence: whether a sentence ends after each text.

        Returns:
            for each context the log-probs [N], and the context with the outputs that were computed for them.
        """
        contexts = [context for context, _ in work]
        trees = [_PrefixTree([self._rows_of(text, end_of_sentence) for text in texts]) for _, texts in work]
        outputs = self._outputs(contexts, trees)
        log_probs = iter(self._log_probs_of_nodes(trees, outputs))
        results = []
        for context, tree, known in zip(contexts, trees, outputs, strict=True):
            scores = [0.0]
            for parent in tree.parents[1:]:
                scores.append(scores[parent] + next(log_probs))
            if len(known) > MAX_OUTPUTS:
                known = {tree.texts[node]: known[tree.texts[node]] for node in tree.inner_nodes()}  # noqa: PLW2901
            results.append(
                (np.array([scores[node] for node in tree.ends]), dataclasses.replace(context, outputs=known))
            )
        return results

    def _log_probs_of_nodes(
        self, trees: Sequence[_PrefixTree], outputs: Sequence[Mapping[Rows, Output]]
    ) -> list[float]:
        """Return the log-prob of each node's word after its parent; of all trees in turn, without their roots."""
        parents = [
            known[tree.texts[parent]]
            for tree, known in zip(trees, outputs, strict=True)
            for parent in tree.parents[1:]
        ]
        if not parents:
            return []
        rows_C = np.array([row for tree in trees for row in tree.rows[1:]])
        expected_CD = np.stack([parent.expected_D for parent in parents])
        logits_C = (expected_CD * self._weights["table"][rows_C]).sum(axis=1)
        logits_C += self._weights["table_bias"][rows_C]
        log_probs_C = logits_C.astype(np.float64) - [parent.normaliser for parent in parents]
        log_probs_C[rows_C == UNKNOWN] += self._unknown_log_share
        result: list[float] = log_probs_C.tolist()
        return result

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

    def _outputs(self, contexts: Sequence[Context], trees: Sequence[_PrefixTree]) -> list[dict[Rows, Output]]:
        """Return the outputs that each context knows, and those after its tree's inner nodes.

        Words of one depth are read together.
        """
        outputs = [dict(context.outputs) for context in contexts]
        unread = [
            (len(text), at, text)
            for at, tree in enumerate(trees)
            for text in map(tree.texts.__getitem__, tree.inner_nodes())
            if text not in outputs[at]
        ]
        if not unread:
            return outputs
        carries: dict[tuple[int, Rows], tuple[Vector, ...]] = {}
        hidden: list[Vector] = []
        unread.sort(key=operator.itemgetter(0))
        for _, level in itertools.groupby(unread, key=operator.itemgetter(0)):
            places = [(at, text) for _, at, text in level]
            before = []
            for at, text in places:
                known = outputs[at].get(text[:-1]) if text else None
                if known is not None:
                    before.append(known.carries)
                else:
                    before.append(carries[at, text[:-1]] if text else contexts[at].state.carries)
            pairs = np.array([(contexts[at].state.rows + text)[-2:] for at, text in places])
            hidden_NH, after = self._read(pairs, [np.stack(layer) for layer in zip(*before, strict=True)])
            rows_of_layers = [[carry.copy() for carry in layer] for layer in after]
            carries |= zip(places, zip(*rows_of_layers, strict=True), strict=True)
            hidden.append(hidden_NH)
        normed_NH = layer_norm(
            np.concatenate(hidden), self._weights["norm.weight"], self._weights["norm.bias"]
        )
        expected_ND = normed_NH @ self._weights["output.weight"].T + self._weights["output.bias"]
        frequent_words = contexts[0].frequent_words
        rows = None if frequent_words is None else FIRST_WORD + frequent_words
        normalisers = self._normalisers(expected_ND, rows).tolist()
        for (_, at, text), expected_D, normaliser in zip(unread, expected_ND, normalisers, strict=True):
            outputs[at][text] = Output(expected_D.copy(), normaliser, carries[at, text])
        return outputs

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
        self.texts: list[Rows] = [()]
        """The rows on the path to each node."""
        self.ends: list[int] = []
        """The node at which each text ends."""
        places: dict[Rows, int] = {(): 0}
        for text in texts:
            node = 0
            for length, row in enumerate(text, start=1):
                path = tuple(text[:length])
                child = places.get(path)
                if child is None:
                    child = places[path] = len(self.parents)
                    self.parents.append(node)
                    self.rows.append(row)
                    self.texts.append(path)
                node = child
            self.ends.append(node)

    def inner_nodes(self) -> list[int]:
        """Return the nodes that have children, in order."""
        return sorted(set(self.parents[1:]))
