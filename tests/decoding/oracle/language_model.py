"""Score words with KenLM through pyctcdecode's ``LanguageModel``, with bounded caches."""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path
from typing import Any

import kenlm
from pyctcdecode.language_model import LanguageModel as PyctcdecodeLm

from streamasr.config import DecoderConfig
from streamasr.errors import ModelError

LmState = Any
"""A ``kenlm.State``: the words on which the next score depends. Hashable, compared by value."""


class LanguageModel:
    """A KenLM model weighted by ``alpha``, ``beta`` and ``unk_score_offset`` (see :class:`DecoderConfig`).

    Scores are natural logs. ``order`` is the length of the longest n-gram.
    """

    def __init__(self, model: kenlm.Model, unigrams: list[str], config: DecoderConfig) -> None:
        self._model = model
        scorer = PyctcdecodeLm(model, unigrams, config.alpha, config.beta, config.unk_score_offset)
        self._alpha = config.alpha
        self.order: int = scorer.order
        self.start_state: LmState = scorer.get_start_state()
        cached = lru_cache(maxsize=config.lm_cache_entries)
        self._score = cached(scorer.score)
        self._score_partial = cached(scorer.score_partial_token)

    @classmethod
    def load(cls, model_path: Path, unigrams_path: Path, config: DecoderConfig) -> LanguageModel:
        """Read a KenLM file (binary, or ARPA, which is slow) and its words, one per line.

        Raises:
            ModelError: a file is missing, empty or of another format; the message names the file.
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

    def score(self, state: LmState, word: str) -> tuple[float, LmState]:
        """Return the score of ``word`` after ``state``, and the state after the word."""
        return self._score(state, word)

    def score_end(self, state: LmState) -> float:
        """Return the score of the end of the sentence after ``state``. It is no word, so ``beta`` is not added."""
        return self._alpha * math.log(10.0) * float(self._model.BaseScore(state, "</s>", kenlm.State()))

    def score_partial(self, part: str) -> float:
        """Return 0 if a word of the lexicon begins with ``part``, else a penalty that grows with its length."""
        return self._score_partial(part)

    @property
    def cached_entries(self) -> int:
        """Entries in both caches; never more than twice ``lm_cache_entries``."""
        return self._score.cache_info().currsize + self._score_partial.cache_info().currsize
