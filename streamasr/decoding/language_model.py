"""The n-gram language model: what a word is worth after the words before it.

Hands KenLM's model to the native core, which weighs as pyctcdecode's ``LanguageModel`` does, keeps the words in
a trie, and asks KenLM once for every new pair of state and word. Knows no beams and no audio. One model serves
every session: queries change nothing but caches, which are bounded. kenlm is imported here only.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from pathlib import Path

import kenlm

from streamasr.config import DecoderConfig
from streamasr.decoding import _native
from streamasr.errors import ModelError

LmState = _native.LmState
"""The words that still matter."""


def weights_of(config: DecoderConfig) -> _native.LmWeights:
    """What ``config`` says about weighing words."""
    return _native.LmWeights(config.alpha, config.beta, config.unk_score_offset)


class LanguageModel:
    """A KenLM model weighed by ``alpha``, ``beta`` and ``unk_score_offset`` (see :class:`DecoderConfig`).

    Scores are natural logs. ``order`` is the length of the longest n-gram.

    Args:
        model: KenLM's.
        unigrams: the words it knows; those that ``model`` does not know are left out.
        config: weights, and the size of the caches.
    """

    def __init__(self, model: kenlm.Model, unigrams: Iterable[str], config: DecoderConfig) -> None:
        start = kenlm.State()
        model.BeginSentenceWrite(start)
        self.native = _native.LanguageModel(
            base_score=model.BaseScore,
            new_state=kenlm.State,
            contains=model.__contains__,
            start=start,
            order=model.order,
            words=[word for word in unigrams if word in model],
            cache_entries=config.lm_cache_entries,
        )
        self._weights = weights_of(config)

    def reweighed(self, config: DecoderConfig) -> LanguageModel:
        """The same model, words and caches under other weights; nothing is read or built again."""
        other = copy.copy(self)
        other._weights = weights_of(config)
        return other

    @classmethod
    def load(cls, model_path: Path, unigrams_path: Path, config: DecoderConfig) -> LanguageModel:
        """Read a KenLM file (binary, or slowly ARPA) and its words, one a line.

        Raises:
            ModelError: a file is missing, empty or not what its name says; the message names the file.
        """
        for path in (model_path, unigrams_path):
            if not path.is_file():
                raise ModelError(
                    f"{path}: no such file; a language model needs {model_path.name} and its words"
                )
        try:
            unigrams = unigrams_path.read_text(encoding="utf-8").split()
        except UnicodeDecodeError as error:
            raise ModelError(f"{unigrams_path}: not UTF-8 ({error})") from None
        if not unigrams:
            raise ModelError(f"{unigrams_path}: empty; expected the language model's words, one a line")
        try:
            model = kenlm.Model(str(model_path))
        except (OSError, RuntimeError) as error:
            raise ModelError(f"{model_path}: not a KenLM model ({error})") from None
        return cls(model, unigrams, config)

    @property
    def order(self) -> int:
        """The length of the longest n-gram."""
        return self.native.order

    @property
    def start_state(self) -> LmState:
        """The beginning of a sentence."""
        return self.native.start

    def score(self, state: LmState, word: str) -> tuple[float, LmState]:
        """The worth of ``word`` after ``state``, and the state after it."""
        return self.native.score(self._weights, state, word)

    def score_end(self, state: LmState) -> float:
        """The worth of the sentence ending after ``state``; no word, so no ``beta``."""
        return self.native.score_end(self._weights, state)

    def score_partial(self, part: str) -> float:
        """0 while some known word begins with ``part``, a penalty growing with its length where none does."""
        return self.native.score_partial(self._weights, part)

    @property
    def cached_entries(self) -> int:
        """Scores of words and words that nobody knows; never more than twice ``lm_cache_entries``."""
        return self.native.cached_entries
