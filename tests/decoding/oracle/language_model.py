"""The n-gram language model: what a word is worth after the words before it.

Binds KenLM's binary to pyctcdecode's ``LanguageModel``, which does the weighing. Knows no beams and no audio.
One model serves every session: queries change nothing but two caches, which are bounded. kenlm and
pyctcdecode are imported here only.
"""

from __future__ import annotations

import copy
import math
from functools import lru_cache
from pathlib import Path
from typing import Any

import kenlm
from pyctcdecode.language_model import LanguageModel as WeighedModel

from streamasr.config import DecoderConfig
from streamasr.errors import ModelError

LmState = Any
"""A ``kenlm.State``: the words that still matter. Hashable, equal when the same words are next as likely."""


class LanguageModel:
    """A KenLM model weighed by ``alpha``, ``beta`` and ``unk_score_offset`` (see :class:`DecoderConfig`).

    Scores are natural logs. ``order`` is the length of the longest n-gram.
    """

    def __init__(self, model: kenlm.Model, unigrams: list[str], config: DecoderConfig) -> None:
        self._model = model
        self._weigh(WeighedModel(model, unigrams), config)

    def reweighed(self, config: DecoderConfig) -> LanguageModel:
        """The same model and words under other weights; nothing is read or built again."""
        other = copy.copy(self)
        other._weigh(copy.copy(self._weighed), config)
        return other

    def _weigh(self, weighed: WeighedModel, config: DecoderConfig) -> None:
        weighed.alpha, weighed.beta = config.alpha, config.beta
        weighed.unk_score_offset = config.unk_score_offset
        self._weighed = weighed
        self._alpha = config.alpha
        self.order: int = weighed.order
        self.start_state: LmState = weighed.get_start_state()
        cached = lru_cache(maxsize=config.lm_cache_entries)
        self._score = cached(weighed.score)
        self._score_partial = cached(weighed.score_partial_token)

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

    def score(self, state: LmState, word: str) -> tuple[float, LmState]:
        """The worth of ``word`` after ``state``, and the state after it."""
        return self._score(state, word)

    def score_end(self, state: LmState) -> float:
        """The worth of the sentence ending after ``state``; no word, so no ``beta``."""
        return self._alpha * math.log(10.0) * float(self._model.BaseScore(state, "</s>", kenlm.State()))

    def score_partial(self, part: str) -> float:
        """0 while some known word begins with ``part``, a penalty growing with its length where none does."""
        return self._score_partial(part)

    @property
    def cached_entries(self) -> int:
        """Entries in both caches; never more than twice ``lm_cache_entries``."""
        return self._score.cache_info().currsize + self._score_partial.cache_info().currsize
